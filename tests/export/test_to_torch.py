import io

import torch

from export import to_torch
from export.to_onnx import Request, loaded_network
from export.to_torch import program_bytes


def test_the_program_is_what_pytorchs_users_run_and_moves_to_any_device():
    request = Request("enet", "fp32", 64, 128, plain=True)
    program = torch.export.load(io.BytesIO(program_bytes(request, None)))
    called = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert {"aten.max_pool2d_with_indices.default", "aten.max_unpool2d.default"} <= called
    # A tensor that is neither weight nor buffer would stay where it was made.
    assert not {name for name, value in program.constants.items() if isinstance(value, torch.Tensor)} - set(
        program.graph_signature.buffers
    )
    frame = torch.rand(1, 3, 64, 128)
    with torch.inference_mode():
        assert torch.equal(program.module()(frame), loaded_network(request, None)[1](frame))


def test_the_written_program_makes_no_tensor_of_its_own_and_another_code_makes_it_again(monkeypatch):
    request = Request("enet", "fp32", 64, 128, plain=True)
    spec = loaded_network(request, None)[2]
    counting = torch.nn.Module()
    counting.forward = lambda x: x + torch.arange(x.shape[-1])
    monkeypatch.setattr(to_torch, "loaded_network", lambda *_: (None, counting, spec))
    program = torch.export.load(io.BytesIO(program_bytes(request, None)))
    assert list(program.graph_signature.buffers) == ["constant_0"]
    assert {path.name for path in to_torch.CODE} == {"to_torch.py", "constants.py"}
