"""Two engines, or an engine and its ONNX graph, on given frames: how far apart are they?

`python -m engines.compare A B FRAME... [--json]`; A and B are .engine or .onnx files, B is what A is held to.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from engines.build import graph_precision, read_spec
from runtime import reference
from runtime.arguments import Parser
from runtime.artifacts import refuse_broken_seal
from runtime.backend import Backend, backend_module, open_backend
from runtime.cli import DONE, FAILED, log, number_from_text, progress, run, show
from runtime.commands import command
from runtime.errors import GraphError, ModelError
from runtime.media.frames import add_max_pixels, find_frames, read_frame
from runtime.spec import EngineManifest, ModelSpec


class Difference(NamedTuple):
    """One frame through both."""

    frame: str
    logits_error: float  # largest difference of logits, as a share of B's range
    logits_mean_error: float  # mean difference, likewise
    mask_agreement: float  # share of pixels of the same class
    class_agreement: dict[str, float]  # intersection over union of each class that A or B sees


def open_either(path: Path) -> Backend:
    """An engine, or an ONNX graph in onnxruntime.

    Raises:
        GraphError: a graph that is missing or not ours.
        EngineError: see `runtime.backend.open_backend`.
    """
    if path.suffix != ".onnx":
        return open_backend(path)
    if not path.is_file():
        raise GraphError(f"graph {path} does not exist; export one: {command('onnx', model='icnet')}")
    refuse_broken_seal(path)
    onnx = path.read_bytes()
    module = backend_module("onnxruntime")
    target = module.this_target("onnxruntime")
    return module.open_engine(
        onnx, EngineManifest(read_spec(onnx), graph_precision(onnx), {}, "onnxruntime", target, "", "", "")
    )


def refuse_incomparable(a: ModelSpec, b: ModelSpec) -> None:
    """Refuse two networks whose masks or logits do not mean the same.

    Raises:
        ModelError: other classes, another size of input or logits, or more than one frame at once.
    """
    if a.classes != b.classes:
        raise ModelError(f"{a.name} and {b.name} have other classes: their masks cannot be compared")
    shapes = [(s.preprocess.height, s.preprocess.width, s.output_stride, s.batch) for s in (a, b)]
    if shapes[0] != shapes[1] or a.batch != 1:
        raise ModelError(
            "their logits cannot be compared: height, width, output stride and batch are "
            f"{shapes[0]} of {a.name} and {shapes[1]} of {b.name}; equal ones at batch 1 are needed"
        )


def compare(a: Backend, b: Backend, frame: np.ndarray, name: str = "") -> Difference:
    """Both on one frame, uint8 (H, W, 3) RGB."""
    logits = [reference.unblock(side.logits(frame), side.spec.block) for side in (a, b)]
    error = np.abs(logits[0] - logits[1]) / np.ptp(logits[1])
    masks = [side.segment(frame) for side in (a, b)]
    agreement: dict[str, float] = {}
    for i, label in enumerate(b.spec.classes):
        inside = [mask == i for mask in masks]
        union = np.count_nonzero(inside[0] | inside[1])
        if union:
            agreement[label.name] = float(np.count_nonzero(inside[0] & inside[1]) / union)
    return Difference(name, float(error.max()), float(error.mean()), float((masks[0] == masks[1]).mean()), agreement)


def summary(differences: Sequence[Difference]) -> dict[str, Any]:
    """The worst and the mean over frames, and every frame; JSON values."""
    return {
        "frames": len(differences),
        "logits_error": max(d.logits_error for d in differences),
        "logits_mean_error": float(np.mean([d.logits_mean_error for d in differences])),
        "mask_agreement": float(np.mean([d.mask_agreement for d in differences])),
        "mask_agreement_worst": min(d.mask_agreement for d in differences),
        "per_frame": [d._asdict() for d in differences],
    }


def main(argv: Sequence[str]) -> int:
    """The command line of this module; exit code 1 where the masks agree on fewer pixels than asked."""
    parser = Parser(prog="python -m engines.compare", description=__doc__)
    parser.add_argument("a", type=Path, help="an engine or an ONNX graph")
    parser.add_argument("b", type=Path, help="what it is held to")
    parser.add_argument("frames", nargs="+", help="images, globs or folders")
    parser.add_argument(
        "--least", type=number_from_text, default=0.0, help="share of pixels that must agree, on each frame (0)"
    )
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    add_max_pixels(parser)
    arguments = parser.parse_args(argv)
    with open_either(arguments.a) as a, open_either(arguments.b) as b:
        refuse_incomparable(a.spec, b.spec)
        frames = [Path(found) for found in find_frames(arguments.frames)]
        found = summary([compare(a, b, read_frame(path), str(path)) for path in progress(frames, "comparing")])
    show(json.dumps(found, indent=1) if arguments.json else as_text(found))
    if found["mask_agreement_worst"] >= arguments.least:
        return DONE
    log(f"error: masks agree on {found['mask_agreement_worst']:.4%} of a frame's pixels, not {arguments.least:.4%}")
    return FAILED


def as_text(found: dict[str, Any]) -> str:
    """What `summary` found, for people."""
    lines = [
        f"frames                {found['frames']}",
        f"logits, largest error {found['logits_error']:.2e} of the range (mean {found['logits_mean_error']:.2e})",
        f"masks agree on        {found['mask_agreement']:.4%} of pixels (worst {found['mask_agreement_worst']:.4%})",
    ]
    for name in dict.fromkeys(name for frame in found["per_frame"] for name in frame["class_agreement"]):
        shares = [frame["class_agreement"][name] for frame in found["per_frame"] if name in frame["class_agreement"]]
        lines.append(f"  {name:<19} {np.mean(shares):.4f} IoU over {len(shares)} frames")
    return "\n".join(lines)


if __name__ == "__main__":
    run(main)
