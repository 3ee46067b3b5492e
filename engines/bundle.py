"""What a machine needs to build and run an engine of its own, in one folder or .tar.gz: no checkout and no torch.

`python -m engines.bundle GRAPH.onnx --wheel FILE.whl --out DIR` prints the bundle's path; `make bundle` makes graph and
wheel too. `install.sh` in it does the rest on the other machine.
"""

import shutil
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from calib.table import SHIPPED, TABLES
from engines.build import graph_precision, read_spec
from runtime.arguments import Parser
from runtime.artifacts import refuse_broken_seal, sha256_of
from runtime.cli import DONE, run, show
from runtime.commands import command
from runtime.errors import GraphError, OutputError
from runtime.json_values import values_from_json
from runtime.signature import SUFFIX, check_key, signature_of
from runtime.spec import ModelSpec, Precision

FILES = Path(__file__).parent / "bundled"  # what every bundle holds as it is, but for the words below
SUMS, INSTALL, README = "SHA256SUMS", "install.sh", "README.md"
TAR = ".tar.gz"
CALIBRATION = "calibration"  # of a graph's metadata, as `calib.qdq` writes it


class Source(NamedTuple):
    """What a bundle is made of; `table` is for an INT8 graph alone, and found by its sha256 where it is not given."""

    graph: Path
    wheel: Path
    constraints: Path | None = None
    table: Path | None = None
    key: Path | None = None  # that signs the bundle


def make_bundle(source: Source, out: Path) -> Path:
    """Write the bundle; an earlier one of the same name is replaced, anything else there is refused.

    Args:
        source: its files.
        out: a folder, or a name that ends with .tar.gz.

    Raises:
        GraphError: the graph is missing, not ours, or its calibration table is nowhere.
        OutputError: there is something else at `out`, or a file of the source is missing.
    """
    for path in filter(None, (source.wheel, source.constraints)):
        if not path.is_file():
            raise OutputError(f"{path}: does not exist; make bundle makes the wheel, too")
    if not source.graph.is_file():
        raise GraphError(f"graph {source.graph} does not exist; export one: {command('onnx', model='icnet')}")
    if source.key:
        check_key(source.key)
    _check_replaceable(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as folder:
        made = Path(folder) / out.name.removesuffix(TAR)
        made.mkdir()
        _fill(made, source)
        _put(made, out)
    return out


def _check_replaceable(out: Path) -> None:
    ours = (out.is_file() and out.name.endswith(TAR)) or ((out / SUMS).is_file() and (out / INSTALL).is_file())
    if out.exists() and not ours and not (out.is_dir() and not any(out.iterdir())):
        raise OutputError(f"{out}: is there and is no bundle; name another one")


def _fill(folder: Path, source: Source) -> None:
    refuse_broken_seal(source.graph)
    onnx = source.graph.read_bytes()
    spec, precision = read_spec(onnx), graph_precision(onnx)
    table = source.table or (_table_of(onnx) if precision == "int8" else None)
    for path in filter(None, (source.graph, source.wheel, source.constraints, table)):
        shutil.copyfile(path, folder / path.name)
    words = _words(spec, precision, source)
    for name in (INSTALL, README):
        text = (FILES / name).read_text()
        for word, value in words.items():
            text = text.replace(word, value)
        (folder / name).write_text(text)
    (folder / INSTALL).chmod(0o755)
    sums = (f"{sha256_of(path)}  {path.name}\n" for path in sorted(folder.iterdir()))
    (folder / SUMS).write_text("".join(sums))
    if source.key:
        (folder / f"{SUMS}{SUFFIX}").write_bytes(signature_of((folder / SUMS).read_bytes(), source.key))


def _words(spec: ModelSpec, precision: Precision, source: Source) -> dict[str, str]:
    size = f"{spec.preprocess.height}x{spec.preprocess.width}"
    return {
        "@GRAPH@": source.graph.name,
        "@WHEEL@": source.wheel.name,
        "@CONSTRAINTS@": source.constraints.name if source.constraints else "",
        "@PRECISION@": precision,
        "@NETWORK@": f"{spec.name}, {precision}, {size}, {len(spec.classes)} classes",
    }


def _table_of(onnx: bytes) -> Path:
    # The one that the graph's scales are of: its sha256 is in the metadata.
    from calib.graphs import graph_from_bytes

    properties = {entry.key: entry.value for entry in graph_from_bytes(onnx).metadata_props}
    wanted = _table_sha256(properties.get(CALIBRATION, "{}"))
    for path in (*sorted(TABLES.glob("*.json")), *sorted(SHIPPED.glob("*.json"))):
        if sha256_of(path) == wanted:
            return path
    raise GraphError("the calibration table that the graph was made with is in none of its places; name it: --table")


def _table_sha256(text: str) -> object:
    try:
        calibration = values_from_json(text)
    except ValueError as error:
        raise GraphError(f"the graph's metadata do not tell its calibration table ({error})") from None
    return calibration.get("table_sha256") if isinstance(calibration, dict) else None


def _put(made: Path, out: Path) -> None:
    if out.name.endswith(TAR):
        packed = made.with_name(out.name)
        with tarfile.open(packed, "w:gz") as tar:
            tar.add(made, made.name)
        packed.replace(out)
        return
    if out.is_dir():
        shutil.rmtree(out)
    made.replace(out)


def main(argv: Sequence[str]) -> int:
    """The command line of this module."""
    parser = Parser(prog="python -m engines.bundle", description=__doc__)
    parser.add_argument("graph", type=Path, help="an ONNX file that export.to_onnx or calib.qdq wrote")
    parser.add_argument(
        "--wheel", type=Path, required=True, help="of this project: pip wheel --no-deps, or make bundle"
    )
    parser.add_argument("--constraints", type=Path, help="exact versions of the libraries (by default the newest fit)")
    parser.add_argument("--table", type=Path, help="of an INT8 graph (by default the one that it was made with)")
    parser.add_argument("--sign", type=Path, metavar="KEY", help="sign it with this private key (streetseg keys NAME)")
    parser.add_argument("--out", type=Path, required=True, help=f"a folder, or a file that ends with {TAR}")
    arguments = parser.parse_args(argv)
    source = Source(arguments.graph, arguments.wheel, arguments.constraints, arguments.table, arguments.sign)
    show(make_bundle(source, arguments.out))
    return DONE


if __name__ == "__main__":
    run(main)
