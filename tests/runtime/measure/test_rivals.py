"""The rivals do the same work: their masks are those of the reference, but for rounding on edges."""

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from runtime import reference
from runtime.backend import open_backend
from runtime.errors import EngineError, LibraryError
from runtime.measure.rivals import RIVALS, TorchPath, normalized, open_rival, torch_program
from runtime.spec import Preprocess
from tests.helpers.engines import built_engine
from tests.helpers.graphs import tiny_spec
from tests.helpers.pictures import gradient
from tests.helpers.programs import written_program

SAME_MASK = 0.999  # other libraries round bilinear weights otherwise, which shows where two classes are equal
SAME_MASK_BF16 = 0.9  # OpenVINO as it comes runs in BF16 on a CPU that has it, on logits of random weights
SAME_RESIZED = 0.99  # torch keeps the fractions of a resized frame, which the reference rounds to bytes
TWO_LEVELS = 2.5 / 255 / 0.2  # OpenCV resizes in fixed point, and rounds to bytes as the reference does
SAME_VALUES = 1e-6  # of normalised pixels: the reference multiplies where this divides
FRAME = np.random.default_rng(0).integers(0, 256, (96, 200, 3), np.uint8)
OF_THE_NETWORK = np.random.default_rng(0).integers(0, 256, (32, 64, 3), np.uint8)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("rivals")
    plain = built_engine(folder, backend="onnxruntime")
    program = written_program(folder, tiny_spec())
    return {"onnxruntime": plain, "openvino": plain, "torch": program}


def expected(frame: np.ndarray, plain: Path) -> np.ndarray:
    with open_backend(plain) as backend:
        return reference.postprocess(backend.logits(frame), *frame.shape[:2])


@pytest.mark.parametrize("kind", ["onnxruntime", "openvino", "torch"])
def test_a_rival_gives_the_mask_of_the_reference(files, kind):
    rival = open_rival(kind, [files[kind]])
    mask = rival.segment(OF_THE_NETWORK)
    assert mask.dtype == np.uint8
    wanted = expected(OF_THE_NETWORK, files["onnxruntime"])
    assert (mask == wanted).mean() > (SAME_MASK_BF16 if kind == "openvino" else SAME_MASK)
    assert set(rival.stages_ms) >= {"preprocess", "network"}


def test_torch_compile_gets_all_from_the_input_to_the_mask(files, monkeypatch):
    # Not compiled here: that takes longer than all other tests of this file.
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda function: compiled.append(function) or function)
    mask = open_rival("torch-compile", [files["torch"]]).segment(OF_THE_NETWORK)
    assert len(compiled) == 1
    assert compiled[0](torch.zeros(1, 3, 32, 64), (48, 80)).shape == (48, 80)
    assert (mask == open_rival("torch", [files["torch"]]).segment(OF_THE_NETWORK)).all()


def test_a_frame_of_another_size_gets_a_mask_of_its_size(files):
    wanted = expected(FRAME, files["onnxruntime"])
    for kind in ("onnxruntime", "openvino", "torch"):
        mask = open_rival(kind, [files[kind]]).segment(FRAME)
        assert mask.shape == (96, 200)
        # OpenCV resizes in fixed point, and the frame is noise: what is wanted is the place of everything.
        assert (mask == wanted).mean() > SAME_MASK_BF16


# A border at both sides, and above and below; the network's own shape has none.
@pytest.mark.parametrize("size", [(96, 60), (40, 200), (64, 128)])
@pytest.mark.parametrize("fit", ["pad", "stretch"])
def test_a_frame_of_another_shape_lies_where_the_engine_has_it(files, size, fit):
    frame = np.ascontiguousarray(gradient(*size))
    with open_backend(files["onnxruntime"], fit=fit) as backend:
        wanted = backend.segment(frame)
    preprocess = Preprocess(32, 64, 1 / 255, (0.5, 0.4, 0.3), (0.2, 0.3, 0.25), "RGB", fit)
    fitted = reference.preprocess(reference.fit_frame(frame, preprocess), preprocess)
    assert np.abs(normalized(frame, preprocess) - fitted).max() < TWO_LEVELS
    for kind in ("onnxruntime", "openvino", "torch"):
        mask = open_rival(kind, [files[kind]], fit).segment(frame)
        assert mask.shape == size
        assert (mask == wanted).mean() > SAME_MASK_BF16, kind
    module, _ = torch_program(files["torch"])
    with torch.inference_mode():
        mask = TorchPath(module, open_rival("torch", [files["torch"]], fit).spec.preprocess, "cpu", torch.float32)(
            torch.from_numpy(frame)
        )
    assert (mask.numpy() == wanted).mean() > SAME_MASK_BF16


@pytest.mark.parametrize("order", ["RGB", "BGR"])
@pytest.mark.parametrize("frame", [OF_THE_NETWORK, FRAME])
def test_what_torch_does_on_a_gpu_gives_the_mask_of_the_reference(files, frame, order):
    module, _ = torch_program(files["torch"])
    preprocess = Preprocess(32, 64, 1 / 255, (0.5, 0.4, 0.3), (0.2, 0.3, 0.25), order)
    with torch.inference_mode():
        logits = module(torch.from_numpy(reference.preprocess(frame, preprocess))).numpy()
        mask = TorchPath(module, preprocess, "cpu", torch.float32)(torch.from_numpy(frame))
    assert mask.dtype == torch.uint8
    same = SAME_MASK if frame is OF_THE_NETWORK else SAME_RESIZED
    assert (mask.numpy() == reference.postprocess(logits, *frame.shape[:2])).mean() > same


def test_the_captured_rival_reads_each_new_frame_and_hands_out_masks_of_its_own(files, monkeypatch):
    """All that it asks of CUDA is made up; a replayed graph writes into the tensors of its capture, as CUDA's does."""
    graphs = []

    class Graph:
        def __init__(self):
            graphs.append(self)

        def replay(self):
            with torch.inference_mode():
                rival._mask.copy_(rival._path(rival._frame))

    stream = SimpleNamespace(synchronize=lambda: None, wait_stream=lambda other: None)
    fake = {"is_available": lambda: True, "Stream": lambda: stream, "current_stream": lambda: stream}
    fake |= {"stream": lambda _: nullcontext(), "graph": lambda _: nullcontext(), "CUDAGraph": Graph}
    for name, value in fake.items():
        monkeypatch.setattr(torch.cuda, name, value)
    on_cpu(monkeypatch)
    rival = open_rival("torch-cuda-graph", [files["torch"]])
    frames = [OF_THE_NETWORK, OF_THE_NETWORK[::-1].copy(), FRAME]
    masks = [rival.segment(frame) for frame in frames]
    for frame, mask in zip(frames, masks, strict=True):
        assert (mask == open_rival("torch", [files["torch"]]).segment(frame)).mean() > SAME_MASK_BF16
    assert len(graphs) == 2  # one a size
    assert not np.array_equal(masks[0], masks[1])
    assert set(rival.stages_ms) == {"preprocess", "network"}


def on_cpu(monkeypatch):
    """What is asked for on "cuda" or in pinned memory is made on the CPU."""
    for name in ("zeros", "empty"):
        real = getattr(torch, name)
        monkeypatch.setattr(
            torch, name, lambda *size, real=real, device=None, pin_memory=None, **named: real(*size, **named)
        )
    move = torch.Tensor.to
    monkeypatch.setattr(
        torch.Tensor, "to", lambda self, *to, **named: self if to == ("cuda",) else move(self, *to, **named)
    )
    move_module = torch.nn.Module.to
    monkeypatch.setattr(
        torch.nn.Module,
        "to",
        lambda self, *to, **named: move_module(self, *(one for one in to if one != "cuda"), **named),
    )


@pytest.mark.parametrize("order", ["RGB", "BGR"])
def test_preparing_is_that_of_the_reference(order):
    preprocess = Preprocess(32, 64, 1 / 255, (0.5, 0.4, 0.3), (0.2, 0.3, 0.25), order)
    ours = normalized(OF_THE_NETWORK, preprocess)
    wanted = reference.preprocess(OF_THE_NETWORK, preprocess)
    assert ours.shape == wanted.shape and np.abs(ours - wanted).max() <= SAME_VALUES * np.abs(wanted).max()


def test_what_is_no_plain_graph_or_program_is_refused(tmp_path):
    with pytest.raises(EngineError, match="no plain graph"):
        open_rival("onnxruntime", [built_engine(tmp_path)])
    with pytest.raises(EngineError, match="does not exist; write one"):
        open_rival("torch", [tmp_path / "none.pt2"])
    (tmp_path / "broken.pt2").write_bytes(b"no archive")
    with pytest.raises(EngineError, match="no torch program of ours"):
        open_rival("torch", [tmp_path / "broken.pt2"])


def test_a_rival_of_a_gpu_that_is_not_here_is_refused(files):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(LibraryError, match="CUDAExecutionProvider"):
        open_rival("onnxruntime-cuda", [files["onnxruntime"]])
    with pytest.raises(LibraryError, match="sees no NVIDIA GPU"):
        open_rival("torch-cuda-graph", [files["torch"]])


def test_a_rival_of_a_gpu_that_falls_back_to_the_cpu_is_refused(files, monkeypatch):
    import onnxruntime

    fallen = SimpleNamespace(get_providers=lambda: ["CPUExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda graph, options, providers: fallen)
    with pytest.raises(LibraryError, match="onnxruntime cannot use its CUDAExecutionProvider here"):
        open_rival("onnxruntime-cuda", [files["onnxruntime"]])


def test_every_rival_can_be_asked_for(files):
    for kind in RIVALS:
        with pytest.raises((EngineError, LibraryError)):
            open_rival(kind, [files["onnxruntime"].with_name("none.engine")])
