"""A pair of keys: engines and bundles are signed with one (`--sign`) and held to the other (`--require-signed`).

`python -m engines.keys NAME` writes NAME.key, which stays where engines are built, and NAME.pub, which machines get.
"""

from collections.abc import Sequence
from pathlib import Path

from runtime.arguments import Parser
from runtime.cli import DONE, run, show
from runtime.signature import write_keys


def main(argv: Sequence[str]) -> int:
    """The command line of this module; prints both paths."""
    parser = Parser(prog="python -m engines.keys", description=__doc__)
    parser.add_argument("name", type=Path, help="of the pair, without an ending, such as fleet")
    for path in write_keys(parser.parse_args(argv).name):
        show(path)
    return DONE


if __name__ == "__main__":
    run(main)
