"""A GPU's clocks while something is measured: brought up by bursts of frames, read under load, locked where asked.

Between its turns a worker stands still, and a GPU that has nothing to do lowers its clocks. A frame by itself would so
be timed at the clocks of an idle GPU. A turn there is a burst: frames that are not timed, and then one that is.
"""

import argparse
import statistics
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from runtime.cli import count_from_text
from runtime.errors import LibraryError
from runtime.measure.fingerprint import CLOCKS, smi

GPU_BACKENDS = ("tensorrt", "tensorrt-rtx")
LEAD_MS = 100.0  # of frames before the one that is timed
LOAD_S = 1.0  # of frames, while the clocks are read
READINGS = {"sm_mhz": "clocks.sm", "mem_mhz": "clocks.mem"}
THROTTLING, TEMPERATURE = "clocks_event_reasons.active", "temperature.gpu"


def lead_ms(backend: str) -> float:
    """How many milliseconds of frames go before one that is timed: `LEAD_MS` on a GPU, else none."""
    return LEAD_MS if backend in GPU_BACKENDS else 0.0


def under_load(work: Callable[[], object]) -> dict[str, Any] | None:
    """The GPU's clocks while `work` runs, as JSON values; None, and nothing is run, where nvidia-smi tells none.

    Returns:
        sm_mhz and mem_mhz: [least, median, most] of the readings; throttling: the reasons that were told, each once;
        temperature: the highest, in degrees Celsius; readings: how many.
    """
    if smi(*CLOCKS) is None:
        return None
    with ThreadPoolExecutor(1) as pool:
        running, found = pool.submit(work), []
        while not running.done():
            found.append(smi(*CLOCKS))
        running.result()
    told = [reading for reading in found if reading]
    # The last reading may have come when the work was over.
    return _summary(told[:-1] or told)


def document(backend: str, locked_mhz: int | None, load: dict[str, Any] | None) -> dict[str, Any]:
    """What a document tells of clocks."""
    return {"lead_ms": lead_ms(backend), "locked_mhz": locked_mhz, "under_load": load}


def as_line(clocks: dict[str, Any] | None) -> str | None:
    """The same in words; None where no GPU is measured, or an older document tells nothing."""
    if not clocks or not clocks["lead_ms"]:
        return None
    locked, load = clocks["locked_mhz"], clocks["under_load"]
    state = f"locked at {locked} MHz" if locked else "not locked"
    told = "not read: nvidia-smi tells none"
    if load:
        least, median, most = load["sm_mhz"]
        throttled = ", ".join(load["throttling"]) or "none"
        told = f"{median:.0f} MHz under load ({least:.0f} to {most:.0f}), reasons to throttle: {throttled}"
    return f"GPU clocks {state}, {told}; {clocks['lead_ms']:.0f} ms of frames before each that is timed"


@contextmanager
def locked(mhz: int | None) -> Iterator[None]:
    """The GPU's SM clock locked, and freed in the end; None locks nothing.

    Raises:
        LibraryError: nvidia-smi is missing or refuses, as it does for who is not root.
    """
    if mhz is None:
        yield
        return
    _ordered(f"--lock-gpu-clocks={mhz},{mhz}")
    try:
        yield
    finally:
        _ordered("--reset-gpu-clocks")


def add_lock(parser: argparse.ArgumentParser) -> None:
    """The option `--lock-clocks`."""
    parser.add_argument(
        "--lock-clocks", type=count_from_text, metavar="MHZ",
        help="lock the GPU's SM clock while it is measured, as root (it is read under load, and told)",
    )  # fmt: skip


def _ordered(option: str) -> None:
    try:
        done = subprocess.run(["nvidia-smi", "-i", "0", option], capture_output=True, text=True)
    except OSError as error:
        raise LibraryError(f"the GPU's clocks cannot be locked: nvidia-smi does not run ({error.strerror})") from None
    if done.returncode:
        said = next((line for line in (done.stdout + done.stderr).splitlines() if line.strip()), "it gives no reason")
        raise LibraryError(
            f"nvidia-smi {option} is refused ({said.strip()[:200]}); run it as root, or without the lock"
        )


def _summary(readings: list[dict[str, str]]) -> dict[str, Any] | None:
    found: dict[str, Any] = {}
    for name, field in READINGS.items():
        values = [float(reading[field]) for reading in readings if _is_number(reading[field])]
        if not values:
            return None
        found[name] = [min(values), statistics.median(values), max(values)]
    reasons = {reading[THROTTLING] for reading in readings}
    degrees = [float(reading[TEMPERATURE]) for reading in readings if _is_number(reading[TEMPERATURE])]
    # A mask of no bits is no reason; others as nvidia-smi writes them.
    throttling = sorted(reason for reason in reasons if reason.strip("0x"))
    return found | {"throttling": throttling, "temperature": max(degrees, default=None), "readings": len(readings)}


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:  # "[N/A]", as virtual GPUs tell
        return False
    return True
