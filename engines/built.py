"""What every builder returns."""

from typing import NamedTuple


class Built(NamedTuple):
    """An engine as it is written, and what it executes: the weighted layers (convolutions, matmuls) of each type.

    For example `{"fp16": 58}`; the types are those of `runtime.spec.Precision` and whatever else a backend runs.
    """

    engine: bytes
    executed: dict[str, int]
