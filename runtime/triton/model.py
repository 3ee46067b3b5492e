"""What Triton's python backend loads: a process for each instance, with one lane of the engine in it."""

import os
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from runtime.errors import EngineError, FrameError, PipelineError
from runtime.json_values import values_from_json
from runtime.manifest import read_manifest
from runtime.media.frames import refuse_size
from runtime.serve import v2
from runtime.serve.engines import Named, Opening, Served, opened_lanes
from runtime.serve.replies import LONGEST, Refusal
from runtime.texts import shown
from runtime.threads import count
from runtime.triton.golden import read_golden, refuse_other_mask
from runtime.triton.places import ENGINE
from runtime.triton.tensors import array_from_tensor, refuse_wrong_way, tensor_from_array

TRITONS = "triton_"  # how names of parameters begin that are Triton's own


class TritonPythonModel:
    """Frames in, masks out, as `runtime.serve` has it: the same tensors, the same parameters of a request.

    Source: Triton, python_backend/README.md.
    """

    def initialize(self, args: Mapping[str, str]) -> None:
        """Open the engine of this version, and hold it to its golden frame; what is wrong, Triton does not serve.

        Args:
            args: the model's folder, version, and configuration as JSON.

        Raises:
            TritonModelException: why it is not served, in one line.
        """
        self._pb = import_module("triton_python_backend_utils")
        path = Path(args["model_repository"]) / args["model_version"] / ENGINE
        try:
            instances = instances_of(args["model_config"])
            opening = opening_of(instances)
            keep_to_own_cores(args["model_instance_name"], instances)
            self._served = opened(path, args["model_name"], opening, self._pb)
        except PipelineError as error:
            raise self._pb.TritonModelException(shown(error)[:LONGEST]) from None

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """An answer to each request: its tensors, or one line why not."""
        return [self._answer(request) for request in requests]

    def finalize(self) -> None:
        """Free the engine."""
        self._served.close()

    def _answer(self, request: Any) -> Any:
        pb = self._pb
        try:
            return pb.InferenceResponse(output_tensors=self._tensors(request))
        except PipelineError as error:
            own = isinstance(error, FrameError | Refusal)
            code = pb.TritonError.INVALID_ARG if own else pb.TritonError.INTERNAL
            return pb.InferenceResponse(error=pb.TritonError(shown(error)[:LONGEST], code))

    def _tensors(self, request: Any) -> list[Any]:
        frame = frame_of(self._pb.get_input_tensor_by_name(request, v2.FRAME))
        names = request.requested_output_names()
        asked = v2.asked_of(values_of(request.parameters()), names, self._served.spec)
        seen = self._served.segment(frame, asked.fit, asked.void_below).seen
        found = {v2.MASK: seen.mask, v2.CONFIDENCE: seen.confidence}
        planes = [(name, plane) for name in names if (plane := found.get(name)) is not None]
        return [tensor_from_array(self._pb, name, plane) for name, plane in planes]


def frame_of(tensor: Any) -> np.ndarray:
    """The frame, uint8 (H, W, 3) RGB, of an input tensor; Triton has held its type and dimensions to the configuration.

    Raises:
        FrameError: of a size that is not taken.
    """
    frame = array_from_tensor(tensor)
    try:
        refuse_size(*frame.shape[:2])
    except FrameError as error:
        raise FrameError(f"{v2.FRAME} {error}") from None
    return frame


def instances_of(config: str) -> int:
    """How many processes of a model run at once, by its configuration as JSON."""
    return max(1, sum(int(group.get("count", 1)) for group in values_from_json(config).get("instance_group", [])))


def values_of(parameters: str) -> dict[str, Any]:
    """The parameters of a request, JSON as Triton hands it on, but for those that are Triton's own.

    Raises:
        Refusal: 400, see `runtime.serve.v2.values_from_parameters`.
    """
    given = values_from_json(parameters or "{}")
    return v2.values_from_parameters({name: each for name, each in given.items() if not name.startswith(TRITONS)})


def opened(path: Path, name: str, opening: Opening, pb: Any) -> Served:
    """The engine of a version, one lane of it, with its share of the cores; proven on its golden frame.

    Args:
        path: of the engine.
        name: of the model.
        opening: see `opening_of`.
        pb: the module triton_python_backend_utils.

    Raises:
        EngineError: damaged, of another machine, without a golden frame, or its mask is another; or what goes through
            Triton's tensors comes out as something else.
        LibraryError: its library is not installed.
    """
    golden, manifest = read_golden(path), read_manifest(path)
    refuse_wrong_way(pb, golden.frame)
    refuse_wrong_way(pb, golden.mask)
    served = Served(Named(name, path), manifest, opened_lanes(path, opening, manifest))
    try:
        refuse_other_mask(mask_of(served, golden.frame), golden, f"version {path.parent.name} of {name}")
    except EngineError:
        served.close()
        raise
    return served


def opening_of(instances: int) -> Opening:
    """How each of several processes that share a machine opens an engine."""
    return Opening(lanes=1, threads=None if instances == 1 else max(1, count() // instances))


def keep_to_own_cores(instance: str, instances: int) -> None:
    """Hold this process to its share of the cores that it may run on, where there is one core or more for each.

    OpenVINO pins its threads to the first cores of a process: two that share all of them take turns on the same ones.

    Args:
        instance: its name, as Triton gives it: model, group and number with "_" between.
        instances: how many there are.
    """
    cores, number = sorted(os.sched_getaffinity(0)), instance.rpartition("_")[2]
    if 1 < instances <= len(cores) and number.isdecimal() and int(number) < instances:
        first, end = (len(cores) * each // instances for each in (int(number), int(number) + 1))
        os.sched_setaffinity(0, cores[first:end])


def mask_of(served: Served, frame: np.ndarray) -> np.ndarray:
    """The mask of a frame; with its confidence where it has one, whose loops are compiled or loaded by that."""
    return served.segment(frame, None, 0 if v2.CONFIDENCE in v2.outputs_of(served.spec) else None).seen.mask
