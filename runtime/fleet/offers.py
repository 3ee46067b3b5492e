"""Which engine a machine works with: of those that are offered its own, or one that it builds of the graph; proven."""

import subprocess
import sys
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from runtime.artifacts import locked, sha256_of, write_atomically
from runtime.backend import backend_module
from runtime.cli import log
from runtime.errors import EngineError, GraphError, LibraryError
from runtime.manifest import manifest_path, read_manifest, target_differences
from runtime.proof import expected_path, told
from runtime.prove import prove
from runtime.signature import signature_path
from runtime.spec import EngineManifest
from runtime.texts import shown

# A program of its own: stages talk through files, and a machine that only runs engines does not have it.
BUILD = ("engines", "build")
MOST_OF_A_REASON = 300  # characters of what a build that failed says


class Offer(NamedTuple):
    """Engines for the kinds of machines there are, and what the others build theirs of.

    Args:
        engines: paths.
        graph: an ONNX file of ours; None: a machine without an engine of its own is refused.
        precision, backend: of what is built of it.
        require_signed: a public key.
    """

    engines: tuple[Path, ...]
    graph: Path | None = None
    precision: str = "fp16"
    backend: str = "auto"
    require_signed: Path | None = None


class Known(NamedTuple):
    """By which engines what was done is taken: their sha256, and that of the graph that others are built of."""

    engines: Collection[str]
    graph: str

    def takes(self, engine_sha256: str, graph_sha256: str) -> bool:
        """Whether a row is of one of them."""
        return engine_sha256 in self.engines or bool(self.graph and graph_sha256 == self.graph)


class Packed(NamedTuple):
    """An offer as bytes by name, for machines that share no disk."""

    offer: Offer
    files: dict[str, bytes]

    def unpacked(self, folder: Path) -> Offer:
        """The offer, with its files in a folder of this machine."""
        for name, data in self.files.items():
            write_atomically(folder / name, data)
        engines = tuple(folder / _name(number, path) for number, path in enumerate(self.offer.engines))
        graph, key = self.offer.graph, self.offer.require_signed
        moved = [folder / path.name if path else None for path in (graph, key)]
        return self.offer._replace(engines=engines, graph=moved[0], require_signed=moved[1])


def known(offer: Offer) -> Known:
    """What is known of an offer without opening anything.

    Raises:
        EngineError, GraphError: an engine or the graph cannot be read.
    """
    manifests = [read_manifest(path) for path in offer.engines]
    if offer.graph and not offer.graph.is_file():
        raise GraphError(f"the graph {shown(offer.graph)} does not exist")
    return Known({each.engine_sha256 for each in manifests}, sha256_of(offer.graph) if offer.graph else "")


def packed(offer: Offer) -> Packed:
    """The offer with the bytes of its files.

    Raises:
        EngineError, GraphError: as `known`.
        OSError: one of them cannot be read.
    """
    known(offer)
    files = {}
    for number, path in enumerate(offer.engines):
        for each in (path, *(beside(path) for beside in (manifest_path, expected_path, signature_path))):
            if each.is_file():
                files[_name(number, each)] = each.read_bytes()
    files |= {path.name: path.read_bytes() for path in (offer.graph, offer.require_signed) if path}
    return Packed(offer, files)


def engine_of_here(offer: Offer, folder: Path) -> tuple[Path, EngineManifest]:
    """This machine's engine, proven on the street frame beside what the referee computed of it.

    Args:
        offer: engines, and perhaps a graph.
        folder: where an engine is built that none of them is.

    Raises:
        EngineError: none fits and none can be built, or it does not compute here what its graph says.
        LibraryError: its library is not installed.
    """
    differs = [(path, _differences(path)) for path in offer.engines]
    fitting = [path for path, why in differs if not why]
    if not fitting and offer.graph is None:
        told_of = "; ".join(f"{path.name}: {why}" for path, why in differs) or "none is offered"
        raise EngineError(f"no engine for this machine ({told_of}). Offer one with --engine, or --graph to build it of")
    path = fitting[0] if fitting else _built(offer, folder)
    log(f"{path.name}: {told(prove(path, offer.require_signed if fitting else None))}")
    return path, read_manifest(path)


def _differences(path: Path) -> str:
    manifest = read_manifest(path)
    try:
        return "; ".join(target_differences(manifest, backend_module(manifest.backend).this_target(manifest.backend)))
    except LibraryError as error:
        return str(error)


def _built(offer: Offer, folder: Path) -> Path:
    command = [sys.executable, "-m", ".".join(BUILD), str(offer.graph), "--precision", offer.precision]
    command += ["--backend", offer.backend, "--folder", str(folder)]
    with locked(folder / "build"):
        done = subprocess.run(command, capture_output=True, text=True)
    lines = done.stderr.strip().splitlines()
    if done.returncode:
        why = (lines or ["it says nothing"])[-1].removeprefix("error: ")[:MOST_OF_A_REASON]
        raise EngineError(f"no engine could be built of {offer.graph and offer.graph.name} on this machine: {why}")
    return Path(done.stdout.strip().splitlines()[-1])


def _name(number: int, path: Path) -> str:
    return f"{number}/{path.name}"
