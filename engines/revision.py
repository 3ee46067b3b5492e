"""Is this tree slower than a revision of it? Builds the revision's engine with its own code, then asks runtime.regress.

`python -m engines.revision REVISION --model icnet [options of runtime.regress]`, the same exit codes; `make regress`.
"""

import argparse
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from runtime.arguments import Parser
from runtime.artifacts import ARTIFACTS
from runtime.cli import log, run, show
from runtime.errors import EngineError
from runtime.measure.gate import regress
from runtime.measure.gate.options import parsed
from runtime.measure.scratch import REPOSITORY, TREE, ended_as_interrupted, scratch
from runtime.measure.worker import OWN_GROUP

ROOT = Path(__file__).parents[1]
SIZE = "1024x2048"


class NoBase(Exception):
    """The revision is not there, or gives no engine of what is asked; the message says which."""


@contextmanager
def worktree(revision: str, root: Path) -> Iterator[Path]:
    """The files of a revision in a folder of their own, which is gone afterwards, also when this is interrupted.

    Its artifacts are this tree's, so that an engine both have in common is built once.

    Raises:
        NoBase: there is no such revision, or no git.
    """
    with scratch() as folder:
        tree = folder / TREE
        (folder / REPOSITORY).write_text(str(root.resolve()))  # first: who tidies up later must know whose it is
        _git(root, "worktree", "add", "--detach", "--quiet", str(tree), f"{revision}^{{commit}}", what=revision)
        (root / ARTIFACTS).mkdir(exist_ok=True)
        (tree / ARTIFACTS).symlink_to((root / ARTIFACTS).resolve())
        yield tree


def built_engine(tree: Path, variables: Sequence[str]) -> Path:
    """What `make engine` of that tree builds, with this one's packages.

    Args:
        tree: holds a Makefile.
        variables: of make, for example "MODEL=icnet".

    Raises:
        EngineError: make fails, or names no engine; with its last line.
    """
    # The other tree's package list is not installed: -o takes what is installed as up to date.
    venv = Path(sys.prefix)
    make = ["make", "--no-print-directory", "-C", str(tree), "-o", f"{venv}/.installed", "engine", f"VENV={venv}"]
    environment = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MFLAGS")}
    environment["MAKELEVEL"] = "1"  # as part of a make: some bases refuse a VENV of the command line
    with ended_as_interrupted():
        code, out, err = _output([*make, *variables], environment)
    for line in err.splitlines():
        log(f"  {line}")
    lines = out.splitlines()
    engine = tree / lines[-1] if lines else tree
    if code or not engine.is_file():
        raise EngineError(f"make engine {' '.join(variables)} fails: {(err or 'no output').splitlines()[-1]}")
    return engine


def _output(command: Sequence[str], environment: dict[str, str]) -> tuple[int, str, str]:
    # Code, stdout and stderr. In a group of its own, which ends with this process's interest in it: what make started
    # would go on and write into a tree that is gone.
    child = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **OWN_GROUP
    )
    try:
        out, err = child.communicate()
    except BaseException:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.communicate()
        raise
    return child.returncode, out, err


def main(argv: Sequence[str]) -> int:
    """Compare this tree with the revision that `argv` names.

    Raises:
        PipelineError: this tree's engine cannot be built or measured.
    """
    options, rest = _parser().parse_known_args(argv)
    parsed(["BASE", "CANDIDATE", *rest], regress.__doc__)  # a mistake is told now, not after two builds
    size = options.size or ("" if options.onnx else SIZE)
    variables = [*_network(options), f"PRECISION={options.precision}", f"BACKEND={options.backend}"]
    variables += [*[f"SIZE={size}"] * bool(size), *_of_network(options)]
    log("building this tree's engine")
    candidate = built_engine(ROOT, variables)
    try:
        with worktree(options.revision, ROOT) as tree:
            log(f"building that of {options.revision}")
            return regress.main([str(_base(tree, variables)), str(candidate), "--base-code", str(tree), *rest])
    except NoBase as reason:
        show(f"no baseline\n  {reason}")
        return regress.NO_BASELINE


def _whole(model: str) -> str:
    # A network's own file by its whole path, with the function behind it.
    file, code, function = model.partition(".py")
    return f"{Path(file + code).resolve()}{function}" if code and Path(file + code).is_file() else model


def _of_network(options: argparse.Namespace) -> Iterator[str]:
    # Files by their whole paths: the other tree's make runs in its own folder. A preset of --preprocess is no file.
    for name in ("weights", "classes", "preprocess"):
        given = getattr(options, name)
        if given is not None:
            yield f"{name.upper()}={Path(given).resolve() if Path(given).exists() else given}"
    if options.ema:
        yield "EMA=1"


def _network(options: argparse.Namespace) -> list[str]:
    # Make runs in either tree: what lies beside the user is named so that both find it.
    if not options.onnx:
        return [f"MODEL={_whole(options.model)}"]
    words = [str(Path(word).resolve()) if Path(word).is_file() else word for word in shlex.split(options.adopt_options)]
    return [f"ONNX={options.onnx.resolve()}", f"ADOPT_OPTIONS={shlex.join(words)}"]


def _base(tree: Path, variables: Sequence[str]) -> Path:
    try:
        return built_engine(tree, variables)
    except EngineError as error:
        raise NoBase(f"the base gives no engine: {error}") from None


def _git(root: Path, *arguments: str, what: str) -> None:
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True)
    except FileNotFoundError:
        raise NoBase("git is not installed") from None
    if done.returncode:
        raise NoBase(f"git cannot take {what}: {done.stderr.strip().splitlines()[-1]}")


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m engines.revision", description=__doc__, epilog="Other options are those of runtime.regress."
    )
    parser.add_argument("revision", help="of git, for example HEAD~1 or main")
    parser.add_argument("--model", default="icnet", help="default: %(default)s")
    parser.add_argument("--precision", default="fp16", help="default: %(default)s")
    parser.add_argument("--backend", default="auto", help="default: %(default)s")
    parser.add_argument("--size", help=f"of the network, HEIGHTxWIDTH ({SIZE}; a file's own)")
    parser.add_argument("--onnx", type=Path, metavar="FILE", help="anyone's ONNX file, in place of --model")
    parser.add_argument("--adopt-options", default="", metavar="TEXT", help="how it is taken, in one text")
    parser.add_argument("--weights", type=Path, help="a checkpoint (by default the one that each tree ships)")
    parser.add_argument("--classes", type=Path, metavar="JSON", help="names and colours of the checkpoint's classes")
    parser.add_argument("--ema", action="store_true", help="the average of the weights, of a checkpoint with both")
    parser.add_argument("--preprocess", metavar="FILE", help="of a network of one's own: a preset, or a JSON file")
    return parser


if __name__ == "__main__":
    run(main)
