import dataclasses
import errno
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from runtime import cli, infer
from runtime.media.frames import read_frame
from tests.helpers import fake_backend, pictures
from tests.helpers.fake_backend import CHOSEN, PICTURE, TARGET, files_below, write_fake_engine
from tests.helpers.pictures import gradient, lossless

ROOT = Path(__file__).parents[2]


@pytest.fixture
def here(tmp_path, monkeypatch):
    return fake_backend.working_folder(tmp_path, monkeypatch)


def run(*argv: str, monkeypatch) -> int:
    """The exit code of the command as a user starts it, in this process."""
    monkeypatch.setattr(sys, "argv", ["infer", *argv])
    with pytest.raises(SystemExit) as caught:
        cli.run(infer.main)
    return int(caught.value.code)


BAD_PICTURES = {
    "empty": b"",
    "truncated": PICTURE[: len(PICTURE) // 2],
    "text": b"this is not an image",
    "one_pixel": lossless(".png", np.zeros((1, 1, 3), np.uint8)),
    "too_large": pictures.png([bytes(10000)] * 10000, 10000, 8, 0),
    "changed": PICTURE[:200] + b"\0" * 9 + PICTURE[209:],
    "float": pictures.encoded(".tiff", np.zeros((20, 20, 3), np.float32)),
}


@pytest.mark.parametrize("bad", [*BAD_PICTURES, "missing"])
def test_a_bad_picture_is_one_line_and_exit_code_1(here, capfd, monkeypatch, bad):
    if bad in BAD_PICTURES:
        (here / f"{bad}.png").write_bytes(BAD_PICTURES[bad])
    assert run(f"{bad}.png", "-o", "out", monkeypatch=monkeypatch) == cli.FAILED
    printed = capfd.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 2 and printed.err.startswith(f"{CHOSEN}error: {bad}.png: ")
    assert files_below(here / "out") == []


def test_the_rest_goes_on_after_bad_pictures(here, capfd, monkeypatch):
    (here / "in").mkdir()
    for name, data in BAD_PICTURES.items():
        (here / "in" / f"{name}.png").write_bytes(data)
    (here / "in" / "zebra.png").write_bytes(PICTURE)
    assert run("a.png", "in", "missing.png", "-o", "out", "--save", "overlay", monkeypatch=monkeypatch) == cli.FAILED
    lines = capfd.readouterr().err.removeprefix(CHOSEN).splitlines()
    bad = len(BAD_PICTURES) + 1
    assert len(lines) == bad + 1 and lines[-1] == f"error: {bad} of {bad + 2} inputs failed, 2 done"
    assert {name.split("_")[0] for name in files_below(here / "out")} == {"a", "in/zebra"}


def damaged(engine: Path) -> None:
    engine.write_bytes(engine.read_bytes() + b" ")


def foreign(engine: Path) -> None:
    write_fake_engine(engine.parent, target=dataclasses.replace(TARGET, device="slide rule"))


BAD_ENGINES = {
    "does not exist": lambda engine: engine.unlink(),
    "is a folder": lambda engine: (engine.unlink(), engine.mkdir()),
    "has no manifest": lambda engine: engine.with_suffix(".json").unlink(),
    "is not readable": lambda engine: engine.with_suffix(".json").write_text("{"),
    "is damaged or edited": damaged,
    "does not match this machine": foreign,
}


@pytest.mark.parametrize("said", BAD_ENGINES)
def test_a_bad_engine_is_one_line_with_the_command_that_builds_one(here, capfd, monkeypatch, said):
    engine = here / "artifacts" / "engines" / "icnet-fp16.engine"
    BAD_ENGINES[said](engine)
    assert run("a.png", "--engine", str(engine), "-o", "out", monkeypatch=monkeypatch) == cli.FAILED
    printed = capfd.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1
    assert said in printed.err and "streetseg engine" in printed.err
    assert not (here / "out").exists()


def test_without_an_engine_one_line_names_the_command(here, capfd, monkeypatch):
    for path in (here / "artifacts" / "engines").iterdir():
        path.unlink()
    assert run("a.png", monkeypatch=monkeypatch) == cli.FAILED
    err = capfd.readouterr().err
    assert err.count("\n") == 1 and "streetseg engine --model icnet --precision fp16" in err


@pytest.mark.parametrize("given", ["empty_folder", "*.tiff"])
def test_nothing_to_do_is_one_line(here, capfd, monkeypatch, given):
    (here / "empty_folder").mkdir()
    assert run(given, monkeypatch=monkeypatch) == cli.FAILED
    err = capfd.readouterr().err
    assert err.count("\n") == 1 and "no image" in err


@pytest.mark.parametrize("output", ["a.png", "a.png/sub", "/dev/null/out"])
def test_an_output_folder_that_cannot_be_is_one_line(here, capfd, monkeypatch, output):
    assert run("a.png", "-o", output, monkeypatch=monkeypatch) == cli.FAILED
    err = capfd.readouterr().err.removeprefix(CHOSEN)
    assert err.count("\n") == 1 and "cannot be written" in err and fake_backend.opened[0].segmented == 0


def test_a_folder_without_write_permission_is_found_before_the_work(here, capfd, monkeypatch):
    def refuse(**_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    assert run("a.png", "-o", "out", monkeypatch=monkeypatch) == cli.FAILED
    assert "output folder out cannot be written (Permission denied)" in capfd.readouterr().err
    assert fake_backend.opened[0].segmented == 0


def test_a_full_disk_is_one_line_and_leaves_no_half_file(here, capfd, monkeypatch):
    real = os.fdopen

    def nearly_full(handle, mode):
        file = real(handle, mode)

        class Full:
            def __enter__(self):
                return self

            def __exit__(self, *_):
                file.close()

            def write(self, data):
                file.write(data[: len(data) // 2])
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        return Full()

    monkeypatch.setattr(os, "fdopen", nearly_full)
    assert run("a.png", "-o", "out", monkeypatch=monkeypatch) == cli.FAILED
    err = capfd.readouterr().err.removeprefix(CHOSEN)
    assert err.count("\n") == 1 and "out/a_png_ids.png cannot be written (No space left on device)" in err
    assert "free some space" in err and list((here / "out").iterdir()) == []


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["a.png", "--save", "ids,masks"],
        ["a.png", "--save", ""],
        ["a.png", "--alpha", "1.5"],
        ["a.png", "--alpha", "half"],
        ["a.png", "--warmup", "-1"],
        ["a.png", "--warmup", "99999999999999999999"],
        ["rtsp://admin:hunter2@host/x", "a.png"],
        ["a.png", "--nonsense"],
    ],
)
def test_wrong_usage_is_exit_code_2(here, capfd, monkeypatch, argv):
    assert run(*argv, monkeypatch=monkeypatch) == cli.USAGE
    err = capfd.readouterr().err
    assert "Traceback" not in err and "hunter2" not in err and not (here / "artifacts" / "masks").exists()


# From here on as a program of its own.


def started(folder: Path, *argv: str, module: str = "tests.helpers.fake_backend", limit_bytes: int = 0):
    def prepare():
        # A shell's background job ignores Ctrl-C, and its children would too.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if limit_bytes:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))

    return subprocess.Popen(
        [sys.executable, "-m", module, *argv],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=prepare,
    )


def test_the_program_segments(here):
    process = started(here, "a.png", "-o", "out")
    out, err = process.communicate(timeout=60)
    assert process.returncode == cli.DONE and out.startswith("out/a_png_ids.png\nout/a_png_color.png\n")
    assert err.startswith(f"{CHOSEN}out/a_png_ids.png holds class ids 0..10") and err.count("\n") == 2


def test_a_write_that_the_system_cuts_short_is_one_line_and_no_half_file(here):
    noise = np.random.default_rng(0).integers(0, 255, (200, 200, 3)).astype(np.uint8)
    (here / "noise.png").write_bytes(lossless(".png", noise))
    process = started(here, "noise.png", "-o", "out", limit_bytes=1000)
    _, err = process.communicate(timeout=60)
    assert process.returncode == cli.FAILED
    assert err == CHOSEN + "error: out/noise_png_ids.png cannot be written (File too large): " + err.split("): ")[1]
    assert err.count("\n") == 2 and list((here / "out").iterdir()) == []


def test_ctrl_c_is_one_line_and_every_file_is_whole(here):
    write_fake_engine(here / "artifacts" / "engines", delay_s=0.1)
    for i in range(300):
        (here / f"b{i}.png").write_bytes(PICTURE)
    process = started(here, ".", "-o", "out")
    give_up = time.monotonic() + 60
    while not list(here.glob("out/*_overlay.png")) and time.monotonic() < give_up:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == cli.INTERRUPTED
    assert err == CHOSEN + "error: interrupted; what was finished is kept\n"
    written = files_below(here / "out")
    assert 0 < len(written) < 300 * 3 and sorted(f"out/{name}" for name in written) == sorted(out.split())
    assert all(read_frame(here / "out" / name).shape == gradient().shape for name in written)


def test_the_program_without_any_engine_or_picture_has_no_traceback(tmp_path):
    process = started(tmp_path, "missing.png", module="runtime.infer")
    out, err = process.communicate(timeout=60)
    assert process.returncode == cli.FAILED and out == ""
    assert err.count("\n") == 1 and "streetseg engine --model icnet --precision fp16" in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_long_warm_up(here, number):
    write_fake_engine(here / "artifacts" / "engines", delay_s=0.05)
    process = started(here, "a.png", "-o", "out", "--warmup", "1000000")
    give_up = time.monotonic() + 60
    while not (here / "out").is_dir() and time.monotonic() < give_up:  # made before the warm-up begins
        time.sleep(0.02)
    time.sleep(0.3)
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert process.returncode == cli.INTERRUPTED and out == "" and files_below(here / "out") == []
    assert err == CHOSEN + "error: interrupted; what was finished is kept\n"
