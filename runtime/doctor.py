"""What works on this machine, tried for real, and the first thing that does not, with its remedy.

`python -m runtime.doctor`: exit code 0 where engines run, also on the CPU alone; 1 where something is broken.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from runtime.arguments import Parser
from runtime.cli import DONE, FAILED, log, run, show
from runtime.commands import command
from runtime.errors import LibraryError
from runtime.health import on_cpu
from runtime.health.on_gpu import GpuTrial
from runtime.health.steps import Outcome, Step, in_turn, tried
from runtime.kernels import nvidia

NAMED = {"ok": "ok", "note": "note", "failed": "FAILED", "skipped": "-"}


def examined(engine: Path | None = None, *, gpu: bool = True) -> tuple[list[Outcome], list[str]]:
    """Everything that is tried here, and the backends whose engines run.

    Args:
        engine: for TensorRT; by default the newest of this machine.
        gpu: try the GPU, too.
    """
    host = [tried(step) for step in on_cpu.host_steps()]
    libraries = [*in_turn(on_cpu.library_steps()), tried(on_cpu.cache_step())]
    found = {name: tried(step) for name, step in on_cpu.backend_steps().items()}
    if any(each.state == "ok" for each in found.values()):  # one is enough; the other is an extra
        found = {name: each._replace(state="note") if each.state == "failed" else each for name, each in found.items()}
    of_gpu = _gpu_outcomes(engine) if gpu else []
    sound = all(each.state in ("ok", "note") for each in libraries)
    works = [name for name, each in found.items() if each.state == "ok" and sound]
    if of_gpu and all(each.state in ("ok", "note") for each in of_gpu) and len(of_gpu) > 1:
        works.insert(0, "tensorrt")
    return [*host, *libraries, *found.values(), *of_gpu], works


def _gpu_outcomes(engine: Path | None) -> list[Outcome]:
    try:
        nvidia.gpu()
    except LibraryError as error:
        return [Outcome("GPU", "note", str(error))]
    trial = GpuTrial(engine)
    try:
        return in_turn(trial.steps())
    finally:
        _given_back(trial)


def _given_back(trial: GpuTrial) -> None:
    def close() -> str:
        trial.close()
        return "all of it"

    closed = tried(Step("clean up", close))
    if closed.state == "failed":
        log(f"what the doctor made on the GPU is not all given back: {closed.told}")


def report(outcomes: Sequence[Outcome], works: Sequence[str]) -> str:
    """A line a step, then what works and what to mend first."""
    lines = [f"{NAMED[each.state]:<7} {each.name:<15} {each.told}" for each in outcomes]
    first = next((each for each in outcomes if each.state == "failed"), None)
    if works:
        best = f"; begin with: {command('engine', model='icnet', precision='fp16')}"
        lines.append(f"\nEngines run here on {', '.join(works)}{best}")
    else:
        lines.append("\nNo engine runs here.")
    if first:
        lines.append(f"Mend first: {first.name}: {first.told}")
    return "\n".join(lines)


def main(argv: Sequence[str]) -> int:
    """The command line of this module."""
    parser = Parser(prog="python -m runtime.doctor", description=__doc__)
    parser.add_argument("--engine", type=Path, help="of TensorRT, to try on the GPU (by default the newest that fits)")
    parser.add_argument("--no-gpu", action="store_true", help="leave an NVIDIA GPU alone")
    parser.add_argument("--json", action="store_true", help="the steps as JSON on stdout")
    options = parser.parse_args(argv)
    outcomes, works = examined(options.engine, gpu=not options.no_gpu)
    if options.json:
        show(json.dumps({"steps": [each._asdict() for each in outcomes], "backends": works}, indent=1))
    else:
        show(report(outcomes, works))
    return FAILED if not works or any(each.state == "failed" for each in outcomes) else DONE


if __name__ == "__main__":
    run(main)
