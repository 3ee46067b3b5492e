"""The real Python bindings of TensorRT without its libraries, which are not on the package index.

`python -m tests.helpers.tensorrt_bindings` fetches them ahead of the tests that want them.
"""

import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from runtime.artifacts import locked

VERSIONS = ("10.16.1.11", "11.4.0.106")
CACHE = Path(__file__).parents[2] / "artifacts" / "cache"
LIBRARIES = ("nvinfer", "nvinfer_plugin", "nvonnxparser")
# All that the bindings call by name; importing them calls none, and nothing here makes an object of the library.
FUNCTIONS = (
    "createInferBuilder_INTERNAL", "createInferRuntime_INTERNAL", "createInferRefitter_INTERNAL",
    "createNvOnnxParser_INTERNAL", "createNvOnnxParserRefitter_INTERNAL", "getBuilderPluginRegistry",
    "getPluginRegistry", "getNvOnnxParserVersion", "initLibNvInferPlugins", "getInferLibVersion",
)  # fmt: skip


def fetched(version: str) -> Path:
    """The folder to put on PYTHONPATH; fetched once.

    Raises:
        RuntimeError: pip cannot fetch them.
    """
    folder = CACHE / f"tensorrt-bindings-{version}"
    with locked(folder):
        if not (folder / "tensorrt_bindings").is_dir():
            _fetch(version, folder)
    return folder


def stubs(version: str, folder: Path, compiler: str) -> Path:
    """The folder to put on LD_LIBRARY_PATH: libraries of the right names, whose functions return nothing."""
    source = folder / "stubs.cpp"
    source.write_text("".join(f'extern "C" void* {name}() {{ return nullptr; }}\n' for name in FUNCTIONS))
    for name in LIBRARIES:
        library = folder / f"lib{name}.so.{version.partition('.')[0]}"
        subprocess.run([compiler, "-shared", "-fPIC", source, "-o", library], check=True)
    return folder


def _fetch(version: str, folder: Path) -> None:
    package = f"tensorrt-cu13-bindings=={version}"
    with tempfile.TemporaryDirectory(dir=CACHE) as temporary:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        command += ["--only-binary=:all:", "--dest", temporary, package]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = list(Path(temporary).glob("*.whl"))
        if done.returncode or not wheels:
            reason = (done.stderr.strip().splitlines() or ["no wheel"])[-1]
            raise RuntimeError(f"pip cannot fetch {package}, which the tests compare our calls with: {reason}")
        with zipfile.ZipFile(wheels[0]) as wheel:
            wheel.extractall(Path(temporary) / "unpacked")
        shutil.rmtree(folder, ignore_errors=True)
        (Path(temporary) / "unpacked").rename(folder)


if __name__ == "__main__":
    for each in VERSIONS:
        print(fetched(each))
