"""How many threads work: affinity, control groups and what the user asks."""

import json
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import runtime
import streetseg
from runtime import infer, threads
from runtime.backends import onnxruntime as onnxruntime_backend
from runtime.backends.openvino import compile_options
from runtime.kernels import cpu
from runtime.measure.fingerprint import machine
from runtime.media import pictures
from runtime.media.video import VideoReader
from tests.helpers import fake_backend, videos
from tests.helpers.engines import built_engine
from tests.helpers.graphs import tiny_spec

ODD = (0, -1, True, 1.5, "2", 4097, 10**30, float("nan"), [1])


def process(folder, mounts, groups, **files):
    """A /proc/self whose control groups lie in `folder`: mounts are (root, place, kind, options)."""
    lines = [f"30 20 0:26 {root} {folder / place} rw - {kind} x rw,{options}" for root, place, kind, options in mounts]
    (folder / "mountinfo").write_text("\n".join(["1 2 3", *lines]) + "\n")
    (folder / "cgroup").write_text("\n".join(groups) + "\n")
    for name, text in files.items():
        path = folder / name.replace("__", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


V2 = [("/", "unified", "cgroup2", "nsdelegate")]
V1 = [("/", "cpu", "cgroup", "cpu,cpuacct"), ("/", "memory", "cgroup", "memory")]


@pytest.mark.parametrize(
    ("text", "cores"), [("150000 100000\n", 1.5), ("max 100000", None), ("x", None), ("", None), ("5 0", None)]
)
def test_a_quota_of_version_2_is_read(tmp_path, text, cores):
    assert threads.quota(process(tmp_path, V2, ["0::/"], **{"unified/cpu.max": text})) == cores


@pytest.mark.parametrize(("quota", "cores"), [("250000\n", 2.5), ("-1", None), ("0", None)])
def test_a_quota_of_version_1_is_read(tmp_path, quota, cores):
    files = {"cpu/cpu.cfs_quota_us": quota, "cpu/cpu.cfs_period_us": "100000"}
    assert threads.quota(process(tmp_path, V1, ["4:cpu,cpuacct:/", "3:memory:/"], **files)) == cores


def test_of_groups_within_groups_the_least_quota_counts(tmp_path):
    files = {
        "unified/cpu.max": "max 100000",
        "unified/a/cpu.max": "200000 100000",
        "unified/a/b/cpu.max": "300000 100000",
    }
    assert threads.quota(process(tmp_path, V2, ["0::/a/b/c"], **files, **{"unified/a/b/c/cpu.max": "max 1"})) == 2


def test_in_a_container_a_group_is_found_below_its_mount_or_is_the_mount(tmp_path):
    files = {"unified/cpu.max": "100000 100000", "unified/in/cpu.max": "50000 100000"}
    root = [("/docker/abc", "unified", "cgroup2", "")]
    assert threads.quota(process(tmp_path, root, ["0::/docker/abc/in"], **files)) == 0.5
    for other in ("/docker/abc", "/elsewhere", "/docker/abc/gone", "/../.."):
        assert threads.quota(process(tmp_path, root, [f"0::{other}"], **files)) == 1


def test_a_place_with_a_blank_is_found(tmp_path):
    folder = process(tmp_path, V2, ["0::/"], **{"uni fied/cpu.max": "100000 100000"})
    (folder / "mountinfo").write_text(f"30 20 0:26 / {folder}/uni\\040fied rw - cgroup2 x rw")
    assert threads.quota(folder) == 1


def test_both_versions_at_once_are_read_and_a_system_without_either_has_no_quota(tmp_path):
    files = {"unified/cpu.max": "400000 100000", "cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000"}
    assert threads.quota(process(tmp_path, V1 + V2, ["4:cpu:/", "0::/"], **files)) == 3
    assert threads.quota(tmp_path / "none") is None
    (tmp_path / "mountinfo").write_text("")
    assert threads.quota(tmp_path) is None


@pytest.mark.parametrize(
    ("affinity", "quota", "asked", "count", "bound"),
    [(8, None, None, 8, None), (8, 2.5, None, 3, 3), (8, 0.2, None, 1, 1), (2, 6.0, None, 2, None), (8, None, 3, 3, 3),
     (8, 2.0, 5, 2, 2), (8, None, 8, 8, 8), (4, None, 64, 4, 4)],
)  # fmt: skip
def test_the_least_of_affinity_quota_and_wish_counts(monkeypatch, affinity, quota, asked, count, bound):
    monkeypatch.setattr(threads, "affinity", lambda: affinity)
    monkeypatch.setattr(threads, "quota", lambda: quota)
    with threads.limited(asked):
        assert (threads.count(), threads.bound()) == (count, bound)
    assert threads.asked() is None


def test_a_wish_within_a_wish_takes_its_place_and_none_leaves_it():
    with threads.limited(3):
        with threads.limited(1):
            assert threads.asked() == 1
        with threads.limited(None):
            assert threads.asked() == 3


def test_the_affinity_is_this_process_s():
    def one():
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # of this thread alone
        return threads.affinity(), threads.count()

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(one).result() == (1, 1)


@pytest.mark.parametrize("odd", ODD, ids=repr)
def test_an_odd_number_of_threads_is_refused_in_one_line(odd, tmp_path):
    for call in (
        lambda: runtime.open_backend(tmp_path / "none.engine", threads=odd),
        lambda: runtime.open_lanes(tmp_path / "none.engine", threads=odd),
        lambda: streetseg.open(tmp_path / "none.engine", threads=odd),
        lambda: streetseg.evaluate(tmp_path / "none.engine", data=tmp_path, threads=odd),
    ):
        with pytest.raises(ValueError, match=r"^threads is a whole number from 1 to 4096, got .{1,40}$"):
            call()


@pytest.mark.parametrize("odd", ["0", "-1", "two", "1.5", "4097", "9" * 5000, ""])
@pytest.mark.parametrize("command", ["infer", "evaluate", "bench", "bench_files", "regress"])
def test_every_command_refuses_an_odd_number_of_threads(command, odd, capsys):
    with pytest.raises(SystemExit) as ended:
        streetseg_main(command)([f"--threads={odd}"])
    said = capsys.readouterr().err
    assert ended.value.code == 2 and "is no number of threads, 1 to 4096" in said and len(said.splitlines()[-1]) < 200


def streetseg_main(command):
    import importlib

    return importlib.import_module(f"runtime.{command}").main


def test_every_library_follows(monkeypatch, tmp_path):
    monkeypatch.setattr(threads, "affinity", lambda: 6)
    monkeypatch.setattr(threads, "quota", lambda: None)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    videos.write_video(tmp_path / "a.mp4", videos.moving(2))
    for asked, workers in ((1, 1), (2, 1), (5, 2)):
        with threads.limited(asked), VideoReader(tmp_path / "a.mp4") as video:
            assert compile_options("f32")["INFERENCE_NUM_THREADS"] == str(asked)
            assert onnxruntime_backend.session_options().intra_op_num_threads == asked
            assert cpu.Segmenter(tiny_spec())._threads == cpu.FrameResizer(tiny_spec().preprocess)._threads == asked
            assert pictures.workers() == workers
            assert video._stream.codec_context.thread_count == asked
            assert machine()["threads"] == asked
    assert "INFERENCE_NUM_THREADS" not in compile_options("f32")  # it chooses best by itself
    monkeypatch.setattr(threads, "quota", lambda: 2.0)
    assert compile_options("f32")["INFERENCE_NUM_THREADS"] == "2"
    assert onnxruntime_backend.session_options().intra_op_num_threads == 2


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_masks_do_not_depend_on_the_number_of_threads(tmp_path, backend):
    path = built_engine(tmp_path, backend=backend)
    frame = np.random.default_rng(0).integers(0, 256, (40, 70, 3), np.uint8)
    found = []
    for number in (1, 2, None):
        with runtime.open_backend(path, threads=number) as engine, runtime.open_lanes(path, 2, threads=number) as lanes:
            found += [engine.segment(frame), lanes.segment(frame)]
    assert all(np.array_equal(mask, found[0]) for mask in found)


def test_opencv_is_held_while_a_command_runs_and_has_its_threads_back(tmp_path, monkeypatch, capsys):
    import cv2

    here, before, found = fake_backend.working_folder(tmp_path, monkeypatch), cv2.getNumThreads(), []
    monkeypatch.setattr(infer.Session, "do", lambda *_: found.append((cv2.getNumThreads(), threads.count())))
    infer.main([str(here / "a.png"), "--threads", "1", "--json"])
    assert found == [(1, 1)] and cv2.getNumThreads() == before
    assert json.loads(capsys.readouterr().out)["threads"] == 1


def test_more_threads_than_there_are_is_said(capsys):
    with threads.for_command(4000):
        assert threads.count() == threads.usable()
    said = f"--threads 4000: this process may use {threads.usable()}, by its affinity and cgroup, and uses those\n"
    assert capsys.readouterr().err == said
