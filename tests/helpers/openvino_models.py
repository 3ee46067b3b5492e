"""Small OpenVINO models, most of them of a frame."""

import numpy as np
import openvino
from openvino import opset13

from runtime.backends.openvino import DEVICE, compile_options, core

HEIGHT, WIDTH = 12, 24


def values(shape, seed=0):
    """Normal values, of a seed."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def on_frame(read, width=WIDTH):
    """A model of uint8 NHWC frames; `read` makes its output of the frame in float32 with the channels first."""
    frame = opset13.parameter([1, HEIGHT, width, 3], np.uint8, name="frame")
    planes = opset13.transpose(opset13.convert(frame, "f32"), np.array([0, 3, 1, 2]))
    return openvino.Model([read(planes)], [frame])


def less_a_mean(read, mean):
    """As `on_frame`, of a frame that a colour was taken off."""
    frame = opset13.parameter([1, HEIGHT, WIDTH, 3], np.uint8, name="frame")
    less = opset13.subtract(opset13.convert(frame, "f32"), np.float32(mean).reshape(1, 1, 1, 3))
    return openvino.Model([read(opset13.transpose(less, np.array([0, 3, 1, 2])))], [frame])


def convolution(source, weight, step=1, padding=0, dilation=1):
    """A convolution that has the same step, padding and dilation both ways."""
    ends = [padding, padding]
    return opset13.convolution(source, weight, [step, step], ends, ends, [dilation, dilation])


def compiled(model):
    """Of float layers in FP32."""
    return core().compile_model(model, DEVICE, compile_options("f32"))


def result(model, seed=0):
    """The outputs of frames, or of normal values, of a seed."""
    inputs = []
    for put in model.inputs:
        shape = tuple(put.get_shape())
        is_frame = put.get_element_type() == openvino.Type.u8
        random = np.random.default_rng(seed)
        inputs.append(random.integers(0, 256, shape, np.uint8) if is_frame else values(shape, seed))
    return [output.copy() for output in compiled(model)(inputs).values()]
