"""This machine's CPU: its name, and the units that decide what an engine is compiled to."""

import os
import platform
from pathlib import Path


def cpu_name() -> str:
    """The processor's own name for itself."""
    return _cpuinfo("model name") or platform.processor() or "unknown CPU"


def cpu_features() -> tuple[str, ...]:
    """The vector and matrix units that decide what an engine is compiled to, in alphabetical order.

    Last, if the environment holds the library to fewer units than the CPU has, to which: `max_cpu_isa=avx2`.
    """
    wanted = ("asimd", "avx2", "avx512f", "avx512_bf16", "avx512_fp16", "avx512_vnni", "avx_vnni", "amx_")
    flags = (_cpuinfo("flags") or _cpuinfo("Features")).split()
    return (*sorted(flag for flag in flags if flag.startswith(wanted)), *_cap())


def max_isa() -> str:
    """The units that the environment holds oneDNN, and with it OpenVINO, to; empty where it does not.

    Source: oneDNN's developer guide, "CPU Dispatcher Control"; of both names the first that is set counts.
    """
    names = [name for name in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA") if name in os.environ]
    value = os.environ[names[0]].lower() if names else ""
    return value if value not in ("all", "default") else ""


def _cap() -> tuple[str, ...]:
    return (f"max_cpu_isa={cap}",) if (cap := max_isa()) else ()


def _cpuinfo(field: str) -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.partition("\t")[0].strip() == field), "")
