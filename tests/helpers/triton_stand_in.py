"""The module that Triton's python backend gives to a model, as far as ours asks it, in NumPy.

`Tensor.from_dlpack` and `Request` keep to what Triton 2.51 does; `broken` is what it does to `as_numpy` and `Tensor`
under NumPy 2, at the way by DLPack.
"""

import json
from typing import Any

import numpy as np

SENT: dict[str, Any] = {"broken": None}


class _Capsule:
    def __init__(self, capsule: object) -> None:
        self._capsule = capsule

    def __dlpack__(self, **_: object) -> object:
        return self._capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)


class Tensor:
    def __init__(self, name: str, array: np.ndarray) -> None:
        self._name, self._array = name, array

    @staticmethod
    def from_dlpack(name: str, capsule: object) -> "Tensor":
        array = np.from_dlpack(_Capsule(capsule))
        if SENT["broken"] == "repeats":
            array = np.full_like(array, array.flat[0])
        return Tensor(name, array[:0] if SENT["broken"] == "nothing" else array)

    def name(self) -> str:
        return self._name

    def as_numpy(self) -> np.ndarray:
        raise AssertionError("as_numpy() is wrong under NumPy 2")

    def __dlpack__(self, **settings: Any) -> object:
        return self._array.__dlpack__(**settings)

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)


class TritonError:
    INTERNAL, INVALID_ARG = "internal", "invalid"

    def __init__(self, message: str, code: str) -> None:
        self.message, self.code = message, code


class TritonModelException(Exception):
    pass


class InferenceResponse:
    def __init__(self, output_tensors: list[Tensor] | None = None, error: TritonError | None = None) -> None:
        self.tensors = {tensor.name(): np.from_dlpack(tensor) for tensor in output_tensors or []}
        self.error = error


class Request:
    def __init__(self, frame: np.ndarray, *outputs: str, **parameters: object) -> None:
        self.frame, self._outputs, self._parameters = frame, list(outputs), parameters

    def requested_output_names(self) -> list[str]:
        return self._outputs

    def parameters(self) -> str:
        return json.dumps(self._parameters) if self._parameters else ""


def get_input_tensor_by_name(request: Request, name: str) -> Tensor:
    assert name == "frame"
    return Tensor(name, request.frame)
