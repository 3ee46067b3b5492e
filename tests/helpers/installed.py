"""The project as a stranger has it: a wheel, installed into a virtual environment that does not see the checkout."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
HIDDEN = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")


class Installed(NamedTuple):
    """A virtual environment with the wheel in it."""

    folder: Path

    def program(self, name: str) -> Path:
        """One of its programs, `python` or a console command."""
        return self.folder / "bin" / name

    def run(self, *words: object, cwd: Path, expect: Sequence[int] = (0,)) -> subprocess.CompletedProcess[str]:
        """Run one of its programs and hold it to these exit codes; a traceback is never right."""
        command = [str(self.program(str(words[0]))), *map(str, words[1:])]
        done = subprocess.run(command, cwd=cwd, env=bare_environment(), capture_output=True, text=True, timeout=600)
        told = f"{command}\n{done.stdout}\n{done.stderr}"
        assert done.returncode in expect and "Traceback" not in done.stderr, told
        return done

    def python_m(self, *words: object, cwd: Path, expect: Sequence[int] = (0,)) -> subprocess.CompletedProcess[str]:
        """`python -m` in it."""
        return self.run("python", "-m", *words, cwd=cwd, expect=expect)


def bare_environment() -> dict[str, str]:
    """The environment without what points Python at other code."""
    return {name: value for name, value in os.environ.items() if name not in HIDDEN}


def built_wheel(folder: Path) -> Path:
    """The wheel of the working tree, made of a copy: what an earlier build left in build/ would go into it."""
    copy = folder / "source"
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file() and not name.startswith(("tests/", "figures/")):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy / name)
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, copy)
    (wheel,) = folder.glob("*.whl")
    return wheel


def pip(*words: object) -> None:
    """Run this environment's pip."""
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *map(str, words)]
    done = subprocess.run(command, cwd="/", env=bare_environment(), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def installed(wheel: Path, folder: Path) -> Installed:
    """A new virtual environment with the wheel and this environment's libraries, but not the checkout."""
    venv.create(folder, with_pip=False)
    made = Installed(folder)
    pip("--python", made.program("python"), "install", "--no-deps", "--no-index", wheel)
    # A .pth file inside a folder that a .pth file names is not read, so the editable checkout stays unseen.
    (_packages(folder) / "libraries.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    return made


def with_libraries(folder: Path, without: Iterable[str]) -> Installed:
    """A new virtual environment with pip and this environment's libraries as if installed there, but for some of them.

    Args:
        folder: where it is made.
        without: how the names of those begin that it is not to have; the project itself is never there.
    """
    venv.create(folder, with_pip=True)
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        name = path.name.lower().lstrip("_")
        ours = path.suffix == ".pth" or name.startswith(("editable", "street", *without))
        if not ours and not (_packages(folder) / path.name).exists():
            (_packages(folder) / path.name).symlink_to(path)
    return Installed(folder)


def _packages(folder: Path) -> Path:
    (packages,) = folder.glob("lib/python3*/site-packages")
    return packages
