"""Does an engine compute on this machine what its graph says? Its logits beside those that its build kept.

`python -m runtime.prove ENGINE...`: exit code 0 where each does, 1 where one does not, or has nothing to be held to.
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from runtime.arguments import Parser
from runtime.backend import open_backend
from runtime.cli import DONE, FAILED, log, run, show
from runtime.errors import EngineError
from runtime.lookup import chosen_engine
from runtime.manifest import read_manifest
from runtime.media.frames import read_frame
from runtime.proof import compared, read_expected, refuse_wrong, told
from runtime.samples import STREET
from runtime.signature import add_require_signed
from runtime.spec import Proof


def prove(path: Path, require_signed: Path | None = None) -> Proof:
    """An engine on the bundled street frame, beside what the referee computed of it when the engine was built.

    Raises:
        EngineError: missing, damaged, of another machine, without the referee's logits, or wrong.
        LibraryError: its library is not installed.
    """
    manifest, expected = read_manifest(path), read_expected(path)
    with open_backend(path, require_signed=require_signed) as engine:
        proof = compared(engine, read_frame(STREET), expected, manifest.executed)
    refuse_wrong(proof, path, manifest)
    return proof


def main(argv: Sequence[str]) -> int:
    """The command line of this module."""
    parser = Parser(prog="python -m runtime.prove", description=__doc__)
    parser.add_argument("engines", type=Path, nargs="*", metavar="ENGINE", help="by default the newest of this machine")
    add_require_signed(parser)
    parser.add_argument("--json", action="store_true", help="results as JSON on stdout")
    arguments = parser.parse_args(argv)
    found, failed = {}, False
    for path in arguments.engines or [chosen_engine()]:
        try:
            found[str(path)] = prove(path, arguments.require_signed)
        except EngineError as error:
            log(f"error: {error}")
            failed = True
    if arguments.json:
        show(json.dumps({path: dataclasses.asdict(proof) for path, proof in found.items()}, indent=1))
    else:
        for path, proof in found.items():
            show(f"{path}: {told(proof)}")
    return FAILED if failed else DONE


if __name__ == "__main__":
    run(main)
