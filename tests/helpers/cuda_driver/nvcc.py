"""What `nvcc -cubin` is for the imitated driver: a .cu file made into a shared library of this machine, by the shim.

Its version changes with all that it is made of, so that what was compiled before is not taken from a cache.
"""

import hashlib
import platform
import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
MADE_OF = (Path(__file__), HERE / "image.cpp", *sorted(HERE.parent.glob("cuda_shim*")))
KERNEL = re.compile(r'extern "C"\s+__global__(?:\s+void|\s*__launch_bounds__\s*\([^)]*\))+\s*(?!__)(\w+)\s*\(')
# Float16 by the CPU's own conversions, which round alike: a function call for each takes three times as long.
HALVES = ("-mf16c",) if platform.machine() in ("x86_64", "AMD64") else ()
FLAGS = ("-std=c++17", "-O2", *HALVES, "-fPIC", "-shared", "-w")
# A GPU contracts products and sums unless it is told not to, and so does this.
CONTRACTED, PLAIN = ("-mfma", "-ffp-contract=fast"), ("-ffp-contract=off",)


def kernels(source: Path) -> list[str]:
    """Names of the kernels of a .cu file, macros resolved."""
    command = ["g++", "-E", "-P", "-x", "c++", str(source)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return sorted(set(KERNEL.findall(text)))


def compile_image(source: Path, out: Path, arithmetic: tuple[str, ...]) -> int:
    """The exit status of the compiler."""
    with tempfile.TemporaryDirectory() as folder:
        names = Path(folder) / "kernels.inc"
        names.write_text("".join(f"KERNEL({name})\n" for name in kernels(source)))
        defines = [f'-DSOURCE="{source.resolve()}"', f'-DKERNELS="{names}"']
        command = ["g++", *FLAGS, *arithmetic, *defines, str(HERE / "image.cpp"), "-o", str(out)]
        return subprocess.run(command, check=False).returncode


def version() -> str:
    """What `nvcc --version` prints."""
    return f"imitated nvcc {hashlib.sha256(b'|'.join(path.read_bytes() for path in MADE_OF)).hexdigest()}"


def main(argv: list[str]) -> int:
    """As the command does, but for its version, which the shell before this gives."""
    source = next(Path(word) for word in argv if word.endswith(".cu"))
    out = Path(argv[argv.index("-o") + 1])
    return compile_image(source, out, PLAIN if "-fmad=false" in argv else CONTRACTED)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
