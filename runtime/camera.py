"""`from runtime.camera import Camera`: it is in `runtime.media.camera`."""

from runtime.media.camera import Camera

__all__ = ["Camera"]
