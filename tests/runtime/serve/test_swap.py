"""Engines that take each other's place, of OpenVINO: the proof is the real one."""

import asyncio
import dataclasses
import shutil
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from runtime.backend import open_backend
from runtime.manifest import manifest_path, read_manifest
from runtime.media.frames import read_frame
from runtime.proof import expected_path
from runtime.samples import STREET
from runtime.serve.bodies import frame_from_body
from runtime.serve.engines import Engines, Named, Opening, named_from_text, opened
from runtime.serve.replies import Refusal
from runtime.serve.swap import Swapper, swap_from_body
from runtime.signature import sign_engine, signature_path, write_keys
from runtime.spec import FITS
from tests.helpers.engines import built_engine, changed
from tests.helpers.fake_backend import PICTURE
from tests.helpers.fake_server import server

TOKEN = "a-token-of-many-letters"
ONE_LANE = Opening(lanes=1)


@pytest.fixture
def folder(tmp_path):
    """Two engines of other weights, a.engine and b.engine."""
    for seed, name in enumerate("ab"):
        built = built_engine(tmp_path / name, seed=seed)
        for place in (Path, manifest_path, expected_path):
            place(built).rename(place(tmp_path / f"{name}.engine"))
    return tmp_path


def copied(source: Path, target: Path) -> None:
    """Put an engine, with all that stands beside it, in the place of another."""
    for place in (expected_path, manifest_path, Path):
        shutil.copy(place(source), place(target))


@pytest.fixture
def swapping(folder):
    """A function: what a `Swapper` over a.engine does in an event loop."""

    def run(work, opening=ONE_LANE):
        async def inside():
            engines = Engines([opened(Named("street", folder / "a.engine"), opening)])
            swapper = Swapper(engines, opening)
            try:
                return await work(engines, swapper)
            finally:
                swapper.close()
                for served in engines:
                    served.close()

        return asyncio.run(inside())

    return run


def mask_of(path):
    with open_backend(path) as engine:
        return engine.segment(read_frame(STREET))


def test_a_new_engine_takes_the_next_request_and_the_old_one_is_closed_after_its_last(folder, swapping):
    frame = read_frame(STREET)

    async def work(engines, swapper):
        old = engines.find("")
        with engines.used(old):
            done = await swapper.replace("", Path("b.engine"))
            new = engines.find("street")
            assert new is not old and done["changed"] and done["engine_sha256"] == new.manifest.engine_sha256
            before = old.segment(frame, None, None).seen.mask
        for _ in range(100):
            if old.pool._shutdown and not old.lanes._backends:
                break
            await asyncio.sleep(0.05)
        with pytest.raises(ValueError, match="closed"):
            old.lanes.segment(frame)
        return before, new.segment(frame, None, None).seen.mask

    before, after = swapping(work)
    assert np.array_equal(before, mask_of(folder / "a.engine")) and np.array_equal(after, mask_of(folder / "b.engine"))
    assert not np.array_equal(before, after)


def damage(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


SPOILT = {
    "a flipped bit": lambda folder: damage(folder / "b.engine"),
    "no manifest": lambda folder: (folder / "b.json").unlink(),
    "no engine": lambda folder: (folder / "b.engine").unlink(),
    "no proof": lambda folder: expected_path(folder / "b.engine").unlink(),
    "another's proof": lambda folder: shutil.copy(
        expected_path(folder / "a.engine"), expected_path(folder / "b.engine")
    ),
}


@pytest.mark.parametrize("how", SPOILT)
def test_an_engine_that_is_not_right_is_refused_and_the_old_one_serves_on(folder, swapping, how):
    async def work(engines, swapper):
        old = engines.find("")
        SPOILT[how](folder)
        with pytest.raises(Refusal) as caught:
            await swapper.replace("street", Path("b.engine"))
        assert caught.value.status == 422 and engines.find("") is old
        assert old.segment(read_frame(STREET), None, None).seen.mask.shape == (360, 480)

    swapping(work)


def test_an_engine_of_other_classes_is_refused(folder, swapping):
    async def work(engines, swapper):
        spec = engines.find("").spec
        changed(folder / "b.engine", spec=dataclasses.replace(spec, classes=spec.classes[::-1]))
        with pytest.raises(Refusal, match="other ones than"):
            await swapper.replace("", Path("b.engine"))

    swapping(work)


def test_the_same_engine_is_left_as_it_is(swapping):
    async def work(engines, swapper):
        old = engines.find("")
        done = await swapper.replace("", None)
        assert not done["changed"] and engines.find("") is old

    swapping(work)


def test_files_of_other_folders_are_not_opened(tmp_path, swapping):
    async def work(engines, swapper):
        for path in ("../b.engine", "/etc/passwd", "b/../../x/b.engine"):
            with pytest.raises(Refusal) as caught:
                await swapper.replace("", Path(path))
            assert caught.value.status == 403

    swapping(work)


def test_a_second_one_is_told_that_another_is_being_loaded(swapping):
    async def work(engines, swapper):
        first = asyncio.ensure_future(swapper.replace("", Path("b.engine")))
        await asyncio.sleep(0)
        with pytest.raises(Refusal) as caught:
            await swapper.replace("", None)
        assert caught.value.status == 409
        first.cancel()  # who asked has left; it goes on
        await swapper._going
        assert engines.find("").path.name == "b.engine"

    swapping(work)


def test_a_key_holds_for_new_engines_too(folder, swapping):
    private, public = write_keys(folder / "fleet")
    sign_engine(folder / "a.engine", read_manifest(folder / "a.engine"), private)
    opening = Opening(lanes=1, require_signed=public)

    async def work(engines, swapper):
        with pytest.raises(Refusal, match="not signed"):
            await swapper.replace("", Path("b.engine"))
        sign_engine(folder / "b.engine", read_manifest(folder / "b.engine"), private)
        assert (await swapper.replace("", Path("b.engine")))["changed"]

    swapping(work, opening)
    assert signature_path(folder / "b.engine").is_file()


def test_another_fit_changes_tables_where_a_frame_lies_elsewhere_by_it_and_not_else(swapping):
    async def work(engines, swapper):
        served = engines.find("")
        size = served.spec.preprocess.height, served.spec.preprocess.width
        (backend,) = served.lanes._backends
        served.segment(np.zeros((*size, 3), np.uint8), "pad", None)
        assert backend.spec.preprocess.fit == served.spec.preprocess.fit == "stretch"
        served.segment(wide_frame(), "pad", None)
        assert backend.spec.preprocess.fit == "pad" and served.spec.preprocess.fit == "stretch"

    swapping(work)


def test_an_engine_whose_file_is_overwritten_serves_on_with_every_fit(folder, swapping):
    wide, expected = wide_frame(), {}
    for fit in FITS:
        with open_backend(folder / "a.engine", fit=fit) as engine:
            expected[fit] = engine.segment(wide)
    assert not np.array_equal(expected["stretch"], expected["pad"])

    async def work(engines, swapper):
        damage(folder / "a.engine")
        with pytest.raises(Refusal, match="damaged"):
            manifest_path(folder / "a.engine").write_bytes(manifest_path(folder / "b.engine").read_bytes())
            await swapper.replace("", None)
        for fit in (*FITS, *FITS[::-1]):
            assert np.array_equal(engines.find("").segment(wide, fit, None).seen.mask, expected[fit])
        assert np.array_equal(engines.find("").segment(wide, None, None).seen.mask, expected["stretch"])

    swapping(work)


def wide_frame():
    return np.ascontiguousarray(np.tile(read_frame(STREET)[:60], (1, 2, 1)))


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b"", ("", None)),
        (b"{}", ("", None)),
        (b'{"path": "x.engine"}', ("", Path("x.engine"))),
        (b'{"name": "a"}', ("a", None)),
    ],
)
def test_what_is_asked_is_a_name_and_a_path(body, found):
    assert swap_from_body(body) == found


@pytest.mark.parametrize(
    "body", [b"x", b"[]", b'{"path": 1}', b'{"path": ""}', b'{"file": "x"}', b'{"path": "a\\u0000"}']
)
def test_what_is_asked_otherwise_is_refused(body):
    with pytest.raises(Refusal) as caught:
        swap_from_body(body)
    assert caught.value.status == 400


def test_an_engine_has_the_name_that_it_is_given_or_that_of_its_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert named_from_text("folder/a.b.engine") == Named("a.b", Path("folder/a.b.engine"))
    assert named_from_text("street=folder/a.engine") == Named("street", Path("folder/a.engine"))
    Path("x=y.engine").touch()
    assert named_from_text("x=y.engine") == Named("x=y", Path("x=y.engine"))


@pytest.mark.serve
def test_requests_notice_nothing_of_a_new_engine_and_nothing_of_a_damaged_one(folder, tmp_path):
    (folder / "token").write_text(TOKEN)
    masks = [mask_of_picture(folder / f"{name}.engine").tobytes() for name in "ab"]
    shutil.copytree(folder, served := tmp_path / "served", ignore=shutil.ignore_patterns("served"))
    options = ("--engine", f"street={served / 'a.engine'}", "--admin-token-file", folder / "token")
    with server(*options, folder=tmp_path, module="runtime.serve") as found:
        stop, seen = threading.Event(), []

        def ask():
            while not stop.is_set():
                answer = found.segment(PICTURE, "?as=raw")
                seen.append((answer.status, answer.body))

        asking = threading.Thread(target=ask)
        asking.start()
        try:
            assert found.ask("POST", "/engine", b"{}").status == 401
            admin = {"Authorization": f"Bearer {TOKEN}"}
            done = found.ask("POST", "/engine", b'{"path": "b.engine"}', admin)
            assert done.status == 200 and done.values["changed"]
            damage(served / "a.engine")
            refused = found.ask("POST", "/engine", b'{"path": "a.engine"}', admin)
            assert refused.status == 422 and "damaged" in refused.values["error"]
            assert found.segment(PICTURE, "?as=raw").body == masks[1]
            copied(folder / "a.engine", served / "b.engine")
            found.process.send_signal(signal.SIGHUP)
            until = time.monotonic() + 20
            while found.segment(PICTURE, "?as=raw").body != masks[0] and time.monotonic() < until:
                time.sleep(0.1)
            assert found.segment(PICTURE, "?as=raw").body == masks[0]
        finally:
            stop.set()
            asking.join()
        assert {status for status, _ in seen} == {200} and {body for _, body in seen} == set(masks)
        assert found.end() == 0


def mask_of_picture(path):
    with open_backend(path) as engine:
        return engine.segment(frame_from_body(PICTURE, {}))
