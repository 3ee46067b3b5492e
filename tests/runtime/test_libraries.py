import signal
import subprocess
import sys
import threading
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest

from calib.graphs import graph_from_bytes
from engines.build import read_spec
from engines.openvino_build import build as build_openvino
from runtime.errors import EngineError, FrameError, GraphError, OutputError
from runtime.libraries import refusing, signals_held
from runtime.media.frames import opencv_decoded
from runtime.media.recording import VideoWriter
from runtime.media.video import VideoReader, refusing_video
from tests.helpers.graphs import tiny_graph


class Unheard(Exception):
    """What no list of exceptions has."""


def raiser(error):
    def call(*_, **__):
        raise error

    return call


@pytest.mark.parametrize("error", [Unheard("a\nb"), RuntimeError(), TypeError("x" * 10**5), AssertionError("no")])
def test_whatever_a_library_raises_is_one_line_of_our_error(error):
    with pytest.raises(EngineError) as told, refusing(EngineError, "it refuses", "; do this"):
        raise error
    assert str(told.value).startswith("it refuses (") and str(told.value).endswith("; do this")
    assert len(str(told.value)) < 400 and "\n" not in str(told.value)


@pytest.mark.parametrize("error", [MemoryError(), KeyboardInterrupt(), SystemExit(3), OutputError("ours")])
@pytest.mark.parametrize("within", [lambda: refusing(FrameError, "x"), lambda: refusing_video(FrameError, "x")])
def test_what_is_not_the_librarys_passes(within, error):
    with pytest.raises(type(error)) as passed, within():
        raise error
    assert passed.value is error


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_for_the_library_and_its_handler_comes_then(number):
    before, seen = signal.signal(number, lambda *of: seen.append(of[0])), []
    ours = signal.getsignal(number)
    try:
        with signals_held() as asked:
            assert not asked.is_set()
            for _ in range(2):
                signal.raise_signal(number)
            assert asked.is_set() and seen == []
        assert seen == [number, number] and signal.getsignal(number) is ours
    finally:
        signal.signal(number, before)


def test_holds_lie_within_each_other_and_every_handler_is_called_although_one_raises(handler_of_ctrl_c):
    seen = []
    before = signal.signal(signal.SIGTERM, lambda *_: seen.append("term"))
    ours = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(KeyboardInterrupt), signals_held() as outer:
            with signals_held() as inner:
                signal.raise_signal(signal.SIGINT)
                signal.raise_signal(signal.SIGTERM)
                assert inner.is_set() and not outer.is_set()
            assert outer.is_set() and seen == []
        assert seen == ["term"]
        assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == [handler_of_ctrl_c, ours]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_handler_that_is_left_behind_is_the_one_of_before(handler_of_ctrl_c):
    with signals_held():
        left = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, left)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), signals_held() as asked:
        signal.raise_signal(signal.SIGINT)
        assert asked.is_set()
    assert signal.getsignal(signal.SIGINT) is left


def test_what_the_library_s_callback_set_meanwhile_stays(handler_of_ctrl_c):
    with signals_held():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_ctrl_c_comes_before_what_the_library_says_of_it(handler_of_ctrl_c):
    with pytest.raises(KeyboardInterrupt), refusing(EngineError, "x"), signals_held():
        signal.raise_signal(signal.SIGINT)
        raise RuntimeError("stopped")
    assert signal.getsignal(signal.SIGINT) is handler_of_ctrl_c


def test_what_ends_a_process_at_once_still_does_and_other_threads_hold_nothing(handler_of_ctrl_c):
    code = "import signal\nfrom runtime.libraries import signals_held\nwith signals_held(): signal.raise_signal(15)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGTERM
    handlers = []

    def elsewhere():
        with signals_held():
            handlers.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert handlers == [handler_of_ctrl_c]


@pytest.fixture
def handler_of_ctrl_c():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield signal.default_int_handler
    signal.signal(signal.SIGINT, before)


def test_ffmpegs_want_of_memory_is_of_its_file_and_not_called_damage():
    from av.error import MemoryError as NoMemory

    with pytest.raises(FrameError, match=r"^x \(FFmpeg has not enough memory"), refusing_video(FrameError, "x"):
        raise NoMemory(12, "Cannot allocate memory")


def test_opencv(monkeypatch):
    import cv2

    monkeypatch.setattr(cv2, "imdecode", raiser(Unheard("opencv")))
    with pytest.raises(FrameError, match="opencv"):
        opencv_decoded(b"x", 1)
    monkeypatch.setattr(cv2, "imdecode", raiser(MemoryError()))
    with pytest.raises(MemoryError):
        opencv_decoded(b"x", 1)


def test_pyav_while_it_opens_decodes_and_writes(monkeypatch, tmp_path):
    pixels = np.zeros((32, 64, 3), np.uint8)
    path = _written(tmp_path / "a.mp4", pixels)
    import av

    with VideoReader(path) as reader:
        monkeypatch.setattr(reader._decoding, "_decoder", _Decoder)
        with pytest.raises(FrameError, match="is damaged"):
            reader.read()
    monkeypatch.setattr(av, "open", raiser(Unheard("pyav")))
    with pytest.raises(FrameError, match="pyav"):
        VideoReader(path)


class _Decoder:
    name, height, width = "h264", 32, 64
    decode = staticmethod(raiser(Unheard("pyav")))


def _written(path, pixels):
    writer = VideoWriter(path, pixels, Fraction(25), Fraction(1, 25))
    for i in range(3):
        writer.write(pixels, i)
    writer.close()
    return path


def test_onnx(monkeypatch):
    monkeypatch.setattr("onnx.load_from_string", raiser(Unheard("onnx")))
    with pytest.raises(GraphError, match="onnx"):
        graph_from_bytes(b"x")
    with pytest.raises(GraphError, match="onnx"):
        read_spec(b"x")


def test_onnxruntime_while_it_opens_and_runs(monkeypatch):
    import onnxruntime

    from engines.onnxruntime_build import build
    from engines.proof import referee_of

    graph = tiny_graph(None, "fp32")
    spec = read_spec(graph)
    with referee_of(graph, spec, "fp32") as backend:
        backend._session = SimpleNamespace(run=raiser(Unheard("ort")))
        with pytest.raises(EngineError, match=r"cannot run the engine of .*ort"):
            backend.segment(np.zeros((32, 64, 3), np.uint8))
    monkeypatch.setattr(onnxruntime, "InferenceSession", raiser(Unheard("ort")))
    with pytest.raises(EngineError, match=r"onnxruntime refuses the graph.*ort"):
        build(graph, spec, "fp32", "onnxruntime")


def test_openvino(monkeypatch):
    import openvino

    graph = tiny_graph(None, "fp32")
    monkeypatch.setattr(openvino, "Core", raiser(Unheard("vino")))
    with pytest.raises(EngineError, match=r"OpenVINO refuses the graph.*vino"):
        build_openvino(graph, read_spec(graph), "fp32", "openvino")


def test_torch(monkeypatch, tmp_path):
    import zipfile

    import torch

    from runtime.measure.rivals import torch_program

    path = tmp_path / "a.pt2"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("x", b"x")
    monkeypatch.setattr(torch.export, "load", raiser(Unheard("torch")))
    with pytest.raises(EngineError, match=r"no torch program of ours.*torch"):
        torch_program(path)


def test_tensorrt(monkeypatch):
    from engines import tensorrt_build

    fake = SimpleNamespace(__name__="tensorrt", Builder=raiser(Unheard("trt")))
    monkeypatch.setattr(tensorrt_build, "target", lambda _: None)
    monkeypatch.setattr(tensorrt_build, "library", lambda _: fake)
    monkeypatch.setattr(tensorrt_build, "log_of", lambda _: SimpleNamespace(clear=lambda: None))
    graph = tiny_graph(None, "fp32")
    with pytest.raises(EngineError, match=r"tensorrt refuses the graph.*trt"):
        tensorrt_build.build(graph, read_spec(graph), "fp32", "tensorrt")


def test_want_of_memory_is_said_as_that(monkeypatch, capsys):
    from runtime import cli

    monkeypatch.setattr(sys, "argv", ["x"])
    with pytest.raises(SystemExit) as ended:
        cli.run(raiser(MemoryError("Unable to allocate 9 GiB")))
    assert ended.value.code == cli.FAILED
    assert capsys.readouterr().err.startswith("error: there is not enough memory (Unable to allocate 9 GiB)")
