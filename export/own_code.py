"""A network of a user's own by how it is named, and the code that it is made of; known without importing any of it.

`path/to/net.py:build`, `package.module:build`, or an entry point of an installed package in the group `GROUP`.
"""

import ast
import hashlib
import importlib.util
import re
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from runtime.errors import ModelError
from runtime.texts import shown

GROUP = "street_segmentation.networks"
BUILD = "build"
SETTINGS = (".json", ".yaml", ".yml", ".toml")  # beside the code, which may read them
MOST_FILES, MOST_BYTES = 2000, 4 << 20


class Source(NamedTuple):
    """Where the function stands that builds a network of a user's own."""

    name: str  # of the network: files are named after it
    given: str  # as the user named it
    file: Path | None  # the file, or None for a module
    module: str  # of an installed package, or empty
    attribute: str


def own_source(model: str) -> Source | None:
    """What a name means, where it is that of a user's own network; None where it is nobody's.

    Raises:
        ModelError: it is a path, and no file is there.
    """
    path, found, attribute = model.rpartition(":") if ":" in model else (model, "", BUILD)
    if path.endswith(".py"):
        file = Path(path)
        if not file.is_file():
            raise ModelError(f"{shown(file)} does not exist; name the file of your network: path/to/net.py:build")
        return Source(_name(file.stem, attribute), model, file.resolve(), "", attribute)
    if found and re.fullmatch(r"[\w.]+", path):
        return Source(_name(path.rpartition(".")[2], attribute), model, None, path, attribute)
    if "/" in model:
        raise ModelError(f"unknown model {shown(model)!r}: a network of your own is path/to/net.py:build")
    for entry in metadata.entry_points(group=GROUP, name=model):
        return Source(_name(model, BUILD), model, None, entry.module, entry.attr or BUILD)
    return None


def name_of(model: str) -> str:
    """What files of a network are named after: its name, or that of a user's own."""
    source = own_source(model)
    return source.name if source else model


def code_of(model: str) -> str:
    """A sha256 of a user's own code: its file, what that imports outside of installed packages, and those' versions.

    Settings beside the code count too. Empty where the network is none of a user's own.

    Raises:
        ModelError: the code is not there, or cannot be read as Python.
    """
    source = own_source(model)
    if source is None:
        return ""
    first = source.file or _module_file(source.module)
    digest = hashlib.sha256(source.attribute.encode())
    seen: dict[Path, str] = {}
    versions = set(_follow(first, seen))
    for path in sorted(seen):
        digest.update(seen[path].encode() + hashlib.sha256(path.read_bytes()).digest())
    for path in sorted(_settings({path.parent for path in seen})):
        digest.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    digest.update("\n".join(sorted(versions)).encode())
    return digest.hexdigest()


def package_root(file: Path) -> Path:
    """The folder from which a file is imported: its own, or that above the packages that it is in."""
    folder = file.parent
    while (folder / "__init__.py").is_file():
        folder = folder.parent
    return folder


def is_beside(file: Path, folder: Path) -> bool:
    """Whether a file is a user's own in that folder, and not of a package that is installed below it."""
    return file.is_relative_to(folder) and not _is_installed(file)


def _name(stem: str, attribute: str) -> str:
    text = stem if attribute == BUILD else f"{stem}-{attribute}"
    return re.sub(r"[^A-Za-z0-9._+-]", "-", text).lstrip("._+-")[:100] or "own"


def _module_file(module: str) -> Path:
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError, AttributeError):
        spec = None
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        raise ModelError(f"there is no module {module}: is its package installed?")
    return Path(spec.origin)


def _follow(first: Path, seen: dict[Path, str]) -> Iterator[str]:
    # The files that are imported one from another, into `seen` with their names; the versions of packages besides.
    root, left = package_root(first), [first]
    roots = [root, *(Path(each) for each in sys.path if each and not _is_installed(Path(each)))]
    while left and len(seen) < MOST_FILES:
        path = left.pop()
        if path in seen:
            continue
        seen[path] = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name
        for name in _imports(path, root):
            files = _files(name, roots)
            left += files
            if not files and name.partition(".")[0] not in sys.stdlib_module_names:
                yield _version(name.partition(".")[0])


def _imports(path: Path, root: Path) -> Iterator[str]:
    try:
        tree = ast.parse(path.read_bytes(), str(path))
    except (SyntaxError, ValueError) as error:
        raise ModelError(f"{shown(path)} is not read as Python: {error}") from None
    package = path.relative_to(root).parent.parts if path.is_relative_to(root) else ()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}".strip(".") for alias in node.names)


def _files(name: str, roots: list[Path]) -> list[Path]:
    # A module's file and those of the packages around it; the last part may be a name within a module.
    for root in roots:
        parts, found = name.split("."), []
        for count in range(1, len(parts) + 1):
            at = root.joinpath(*parts[:count])
            found += [file for file in (at.with_name(f"{at.name}.py"), at / "__init__.py") if file.is_file()]
        if found:
            return [file.resolve() for file in found]
    return []


def _is_installed(folder: Path) -> bool:
    return bool({"site-packages", "dist-packages"} & set(folder.parts)) or folder.is_relative_to(Path(sys.base_prefix))


def _version(package: str) -> str:
    try:
        return f"{package} {metadata.version(package)}"
    except metadata.PackageNotFoundError:
        return package


def _settings(folders: set[Path]) -> list[Path]:
    return [
        path
        for folder in folders
        for path in folder.iterdir()
        if path.suffix in SETTINGS and path.is_file() and path.stat().st_size < MOST_BYTES
    ]
