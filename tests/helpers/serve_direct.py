"""What a server is measured against: pictures through `open_lanes` in a program of one's own, without HTTP.

As a program, `python -m tests.helpers.serve_direct ENGINE LANES PICTURE [fake]`, where `fake` is an engine made of
NumPy, it answers each line of JSON on stdin: `{"frames": N, "at_once": K}` gives the seconds that they took.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from runtime import backend
from runtime.lanes import open_lanes
from runtime.media.decoding import frame_from_bytes
from runtime.media.frames import png_from_pixels, read_frame, refuse_bytes
from runtime.media.pictures import segment_with
from runtime.samples import STREET
from tests.helpers.fake_backend import replaced_modules
from tests.helpers.project import ROOT

CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


class Direct:
    """The program, seen from outside."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.pid, self._process = process.pid, process

    def frames(self, count: int, at_once: int) -> float:
        """Seconds that so many pictures took, so many of them at once."""
        return float(self._ask({"frames": count, "at_once": at_once})["seconds"])

    def _ask(self, order: dict[str, Any]) -> Any:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


@contextmanager
def direct(engine: Path, lanes: int, picture: Path, *, fake: bool = False) -> Iterator[Direct]:
    """The program, ended at the end."""
    command = [sys.executable, "-m", "tests.helpers.serve_direct", str(engine), str(lanes), str(picture)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [*command, *["fake"][: int(fake)]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            yield Direct(process)
        finally:
            process.kill()


def cpu_s(pid: int) -> float:
    """Processor time of all threads of a process so far. Source: proc_pid_stat(5), utime and stime."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS


def memory_mib(pid: int, field: str) -> float:
    """What `/proc/PID/status` says: `VmRSS` now, `VmHWM` at most so far."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1]) / 1024


def together_mib(pids: Iterable[int]) -> float:
    """What processes hold together now, a page that several of them share counted once. Source: proc(5), Pss."""
    texts = (Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in pids)
    return sum(int(line.split()[1]) for text in texts for line in text.splitlines() if line.startswith("Pss:")) / 1024


def _main(engine: str, lanes: str, picture: str, *fake: str) -> None:
    if fake:
        backend.MODULES.update(replaced_modules())
    data = Path(picture).read_bytes()
    with open_lanes(engine, int(lanes)) as opened:
        opened.warm_up(read_frame(STREET), 1)

        def one(_: int) -> bytes:
            refuse_bytes(data)
            return png_from_pixels(segment_with(opened, frame_from_bytes(data)).seen.mask)

        for line in sys.stdin:
            order = json.loads(line)
            start = time.perf_counter()
            with ThreadPoolExecutor(order["at_once"]) as pool:
                for _ in pool.map(one, range(order["frames"])):
                    pass
            print(json.dumps({"seconds": time.perf_counter() - start}), flush=True)


if __name__ == "__main__":
    _main(*sys.argv[1:])
