"""Is there a wheel for aarch64 of all that the runtime needs? `python -m tests.aarch64_wheels` asks the package index.

It resolves the needs of the package and of the extras that a Jetson takes, and theirs in turn, for the Python and the
glibc of each JetPack, from wheels alone. Nothing is installed. Exit code 1 where one is missing.
"""

import json
import subprocess
import sys
import tempfile

from runtime.cli import DONE, FAILED, fail, show
from tests.helpers.project import project

EXTRAS = ("build", "video", "sign")
JETPACKS = {"JetPack 6": ("3.10", 35), "JetPack 7": ("3.12", 39)}  # Python, and the minor version of glibc 2
OLDEST_GLIBC = 17


def needs() -> list[str]:
    """The requirements, as pip takes them."""
    table = project()
    return [*table["dependencies"], *(need for name in EXTRAS for need in table["optional-dependencies"][name])]


def command(python: str, glibc: int, wanted: list[str], folder: str) -> list[str]:
    """What asks pip."""
    tags = [f"manylinux_2_{minor}_aarch64" for minor in range(glibc, OLDEST_GLIBC - 1, -1)]
    platforms = [word for tag in (*tags, "manylinux2014_aarch64") for word in ("--platform", tag)]
    start = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--dry-run"]
    return [*start, "--ignore-installed", "--only-binary=:all:", "--python-version", python, *platforms,
            "--target", folder, "--report", "-", *wanted]  # fmt: skip


def resolved(python: str, glibc: int, wanted: list[str]) -> list[str]:
    """Names and versions of the wheels that are there.

    Raises:
        RuntimeError: one is not; it says which.
    """
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(command(python, glibc, wanted, folder), capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise RuntimeError(lines[-1] if lines else f"pip ended with {done.returncode}")
    found = [each["metadata"] for each in json.loads(done.stdout)["install"]]
    return sorted(f"{each['name']} {each['version']}" for each in found)


def main() -> int:
    """The command line of this module."""
    code = DONE
    for name, (python, glibc) in JETPACKS.items():
        what = f"{name}, CPython {python}, glibc 2.{glibc}"
        try:
            show(f"{what}: {', '.join(resolved(python, glibc, needs()))}")
        except RuntimeError as error:
            fail(f"{what}: {error}")
            code = FAILED
    return code


if __name__ == "__main__":
    sys.exit(main())
