"""`from runtime.frames import read_frame`: it is in `runtime.media.frames`."""

from runtime.media.frames import read_frame

__all__ = ["read_frame"]
