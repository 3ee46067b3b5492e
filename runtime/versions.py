"""Versions of installed packages, by the names of their folders: `importlib.metadata` takes 15 ms to import."""

import os
import re
import sys
from contextlib import suppress

SUFFIX = ".dist-info"


def version_of(distribution: str) -> str | None:
    """The version of a package without importing it; None where it is not installed.

    Source: PyPA, recording installed packages: the folder is called `name-version.dist-info`.
    """
    begin = re.sub(r"[-_.]+", "_", distribution).lower() + "-"
    found = []
    for folder in dict.fromkeys(sys.path):
        with suppress(OSError):
            names = (name for name in os.listdir(folder or ".") if name.endswith(SUFFIX))  # noqa: PTH208 - names alone
            found += [name[len(begin) : -len(SUFFIX)] for name in names if name.lower().startswith(begin)]
    return found[0] if len(found) == 1 else _by_metadata(distribution)


def _by_metadata(distribution: str) -> str | None:
    # Of an egg, of a zip, or of several folders of which only one may be whole.
    from importlib import metadata

    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
