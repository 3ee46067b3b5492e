"""What every builder returns, and how much of an INT8 graph must run in INT8."""

from typing import NamedTuple

from runtime.backends.layer import Layer

INT8_SHARE = 0.9  # of the layers that an INT8 graph quantizes; an engine may keep a few in more bits by its own choice


class Built(NamedTuple):
    """An engine as it is written, and what it executes: the weighted layers (convolutions, matmuls) of each type.

    For example `{"fp16": 58}`; the types are those of `runtime.spec.Precision` and whatever else a backend runs.
    `types_from` says by what they are known.
    `layers` is what the builder told of every layer, where the engine itself does not tell it everywhere.
    `halved`: its logits are still to be doubled, as `runtime.doubling` says.
    """

    engine: bytes
    executed: dict[str, int]
    types_from: str = "the engine"
    layers: tuple[Layer, ...] = ()
    halved: bool = False
