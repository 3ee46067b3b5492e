"""The commands of `streetseg`: what each is for, and the function that does it, loaded when it is called."""

import importlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

from runtime.cli import closest
from runtime.errors import PipelineError

Main = Callable[[Sequence[str]], int]


class Command(NamedTuple):
    """One command: its line in `streetseg --help`, and `module:function` that takes its options."""

    about: str
    place: str

    def load(self) -> Main:
        """The function, with what it imports."""
        module, _, name = self.place.partition(":")
        main: Main = getattr(importlib.import_module(module), name)
        return main


GROUPS: dict[str, dict[str, Command]] = {
    "masks": {
        "infer": Command("segment images, videos or a camera", "runtime.infer:main"),
        "fleet": Command("many images and videos, over many machines", "runtime.fleet.command:main"),
        "serve": Command("masks over HTTP, and a page to try it", "runtime.serve:main"),
        "triton": Command("a model repository for Triton, and a probe of its masks", "runtime.triton:main"),
        "evaluate": Command("mIoU of engines on labelled frames, side by side", "runtime.accuracy.evaluate:main"),
        "compare": Command("two engines, or an engine and its graph, on frames", "engines.compare:main"),
        "prove": Command("does an engine compute here what its graph says?", "runtime.prove:main"),
    },
    "engines": {
        "engine": Command("an engine for this machine, from a network or a graph", "streetseg.stage_commands:engine"),
        "export": Command("the checked ONNX graph of a network", "streetseg.stage_commands:export"),
        "adopt": Command("anyone's ONNX file as a checked graph of ours", "export.adopt:main"),
        "calib": Command("the ranges of a network on real frames, for INT8", "streetseg.stage_commands:calib"),
        "quantize": Command("the INT8 graph, from those ranges", "streetseg.stage_commands:quantize"),
        "bundle": Command("what another machine needs to build and run it, without torch", "engines.bundle:main"),
        "keys": Command("a pair of keys, to sign engines and bundles with", "engines.keys:main"),
        "sensitivity": Command("what each layer costs in INT8; which to leave in FP16", "calib.sensitivity:main"),
        "speed": Command("which stages INT8 slows here, to leave in FP16", "calib.speed:main"),
        "methods": Command("what each way to choose INT8 ranges is worth", "calib.methods:main"),
        "nncf": Command("an engine quantized by NNCF's defaults, to measure against", "engines.nncf_engine:main"),
        "ort-int8": Command(
            "an engine quantized by onnxruntime's tools, to measure against", "engines.onnxruntime_int8:main"
        ),
        "to-torch": Command("a network as a torch program in a file, for bench", "export.to_torch:main"),
    },
    "weights": {
        "train": Command("train a network on labelled frames", "export.training.train:main"),
        "prune": Command("an ICNet of fewer filters", "export.training.prune:main"),
        "balance": Command("shift each class's logit by what raises mIoU", "export.training.balance:main"),
        "ablation": Command("what each option of the training brings", "export.training.ablation:main"),
    },
    "measurements": {
        "bench": Command("frame to mask, beside other libraries, in turns", "runtime.measure.bench.latency:main"),
        "bench-files": Command("pictures and videos, file to file", "runtime.measure.bench.files:main"),
        "bench-rivals": Command(
            "one engine beside all that one would use instead", "runtime.measure.bench.beside:main"
        ),
        "bench-scaling": Command("time and memory by threads and by pixels", "runtime.measure.bench.scaling:main"),
        "regress": Command("is an engine slower than another? a gate for CI", "runtime.measure.gate.regress:main"),
        "report": Command("all figures in one HTML file", "runtime.measure.bench.report:main"),
        "study": Command(
            "what each step from PSPNet50 to ICNet buys here; all networks", "streetseg.study.command:main"
        ),
    },
    "what there is": {
        "doctor": Command("what works on this machine, and what to mend first", "runtime.doctor:main"),
        "models": Command("networks, their cost, weights and licence", "streetseg.list_commands:models"),
        "engines": Command("engines on disk, and which this machine opens", "streetseg.list_commands:engines"),
        "completion": Command("completion for bash or zsh", "streetseg.completion:main"),
    },
}
COMMANDS: dict[str, Command] = {name: command for group in GROUPS.values() for name, command in group.items()}


def find(name: str) -> Command:
    """The command of that name.

    Raises:
        PipelineError: there is none; it names the closest.
    """
    if name not in COMMANDS:
        raise PipelineError(str(closest(name, COMMANDS, "command")))
    return COMMANDS[name]
