"""A night's worth of a camera on the network, in as many minutes as asked: its line is cut, and frozen, in turns.

`python -m tests.camera_night --minutes 10 --cuts 5 --engine ENGINE`; prints frames, reconnects and memory.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from tests.helpers.rtsp_server import Server, serving

SHAPE = (240, 320, 10)  # height, width, frames a second
GONE_S, FROZEN_S = 8, 15


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--cuts", type=int, default=5)
    parser.add_argument("--engine", type=Path, required=True)
    options = parser.parse_args()
    seconds = options.minutes * 60
    with tempfile.TemporaryDirectory() as folder, serving(shape=SHAPE) as server:
        command = [sys.executable, "-m", "runtime.infer", server.address, "--engine", str(options.engine.resolve())]
        command += ["--seconds", str(seconds), "--json", "-o", folder]
        run = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        cutting = threading.Thread(target=cut, args=(server, options.cuts, seconds), daemon=True)
        cutting.start()
        memory = sampled(run)
        (stream,) = json.loads(run.communicate()[0])["files"]
        written = sum(path.stat().st_size for path in Path(folder).glob("*.mp4"))
    tell(stream, memory, written)
    return 0 if run.returncode == 0 and stream["reconnects"] == options.cuts else 1


def cut(server: Server, cuts: int, seconds: float) -> None:
    """Cut the line at equal distances: the server is killed, or says nothing any more."""
    started = time.monotonic()
    for number in range(cuts):
        time.sleep(max(0, started + seconds * (number + 1) / (cuts + 1) - time.monotonic()))
        if number % 2 == 0:
            server.cut()
            time.sleep(GONE_S)
            server.start()
        else:
            os.kill(server.pid, signal.SIGSTOP)
            time.sleep(FROZEN_S)
            os.kill(server.pid, signal.SIGCONT)


def sampled(run: subprocess.Popen[str]) -> list[int]:
    """Its memory in KiB, each second until it ends."""
    found = []
    while run.poll() is None:
        status = Path(f"/proc/{run.pid}/status").read_text()
        found += [int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")]
        time.sleep(1)
    return found


def tell(stream: dict[str, float], memory: list[int], written: int) -> None:
    names = ("frames", "dropped", "damaged", "reconnects", "seconds", "fps")
    print({name: round(stream[name], 2) for name in names}, f"{written} bytes")
    tenth = max(1, len(memory) // 10)
    parts = [memory[i * tenth : (i + 1) * tenth] for i in range(10)]
    print("MiB by tenths of the run:", *(f"{statistics.median(part) / 1024:.0f}" for part in parts if part))
    print(f"at most {max(memory) / 1024:.0f} MiB")


if __name__ == "__main__":
    sys.exit(main())
