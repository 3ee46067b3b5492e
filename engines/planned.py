"""What a library plans to run for a frame: the kernels of one engine, in the same words for every library."""

from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

from runtime.backends.layer import Layer

SHARED = ("kernels", "MB moved", "MB of weights")  # by the frames of a batch
PASSES = ("reorder", "cast", "quantizer")  # roles that compute nothing


class Map(NamedTuple):
    """A tensor between two kernels: dimensions as the library tells them, the type in our words."""

    name: str
    shape: tuple[int, ...]
    type: str
    nbytes: int


class Kernel(NamedTuple):
    """One launch: the library's word for its kind, what it is there for, its maps, and its weights in bytes.

    `role` is one of `runtime.backends.layer.Layer`, `ms` the time that it took where the library was run.
    """

    name: str
    kind: str
    role: str
    reads: tuple[Map, ...]
    writes: tuple[Map, ...]
    weights: int
    ms: float | None = None
    nodes: tuple[str, ...] = ()  # of the graph, that it computes; empty where the library does not tell

    @property
    def moved(self) -> int:
        """Bytes of maps: each one that it reads once, and all that it writes."""
        return sum({each.name: each.nbytes for each in self.reads}.values()) + sum(each.nbytes for each in self.writes)

    @property
    def layer(self) -> Layer:
        """As the gate counts it."""
        return Layer(self.role, self.moved + self.weights)


class Plan(NamedTuple):
    """The kernels of a graph in the order in which they run, by one library."""

    graph: str
    library: str  # with its version
    kernels: tuple[Kernel, ...]
    frames: int = 1  # at once


def figures(plan: Plan) -> dict[str, float]:
    """What adds up over a plan: kernels, passes, megabytes of maps by kind and by type written, ms where it was run."""
    kernels = plan.kernels
    by_kind = _sums((kernel.kind, kernel.moved) for kernel in kernels)
    by_type = _sums((each.type, each.nbytes) for kernel in kernels for each in kernel.writes)
    found = {"kernels": float(len(kernels)), "MB moved": _mb(kernel.moved for kernel in kernels)}
    found |= {f"{role}s": float(sum(kernel.role == role for kernel in kernels)) for role in PASSES}
    found |= {f"MB in passes ({role})": _mb(each.moved for each in kernels if each.role == role) for role in PASSES}
    found |= {f"MB by {kind}": _mb([nbytes]) for kind, nbytes in by_kind.most_common()}
    found |= {f"MB written in {kind}": _mb([nbytes]) for kind, nbytes in by_type.most_common()}
    found["MB of weights"] = _mb(kernel.weights for kernel in kernels)
    times = [kernel.ms for kernel in kernels if kernel.ms is not None]
    return found | ({"ms": round(sum(times), 2)} if times else {})


def a_frame(plan: Plan) -> dict[str, float]:
    """What of a plan falls to one of its frames: launches, and megabytes; a batch reads its weights once."""
    found = figures(plan)
    shares = {f"{name} a frame": round(found[name] / plan.frames, 1) for name in SHARED}
    return {"frames": float(plan.frames), **shares}


def as_json(plan: Plan) -> dict[str, Any]:
    """A plan as JSON's types: its figures, then every kernel."""
    kernels = [
        {
            "name": each.name, "kind": each.kind, "role": each.role, "moved": each.moved, "weights": each.weights,
            "reads": [put._asdict() for put in each.reads], "writes": [put._asdict() for put in each.writes],
            "ms": each.ms,
        }
        for each in plan.kernels
    ]  # fmt: skip
    told = {"figures": figures(plan), "a_frame": a_frame(plan)}
    return {"graph": plan.graph, "library": plan.library, **told, "kernels": kernels}


def _sums(pairs: Iterable[tuple[str, int]]) -> Counter[str]:
    sums: Counter[str] = Counter()
    for name, nbytes in pairs:
        sums[name] += nbytes
    return sums


def _mb(nbytes: Iterable[int]) -> float:
    return round(sum(nbytes) / 1e6, 1)
