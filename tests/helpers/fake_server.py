"""`python -m runtime.serve` over engines made of NumPy, as a process of its own on loopback; ended by who started it.

As a program: `python -m tests.helpers.fake_server ARGS`.
"""

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from runtime import backend as runtime_backend
from runtime import cli
from runtime.serve import main
from tests.helpers.fake_backend import replaced_modules

ROOT = Path(__file__).parents[2]
START_S, END_S = 60.0, 20.0  # libraries are imported and loops loaded; a server that takes longer hangs


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def values(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class Server(NamedTuple):
    """A server that runs."""

    process: "subprocess.Popen[str]"
    port: int
    log: Path

    def ask(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None, timeout: float = 30.0
    ) -> Answer:
        """One request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request(method, path, body or None, headers or {})
            return answer_on(connection)
        finally:
            connection.close()

    def segment(self, body: bytes, query: str = "", **headers: str) -> Answer:
        """`POST /segment`; names of headers with _ for -."""
        return self.ask("POST", f"/segment{query}", body, {name.replace("_", "-"): v for name, v in headers.items()})

    def end(self, number: int = signal.SIGTERM) -> int:
        """Ask it to end; its exit code."""
        self.process.send_signal(number)
        return self.process.wait(END_S)


def answer_on(connection: http.client.HTTPConnection) -> Answer:
    """The answer to a request that was sent on this connection."""
    got = connection.getresponse()
    return Answer(got.status, {name.lower(): value for name, value in got.getheaders()}, got.read())


@contextmanager
def server(*options: object, folder: Path, module: str = "tests.helpers.fake_server") -> Iterator[Server]:
    """A server with these options on any free port; killed where it has not ended by itself.

    Args:
        folder: where it works, and its log goes.
    """
    command = [sys.executable, "-m", module, "--port", "0", *map(str, options)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    log = folder / "server.log"
    with log.open("w") as stderr, subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=stderr, text=True
    ) as process:  # fmt: skip
        try:
            yield Server(process, _port(process, log), log)
        finally:
            process.kill()


def _port(process: "subprocess.Popen[str]", log: Path) -> int:
    until = time.monotonic() + START_S
    line = process.stdout.readline() if process.stdout else ""
    if not line.startswith("http://") or time.monotonic() > until:
        process.wait(END_S)
        raise RuntimeError(f"the server did not start: {log.read_text()}")
    return int(line.rstrip().rstrip("/").rpartition(":")[2])


if __name__ == "__main__":
    runtime_backend.MODULES.update(replaced_modules())
    cli.run(main)
