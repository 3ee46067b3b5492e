import json
from functools import cache

import onnx
import pytest
import torch

from export import registry, to_onnx
from export.check import street_frame
from export.to_onnx import Request
from runtime.reference import preprocess
from runtime.spec import Preprocess
from tests.helpers.networks import decided, size_of, write_weights

CLASSES = [["sky", [10, 200, 250]], ["ground", [90, 80, 70]], ["thing", [200, 0, 0]]]


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """A working folder; what is exported lies below it where the commands look for it."""
    return tmp_path_factory.mktemp("exported")


@pytest.fixture(scope="session")
def networks():
    """A registered network with seeded weights, of a name."""

    @cache
    def network(name):
        entry = registry.find(name)
        values = preprocess(street_frame(), Preprocess(*size_of(entry), *entry.normalization))
        return decided(entry.build(len(CLASSES)), torch.from_numpy(values))

    return network


@pytest.fixture(scope="session")
def weights(folder, networks):
    """The file of that network's weights, which names classes of its own."""
    metadata = {"classes": json.dumps(CLASSES), "source": "seeded"}
    return cache(lambda name: write_weights(folder / f"{name}.safetensors", networks(name), metadata))


@pytest.fixture(scope="session")
def exported(folder, weights):
    """Path of the graph of a name, precision, batch and form: `export`, with each form traced but once."""
    traced, real = {}, to_onnx.trace

    def trace_once(network, spec):
        if spec not in traced:
            traced[spec] = real(network, spec)
        return traced[spec]

    def path(name, precision="fp32", **form):
        request = Request(name, precision, *size_of(registry.find(name)), **form)
        return to_onnx.export(request, weights(name), folder / to_onnx.ARTIFACTS / "onnx")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(to_onnx, "trace", trace_once)
        yield path


@pytest.fixture(scope="session")
def graph(exported):
    """The graph itself, loaded once; not to be changed."""
    return cache(lambda name, precision="fp32", **form: onnx.load(exported(name, precision, **form)))
