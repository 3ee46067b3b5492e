"""libcuda.so.1, imitated: compiled from the C++ files beside this one, and every other call refused by its name.

It has a name of its own, which pycuda is linked to: a process may have the real one beside it.
"""

import hashlib
import re
import subprocess
from pathlib import Path

from runtime.artifacts import locked
from tests.helpers.cuda_driver import headers

HERE = Path(__file__).parent
NAME = "libimitated-cuda.so.1"
SOURCES = [HERE / f"{name}.cpp" for name in ("state", "context", "memory", "stream", "graph", "module")]
IMITATED = re.compile(r"^EXPORTED CUresult (cu\w+)\(", re.MULTILINE)
FLAGS = ("-std=c++17", "-O1", "-fPIC", "-shared", "-fvisibility=hidden", "-Wall", "-Wextra", "-Werror", "-pthread")
# Without cuda.h, which would hold them to their parameters.
REFUSED = """extern "C" int imitated_refusal(const char* call);
#define REFUSED(CALL) extern "C" __attribute__((visibility("default"))) int CALL() { return imitated_refusal(#CALL); }
"""


def imitated() -> set[str]:
    """The calls that the files here define."""
    return {name for source in SOURCES for name in IMITATED.findall(source.read_text())}


def built(folder: Path, wanted: set[str]) -> Path:
    """The folder to put on LD_LIBRARY_PATH: the library, and under the driver's name a link to it.

    Args:
        folder: of what is built once.
        wanted: calls that pycuda links to.
    """
    texts = [path.read_text() for path in (Path(__file__), HERE / "state.h", *SOURCES)]
    digest = hashlib.sha256("\0".join([*texts, *sorted(wanted)]).encode()).hexdigest()[:16]
    made = folder / f"driver-{digest}"
    with locked(made):
        if not (made / NAME).is_file():
            _compile(made, wanted, headers.fetched(folder))
    return made


def _compile(made: Path, wanted: set[str], include: Path) -> None:
    made.mkdir(parents=True, exist_ok=True)
    rest, out = made / "rest.cpp", made / "new"
    rest.write_text(REFUSED + "".join(f"REFUSED({name})\n" for name in sorted(wanted - imitated())))
    command = ["g++", *FLAGS, f"-I{HERE}", f"-isystem{include}", f"-Wl,-soname,{NAME}"]
    command += [*map(str, SOURCES), str(rest), "-o", str(out), "-ldl"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the imitated driver does not compile: {done.stderr}")
    (made / "libcuda.so.1").symlink_to(NAME)
    out.rename(made / NAME)
