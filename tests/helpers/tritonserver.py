"""Triton itself, from the wheel nvidia-pytriton: the server and its python backend, as a process on loopback.

The wheel holds nothing but these; models in other forms than the python backend's are for a container of Triton's.
"""

import os
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.helpers.fake_server import Answer, Server

START_S, END_S, STARTS = 300.0, 30.0, 3
# On a machine that is busy with other work the server may end at its start: it waits for a lock of its backend's for a
# short time, and goes on as if it had it.
BUSY = "boost::interprocess::lock_exception"
PATIENT = ("--backend-config", "python,stub-timeout-seconds=300")
PACKAGE = Path(sysconfig.get_path("purelib")) / "pytriton" / "tritonserver"


class Triton(NamedTuple):
    """A server that runs."""

    process: "subprocess.Popen[bytes]"
    port: int
    grpc: int
    log: Path
    stubs: str  # by which the processes of its models are known

    def ask(self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> Answer:
        """One request over HTTP."""
        return Server(self.process, self.port, self.log).ask(method, path, body, headers, timeout=START_S)  # type: ignore[arg-type]

    def load(self, name: str) -> Answer:
        """Have it look at a model's folder again."""
        return self.ask("POST", f"/v2/repository/models/{name}/load")

    def ready(self) -> bool:
        """Whether it says so."""
        try:
            return self.ask("GET", "/v2/health/ready").status == 200
        except OSError:
            return False

    def processes(self) -> list[int]:
        """Those of its models' instances."""
        found = []
        for place in Path("/proc").glob("[0-9]*"):
            try:
                command = (place / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if command[0].decode("utf-8", "replace") == self.stubs:
                found.append(int(place.name))
        return found


@contextmanager
def triton(repository: Path, folder: Path, *options: str) -> Iterator[Triton]:
    """Triton over this repository; ended at the end.

    Args:
        repository: the model repository.
        folder: where its backend is put together, and its log goes.
        options: of tritonserver, beside those that put it on loopback.
    """
    running = _started(repository, folder, *options)
    try:
        yield running
    finally:
        running.process.terminate()
        try:
            running.process.wait(END_S)
        except subprocess.TimeoutExpired:
            running.process.kill()
            running.process.wait()


def _started(repository: Path, folder: Path, *options: str) -> Triton:
    for _ in range(STARTS):
        running = _begun(repository, folder, *options)
        until = time.monotonic() + START_S
        while running.process.poll() is None and time.monotonic() < until:
            if running.ready():
                return running
            time.sleep(0.2)
        running.process.kill()
        running.process.wait()
        if BUSY not in running.log.read_text():
            break
    raise RuntimeError(f"Triton did not start: {running.log.read_text()[-4000:]}")


def _begun(repository: Path, folder: Path, *options: str) -> Triton:
    backends = _backends(folder)
    ports = [_free_port() for _ in range(2)]
    command = [
        str(PACKAGE / "bin" / "tritonserver"), "--model-repository", str(repository), "--backend-directory",
        str(backends), "--http-address", "127.0.0.1", "--grpc-address", "127.0.0.1", "--http-port", str(ports[0]),
        "--grpc-port", str(ports[1]), "--allow-metrics", "false", *PATIENT, *options,
    ]  # fmt: skip
    log = folder / "triton.log"
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, env=_environment())
    return Triton(process, *ports, log, str(backends / "python" / "triton_python_backend_stub"))


def _backends(folder: Path) -> Path:
    # The stub of this Python beside the backend, as an image of Triton has them.
    place = folder / "backends" / "python"
    place.mkdir(parents=True, exist_ok=True)
    version = "{}.{}".format(*sys.version_info)
    own = PACKAGE / "backends" / "python"
    names = {name: own / name for name in ("libtriton_python.so", "triton_python_backend_utils.py")}
    names["triton_python_backend_stub"] = PACKAGE / "python_backend_stubs" / version / "triton_python_backend_stub"
    for name, source in names.items():
        if not (place / name).exists():
            (place / name).symlink_to(source)
    return folder / "backends"


def _environment() -> dict[str, str]:
    # The stub holds no Python: it takes the library of the one that made this environment. It reads no PYTHONPATH, and
    # has the packages of the first python3 of the PATH.
    libraries = f"{sys.base_prefix}/lib:{os.environ.get('LD_LIBRARY_PATH', '')}".rstrip(":")
    path = f"{Path(sys.prefix) / 'bin'}:{os.environ['PATH']}"
    return os.environ | {"LD_LIBRARY_PATH": libraries, "PATH": path}


def _free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
