"""A command on an older CPU than this one: `python -m tests.as_cpu avx2 make bench MODEL=icnet PRECISION=int8`.

ONEDNN_MAX_CPU_ISA holds one library to fewer units. Here CPUID itself answers without them, and /proc/cpuinfo too: to
every library of the command and of all that it starts. Instructions stay as fast as they are: ratios within a run hold.
Linux on x86-64, where the kernel lets CPUID fault (/proc/cpuinfo: cpuid_fault), and a C compiler.
"""

import argparse
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from runtime import cli
from runtime.arguments import Parser
from runtime.errors import PipelineError

SOURCE = Path(__file__).parent / "helpers" / "as_cpu.c"
EBX, ECX, EDX = 1, 2, 3
# Leaf, subleaf, register, bit of each flag: Intel's Software Developer's Manual, volume 2, "CPUID".
BITS = {
    "avx512f": (7, 0, EBX, 16),
    "avx512dq": (7, 0, EBX, 17),
    "avx512ifma": (7, 0, EBX, 21),
    "avx512cd": (7, 0, EBX, 28),
    "avx512bw": (7, 0, EBX, 30),
    "avx512vl": (7, 0, EBX, 31),
    "avx512vbmi": (7, 0, ECX, 1),
    "avx512_vbmi2": (7, 0, ECX, 6),
    "avx512_vnni": (7, 0, ECX, 11),
    "avx512_bitalg": (7, 0, ECX, 12),
    "avx512_vpopcntdq": (7, 0, ECX, 14),
    "avx512_vp2intersect": (7, 0, EDX, 8),
    "amx_bf16": (7, 0, EDX, 22),
    "avx512_fp16": (7, 0, EDX, 23),
    "amx_tile": (7, 0, EDX, 24),
    "amx_int8": (7, 0, EDX, 25),
    "avx_vnni": (7, 1, 0, 4),
    "avx512_bf16": (7, 1, 0, 5),
    "amx_fp16": (7, 1, 0, 21),
    "avx_ifma": (7, 1, 0, 23),
    "avx_vnni_int8": (7, 1, EDX, 4),
    "avx_ne_convert": (7, 1, EDX, 5),
    "amx_complex": (7, 1, EDX, 8),
    "avx_vnni_int16": (7, 1, EDX, 10),
    "avx10": (7, 1, EDX, 19),
}
SKYLAKE = ("avx512f", "avx512dq", "avx512cd", "avx512bw", "avx512vl")
# oneDNN's names, and of which machines they are.
KINDS: Mapping[str, tuple[str, ...]] = {
    "avx2": (),  # Haswell to Comet Lake, Zen to Zen 3
    "avx2_vnni": ("avx_vnni",),  # Alder Lake and later laptops
    "avx512_core": SKYLAKE,  # Skylake-X
    "avx512_core_vnni": (*SKYLAKE, "avx512_vnni"),  # Cascade Lake
    "avx512_core_bf16": (*SKYLAKE, "avx512_vnni", "avx512_bf16"),  # Cooper Lake, Zen 4
}


def main(argv: Sequence[str]) -> int:
    """Run the command, and end as it ends."""
    parser = Parser(prog="python -m tests.as_cpu", description=__doc__)
    parser.add_argument("kind", choices=KINDS, help="of CPU, by oneDNN's names")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="and its arguments")
    asked = parser.parse_args(argv)
    if not asked.command:
        parser.error("no command is given")
    with TemporaryDirectory(prefix="as-cpu-") as folder:
        try:
            code = subprocess.run(asked.command, env=os.environ | environment(asked.kind, Path(folder))).returncode
        except FileNotFoundError:
            raise PipelineError(f"{asked.command[0]}: no such command") from None
    return code if code >= 0 else 128 - code  # as a shell says of a signal


def environment(kind: str, folder: Path) -> dict[str, str]:
    """What a command's environment needs to run as on a CPU of `kind`; its files go to `folder`.

    Raises PipelineError: this CPU has too little for it, CPUID does not fault here, or there is no compiler.
    """
    path = Path("/proc/cpuinfo")
    given = path.read_text().splitlines(keepends=True) if path.is_file() else []
    flags = next((line.partition(":")[2].split() for line in given if line.startswith("flags")), [])
    if "cpuid_fault" not in flags:
        raise PipelineError("CPUID cannot be made to fault here: /proc/cpuinfo has no flag cpuid_fault")
    if lacks := [flag for flag in ("avx2", *KINDS[kind]) if flag not in flags]:
        raise PipelineError(f"this CPU cannot pass for {kind}: it has no {' '.join(lacks)}")
    removed = [flag for flag in BITS if flag not in KINDS[kind]]
    info = folder / "cpuinfo"
    info.write_text("".join(_of_kind(line, kind, removed) for line in given))
    places = map(BITS.__getitem__, removed)
    off = [f"{leaf:x}:{subleaf:x}:{register:x}:{1 << bit:x}" for leaf, subleaf, register, bit in places]
    told = {"LD_PRELOAD": str(_compiled(folder)), "AS_CPU_OFF": " ".join(off), "AS_CPU_INFO": str(info)}
    # What torch.compile kept of this CPU's own kernels gives other values beside AVX2's packed weights.
    return told | {"TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor")}


def _of_kind(line: str, kind: str, removed: Sequence[str]) -> str:
    name, colon, value = line.rstrip("\n").partition(":")
    if name.startswith("model name"):
        value += f" as {kind}"
    elif name.startswith("flags"):
        value = " ".join(["", *(flag for flag in value.split() if flag not in removed)])
    return f"{name}{colon}{value}\n"


def _compiled(folder: Path) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise PipelineError("no C compiler (cc, gcc, clang) is on the PATH")
    out = folder / "as_cpu.so"
    flags = ("-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC")
    done = subprocess.run([compiler, *flags, "-o", out, SOURCE, "-ldl"], capture_output=True, text=True)
    if done.returncode:
        raise PipelineError(f"{SOURCE.name} does not compile: {done.stderr.strip()}")
    return out


if __name__ == "__main__":
    cli.run(main)
