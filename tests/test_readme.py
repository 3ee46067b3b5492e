"""README: its Python runs, with an engine and a camera that are made up."""

import re
from pathlib import Path

import pytest

from runtime.errors import FrameError
from runtime.media import camera
from tests.helpers import fake_backend
from tests.helpers.fake_backend import PICTURE
from tests.runtime.media.test_camera import Capture

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
EXAMPLES = re.findall(r"^```python\n(.*?)^```", README, re.M | re.S)


@pytest.fixture
def here(tmp_path, monkeypatch):
    return fake_backend.working_folder(tmp_path, monkeypatch)


def test_there_are_examples_for_a_picture_and_a_camera():
    assert len(EXAMPLES) >= 2 and sum("Camera(" in example for example in EXAMPLES) == 1


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_runs(here, monkeypatch, capsys, example):
    (here / "img.png").write_bytes(PICTURE)
    capture = Capture()
    capture.show(1)
    monkeypatch.setattr(camera, "_opened", lambda given: capture)
    monkeypatch.setattr(camera, "MISS_S", 0.001)
    if "Camera(" in example:
        with pytest.raises(FrameError, match="unplugged"):
            exec(example, {})
    else:
        exec(example, {})
    assert capsys.readouterr().out.count("\n") == 1 and len(example.splitlines()) <= 10
