"""The tiny network of `tests.helpers.graphs` as a torch program, of the same weights."""

from pathlib import Path

import numpy as np
import torch

from runtime.measure.rivals import SPEC_FILE
from runtime.spec import ModelSpec, to_json


def written_program(folder: Path, spec: ModelSpec, *, seed: int = 0) -> Path:
    """What `export.to_torch` would write of `tiny_graph(spec, seed=seed)`."""
    random = np.random.default_rng(seed)
    first = torch.nn.Conv2d(3, 8, 3, 2, 1, bias=False)
    second = torch.nn.Conv2d(8, len(spec.classes), 3, spec.output_stride // 2, 1, bias=False)
    for layer in (first, second):
        values = random.standard_normal(tuple(layer.weight.shape)).astype(np.float32)
        layer.weight.data = torch.from_numpy(values)
    network = torch.nn.Sequential(first, torch.nn.ReLU(), second).eval()
    example = torch.zeros((1, 3, spec.preprocess.height, spec.preprocess.width))
    path = folder / "tiny.pt2"
    torch.export.save(torch.export.export(network, (example,)), path, extra_files={SPEC_FILE: to_json(spec)})
    return path
