"""What the libraries tell of a layer, each in its own words, in ours."""

from typing import NamedTuple


class Layer(NamedTuple):
    """One layer of an engine as it is executed for a frame.

    `role` is what it is there for: "work"; "cast", "reorder" or "quantizer"; or "view", which only renames memory.
    """

    role: str
    bytes_moved: int
