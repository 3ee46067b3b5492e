import pytest
import torch
from torch import nn

from export import registry
from export.constants import movable
from export.to_onnx import Request, loaded_network


class MakesTensors(nn.Module):
    """Every way to make a tensor in `forward` that traces differently: filled in place, cast, counted, literal."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.plain = torch.full((4, 1, 1), 0.5)  # neither parameter nor buffer

    def forward(self, x):
        filled = torch.zeros(4, 1, 1)
        filled[1:3] = 2.0
        counted = torch.arange(x.shape[-1]).to(x) / 7
        y = self.conv(x) * filled + counted + torch.tensor([0.25]).to(x.device)
        filled[0] = 3.0
        return (y + filled + self.plain).to(x.dtype)


def frame_of(entry):
    return torch.rand(1, 3, *registry.nearest_size(entry, 192, 224))


def made_in_forward(program):
    """Nodes that name a device or a type, which stays what it was where the program is moved."""
    fixed = (torch.device, torch.dtype)
    return [
        node.name
        for node in program.graph.nodes
        if node.op == "call_function" and any(isinstance(value, fixed) for value in (*node.args, *node.kwargs.values()))
    ]


def constants(program):
    return {name for name, value in program.constants.items() if isinstance(value, torch.Tensor)} - set(
        program.graph_signature.buffers
    )


def moved(program, device, dtype, frame):
    return program.module().to(device, dtype)(frame.to(device, dtype))


def test_what_a_network_makes_itself_is_a_buffer_and_the_same_to_the_last_bit():
    network, frame = MakesTensors().eval(), torch.rand(1, 3, 2, 5)
    traced = torch.export.export(network, (frame,))
    assert made_in_forward(traced) and constants(traced)
    program = movable(traced, frame)
    assert not constants(program)
    with torch.inference_mode():
        assert torch.equal(program.module()(frame), network(frame))


def test_a_program_that_writes_frames_into_what_it_made_is_left_as_it_is():
    class Writes(nn.Module):
        def forward(self, x):
            filled = torch.zeros(2, 2)
            filled[0] = x.mean()
            return x.sum() + filled

    frame = torch.rand(1, 3, 2, 5)
    traced = torch.export.export(Writes(), (frame,))
    assert movable(traced, frame) is traced


@pytest.mark.parametrize(
    "name", [name if name == "icnet" else pytest.param(name, marks=pytest.mark.slow) for name in registry.names()]
)
def test_every_networks_program_moves_whole_to_another_device_and_type(name):
    frame = frame_of(registry.find(name))
    request = Request(name, "fp32", *frame.shape[2:], plain=True)
    _, network, _ = loaded_network(request, None)
    program = movable(torch.export.export(network, (frame,)), frame)
    assert not made_in_forward(program) and not constants(program)
    with torch.inference_mode():
        assert torch.equal(program.module()(frame), network(frame))
        # The meta device stands for a GPU: it computes no values, but refuses a tensor that stayed behind.
        logits = moved(program, "meta", torch.float16, frame)
    assert (logits.device.type, logits.dtype) == ("meta", torch.float16)
