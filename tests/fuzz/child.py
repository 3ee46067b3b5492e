"""The process that reads spoilt files: `python -m tests.fuzz.child FOLDER SECONDS FROM [READER]`.

It says on stdout, a line of JSON each, what failed, and at its end how many were read. Before each file it writes into
`FOLDER/now` which one it is: where this process dies or hangs, that is what did it.
"""

import contextlib
import io
import json
import os
import random
import resource
import sys
import time
import traceback
from collections import Counter
from pathlib import Path

from runtime.errors import PipelineError
from tests.fuzz.readers import Reader, readers

MOST_S = 1.0  # of processor time, beyond the median of what was read before
MOST_MIB = 200
LONGEST_LINE = 2000
ADDRESS_SPACE = 6 << 30  # beyond what the libraries take when they load


def one(reader: Reader, name: str, seed: int) -> tuple[str, bytes]:
    """The name and bytes of a spoilt file."""
    draw = random.Random(f"{name} {seed}")
    sample = draw.choice(sorted(reader.samples))
    return sample, reader.spoil(reader.samples[sample], draw)


def fault(reader: Reader, path: Path) -> str:
    """What is wrong with how a file was read; empty where nothing is."""
    start, before = time.process_time(), _mib("VmRSS")
    found = _raised(reader, path)
    seconds, mib = time.process_time() - start, _mib("VmHWM") - before
    if not found and seconds > MOST_S:
        found = f"took {seconds:.1f} s of processor time"
    if not found and mib > MOST_MIB:
        found = f"took {mib:.0f} MiB"
    return found


def _raised(reader: Reader, path: Path) -> str:
    _forget_peak()
    try:
        with contextlib.redirect_stderr(io.StringIO()) as said:
            reader.read(path)
    except PipelineError as error:
        text = str(error)
        return (
            "" if "\n" not in text and len(text) < LONGEST_LINE else f"a message of {len(text)} letters: {text[:300]}"
        )
    except Exception:
        return traceback.format_exc()
    return "an escape sequence on stderr" if "\x1b" in said.getvalue() else ""


def _mib(field: str) -> float:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1024


def _forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def main(folder: Path, seconds: float, first: int, only: str) -> None:
    """Read files until the time is over."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # libraries print, too
    made = folder / "made"
    made.mkdir()
    every = {name: reader for name, reader in readers(made).items() if only in ("", name)}
    for reader in every.values():  # the libraries are loaded, and what is valid is read
        for name, data in reader.samples.items():
            (folder / name).write_bytes(data)
            with contextlib.suppress(PipelineError), contextlib.redirect_stderr(io.StringIO()):
                reader.read(folder / name)
    taken = int(_mib("VmSize")) << 20
    resource.setrlimit(resource.RLIMIT_AS, (taken + ADDRESS_SPACE, resource.RLIM_INFINITY))
    now = os.open(folder / "now", os.O_CREAT | os.O_WRONLY)
    counts: Counter[str] = Counter()
    end, seed = time.monotonic() + seconds, first
    while time.monotonic() < end:
        for name, reader in every.items():
            sample, data = one(reader, name, seed)
            path = folder / sample
            path.write_bytes(data)
            os.pwrite(now, f"{name}\t{seed}\t{sample}".ljust(200).encode(), 0)
            found = fault(reader, path)
            counts[name] += 1
            if found:
                print(json.dumps({"reader": name, "seed": seed, "file": sample, "fault": found}), file=answers)
        seed += 1
        print(json.dumps({"counts": counts, "next": seed}), file=answers)


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), sys.argv[4] if len(sys.argv) > 4 else "")
