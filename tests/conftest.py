from functools import cache
from pathlib import Path

import pytest

import runtime  # noqa: F401  before any library: OpenVINO reports nothing of our tests

SIZE = (64, 128)
GRAPHS = Path(__file__).parents[1] / "artifacts" / "onnx"


@pytest.fixture(scope="session")
def shipped():
    """Path of a shipped network's graph at 64x128, of a name and precision; each network is traced but once.

    They are kept, as `make onnx` keeps them: a run after one that had the same code, packages and weights traces none.
    """
    from export import to_onnx

    traced, real = {}, to_onnx.trace

    def trace_once(network, spec):
        if spec not in traced:
            traced[spec] = real(network, spec)
        return traced[spec]

    @cache
    def path(name, precision):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(to_onnx, "trace", trace_once)
            return to_onnx.export(to_onnx.Request(name, precision, *SIZE), folder=GRAPHS)

    return path
