"""The network as a torch program in a file, so that a benchmark can run what PyTorch's users run.

`python -m export.to_torch --model icnet` prints its path.
"""

import io
from collections.abc import Sequence
from pathlib import Path

from export.adopting.options import add_normalization, given_by
from export.checkpoints.own_names import add_checkpoint, classes_from_file
from export.checkpoints.sources import check_file, default_weights, export_key
from export.own_code import name_of
from export.own_normalization import said_by
from export.to_onnx import Request, check_request, loaded_network
from runtime.arguments import Parser
from runtime.artifacts import ARTIFACTS, is_sealed, locked, sources_sha256, write_sealed
from runtime.cli import DONE, log, run, show, size_from_text
from runtime.measure.rivals import SPEC_FILE
from runtime.spec import to_json

PROGRAMS = ARTIFACTS / "torch"
CODE = (Path(__file__), Path(__file__).with_name("constants.py"))  # what makes a program of a network


def export_program(request: Request, weights: Path | None = None, folder: Path = PROGRAMS) -> Path:
    """The saved program of a network in FP32; written only if there is none yet of the same key.

    Args:
        request: network and size; it is plain, as PyTorch has it.
        weights: a checkpoint; by default the one shipped, or random weights where none is.
        folder: where programs are kept.

    Returns:
        Its path: a torch.export archive with the ModelSpec beside the network.

    Raises:
        ModelError: an unknown network or a size it cannot take.
        WeightsError: the checkpoint is unreadable or does not fit.
    """
    weights = weights or default_weights(request.model)
    check_request(request, weights)
    form = {"form": "torch program", "form_code": sources_sha256(*CODE)}
    key = export_key({**request._asdict(), **form}, weights)
    path = folder / f"{name_of(request.model)}-{request.height}x{request.width}-{key}.pt2"
    with locked(path):
        if is_sealed(path):
            log(f"{path} is up to date")
        else:
            write_sealed(path, program_bytes(request, weights))
    return path


def program_bytes(request: Request, weights: Path | None) -> bytes:
    """The archive that `export_program` keeps."""
    import torch

    from export.constants import movable

    _, network, spec = loaded_network(request, weights)
    example = torch.zeros((1, 3, request.height, request.width))
    buffer = io.BytesIO()
    program = movable(torch.export.export(network, (example,)), example)
    torch.export.save(program, buffer, extra_files={SPEC_FILE: to_json(spec)})
    return buffer.getvalue()


def main(argv: Sequence[str]) -> int:
    """The command line of this module."""
    parser = Parser(prog="python -m export.to_torch", description=__doc__)
    parser.add_argument("--model", required=True, help="enet, icnet, or path/to/net.py:build")
    parser.add_argument("--size", type=size_from_text, default=(1024, 2048), help="HEIGHTxWIDTH in pixels (1024x2048)")
    parser.add_argument("--weights", type=Path, help="a checkpoint (by default the one shipped)")
    add_checkpoint(parser)
    add_normalization(parser)
    arguments = parser.parse_args(argv)
    if arguments.weights is not None:
        check_file(arguments.weights)
    height, width = arguments.size
    classes = classes_from_file(arguments.classes) if arguments.classes else ()
    of = {"classes": classes, "averaged": arguments.ema, "normalization": said_by(given_by(arguments))}
    show(export_program(Request(arguments.model, "fp32", height, width, plain=True, **of), arguments.weights))
    return DONE


if __name__ == "__main__":
    run(main)
