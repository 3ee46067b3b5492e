from functools import cache

import pytest

import runtime  # noqa: F401  before any library: OpenVINO reports nothing of our tests

SIZE = (64, 128)


@pytest.fixture(scope="session")
def shipped(tmp_path_factory):
    """Path of a shipped network's graph at 64x128, of a name and precision; each network is traced but once."""
    from export import to_onnx

    folder, traced, real = tmp_path_factory.mktemp("shipped"), {}, to_onnx.trace

    def trace_once(network, spec):
        if spec not in traced:
            traced[spec] = real(network, spec)
        return traced[spec]

    @cache
    def path(name, precision):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(to_onnx, "trace", trace_once)
            return to_onnx.export(to_onnx.Request(name, precision, *SIZE), folder=folder)

    return path
