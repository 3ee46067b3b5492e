"""examples/cpp over TensorRT: compiled against NVIDIA's headers where they are, and run over stand-ins for them."""

import hashlib
import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

from runtime import reference
from runtime.errors import LibraryError
from runtime.kernels.nvcc import nvcc
from runtime.manifest import manifest_path, manifest_text, this_system
from runtime.spec import EngineManifest, ModelSpec, Target
from tests.helpers.cpp_kernels import SOURCE
from tests.helpers.project import ROOT

STAND_IN = ROOT / "tests" / "helpers" / "tensorrt_stand_in"
VERSION = "10.7.0"  # of the stand-in
FLAGS = ("-std=c++17", "-O1", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas")
HALVES = ("-mf16c",) if platform.machine() in ("x86_64", "AMD64") else ()
TYPES = {"fp16": np.float16, "fp32": np.float32}


def headers() -> Path | None:
    """The folder over TensorRT's include/, if it is there, and CUDA's compiler too: the probe of the compile test."""
    given = [Path(os.environ["TENSORRT_ROOT"])] if os.environ.get("TENSORRT_ROOT") else []
    try:
        nvcc()
    except LibraryError:
        return None
    for root in (*given, Path("/usr/local/tensorrt"), Path("/usr")):
        for include in (root / "include", root / "include" / f"{platform.machine()}-linux-gnu"):
            if (include / "NvInferRuntime.h").is_file():
                return root
    return None


def compile_against(root: Path, folder: Path) -> None:
    """What the example's README says, without a GPU: CMake has to be told one."""
    options = [f"-DTENSORRT_ROOT={root}", "-DCMAKE_CUDA_ARCHITECTURES=90", f"-DCMAKE_CUDA_COMPILER={nvcc()}"]
    configure = ["cmake", "-S", str(SOURCE), "-B", str(folder), "-DWITH_TENSORRT=ON", *options]
    _run([*configure, "-DCMAKE_CXX_FLAGS=-Werror"])
    _run(["cmake", "--build", str(folder)])


def build_on_stand_ins(folder: Path) -> Path:
    """The program, with TensorRT and CUDA's runtime replaced and segment.cu on this CPU."""
    places = [f"-I{place}" for place in (STAND_IN, SOURCE, ROOT / "runtime" / "kernels")]
    compiler = [shutil.which("g++") or "g++", *FLAGS, *HALVES, *places]
    kernels, program = folder / "kernels.o", folder / "main.o"
    _run([*compiler, "-Wno-unused-function", "-c", str(STAND_IN / "gpu_kernels.cpp"), "-o", str(kernels)])
    _run([*compiler, "-DSEGMENT_TENSORRT", "-c", str(SOURCE / "main.cpp"), "-o", str(program)])
    _run([compiler[0], str(kernels), str(program), "-lcrypto", "-o", str(folder / "segment")])
    return folder / "segment"


def write_engine(
    path: Path, spec: ModelSpec, precision: Any, frame: np.ndarray, lies: tuple[int, int] = (0, 0)
) -> np.ndarray:
    """An engine of the stand-in, which knows this frame alone, with its manifest; the mask of that frame.

    Args:
        path: of the engine.
        spec: of its network.
        precision: of both tensors, "fp16" or "fp32".
        frame: uint8 (H, W, 3) RGB.
        lies: how input and logits lie: 0 planes, 1 channels last by the format, 2 by the dimensions.
    """
    given = reference.preprocess(frame, spec.preprocess).astype(TYPES[precision])[0]
    logits = _logits(spec).astype(TYPES[precision])
    tensors = [_lying(given, lies[0], padded=True), _lying(logits, lies[1], padded=False)]
    known = [int(precision == "fp16")]
    for tensor, how in zip(tensors, lies, strict=True):
        known += [*(tensor.shape if how == 0 else (tensor.shape[2], *tensor.shape[:2])), how]
    engine = np.array(known, np.int32).tobytes() + b"".join(tensor.tobytes() for tensor in tensors)
    path.write_bytes(engine)
    target = Target("tensorrt", VERSION, "NVIDIA Abacus", "9.0", this_system())
    sha = hashlib.sha256(engine).hexdigest()
    manifest = EngineManifest(spec, precision, {precision: 1}, "tensorrt", target, "0" * 64, sha, "2026-01-01")
    manifest_path(path).write_text(manifest_text(manifest))
    return reference.segment(logits[None].astype(np.float32), spec, frame.shape)


def _logits(spec: ModelSpec) -> np.ndarray:
    # Of few values, so that there are ties, and in regions, so that there is something between them.
    step = spec.output_stride * spec.block
    sides = (-(-spec.preprocess.height // step), -(-spec.preprocess.width // step))
    shape = (len(spec.classes) * spec.block**2, *(-(-side // 3) for side in sides))
    values = np.random.default_rng(0).integers(-3, 4, shape).repeat(3, 1).repeat(3, 2)
    return np.ascontiguousarray(values[:, : sides[0], : sides[1]])


def _lying(tensor: np.ndarray, how: int, *, padded: bool) -> np.ndarray:
    if how == 0:
        return np.ascontiguousarray(tensor)
    last = np.moveaxis(tensor, 0, 2)
    return np.ascontiguousarray(np.pad(last, ((0, 0), (0, 0), (0, 1))) if padded else last)


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
