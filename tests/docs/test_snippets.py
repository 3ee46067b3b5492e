"""README and the pages: their Python runs, their commands are there, and what is not run says why."""

import json

import pytest

from runtime.errors import FrameError
from runtime.media import camera
from runtime.media.reconnecting import Reconnecting
from tests.helpers import fake_backend, snippets
from tests.helpers.fake_backend import PICTURE
from tests.helpers.snippets import PAGES, ROOT, SHELL, Block, blocks, commands, complaint, spans
from tests.runtime.media.test_camera import Capture

BLOCKS = [block for page in PAGES for block in blocks(page)]
OURS = ("make ", "python -m ", "streetseg ", "$ make", "$ python", "$ streetseg", "import ", "from ", ".venv/bin")
# What a reader sees and nothing runs: what a command printed, a drawing, a file.
SHOWN = ("text", "", "json", "yaml", "toml", "ini", "markdown", "md", "xml", "dockerfile", "diff")


def ids(block: Block) -> str:
    return str(block)


def of(*languages: str) -> list[Block]:
    return [block for block in BLOCKS if block.language in languages and not block.reason]


class Impatient(Reconnecting):
    """A camera that is lost is not waited for."""

    def __init__(self, *args, **options):
        super().__init__(*args, **{**options, "patience_s": 0})


@pytest.fixture
def here(tmp_path, monkeypatch):
    folder = fake_backend.working_folder(tmp_path, monkeypatch)
    for name in ("img.png", "frame.png", "street.png"):
        (folder / name).write_bytes(PICTURE)
    capture = Capture()
    capture.show(1)
    monkeypatch.setattr(camera, "_opened", lambda given: capture)
    monkeypatch.setattr(camera, "MISS_S", 0.001)
    monkeypatch.setattr(camera, "Reconnecting", Impatient)
    return folder


@pytest.mark.parametrize("block", of("python", "py"), ids=ids)
def test_an_example_runs_with_an_engine_and_a_camera_that_are_made_up(here, capsys, block):
    code = compile(block.code, str(block), "exec")
    if "Camera(" in block.code:
        with pytest.raises(FrameError, match="unplugged"):
            exec(code, {})
    else:
        exec(code, {})
    assert capsys.readouterr().out.strip()


def test_readme_has_a_short_example_of_a_picture_and_a_page_one_of_a_camera():
    (example,) = (block for block in of("python") if block.page == ROOT / "README.md")
    assert "read_frame" in example.code and len(example.code.splitlines()) <= 8
    assert any("Camera(" in block.code for block in of("python"))


@pytest.mark.parametrize("block", of(*SHELL, "indented"), ids=ids)
def test_a_shell_block_asks_for_what_is_there(block):
    if block.language == "indented" and not block.code.startswith(OURS):
        return  # a drawing, or the words of a list
    found = {" ".join(words): said for words in commands(block) if (said := complaint(words))}
    assert found == {}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_command_in_running_text_asks_for_what_is_there(page):
    found = {span: said for span in spans(page) for words in snippets._split(span) if (said := asked(words))}
    assert found == {}


def asked(words: list[str]) -> str:
    said = complaint(words, whole=False)
    return "" if said.endswith("is no command that is known here") else said


@pytest.mark.parametrize("block", of("json"), ids=ids)
def test_a_json_file_that_is_shown_is_one(block):
    json.loads(block.code)


@pytest.mark.parametrize("block", [block for block in BLOCKS if not block.reason], ids=ids)
def test_a_block_is_of_a_language_that_is_checked_or_is_only_shown(block):
    assert block.language in (*SHELL, "python", "py", "indented", *SHOWN)
    if block.language in ("text", ""):
        assert not block.code.lstrip().startswith(OURS), "commands and Python stand in a block of their language"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("make engine MODEL=enet PRECISION=int8", ""),
        ("make engine model=enet", "make engine takes no model"),
        ("make engin", "make has no target engin"),
        ("make bench BATCH=4", "make bench takes no BATCH"),
        ("python -m runtime.infer a.png b.mp4 --lanes 2", ""),
        ("python -m runtime.infer a.png --lane", "has no option --lane"),
        ("python -m runtime.infer a.png --lanes many", "argument --lanes: "),
        ("python -m runtime.infer", "the following arguments are required: INPUT"),
        ("python -m runtime.infr a.png", "there is no module runtime.infr"),
        ("python -m nothing.infer a.png", "there is no module nothing.infer"),
        ("python -m engines.revision main --rounds 3 --size 64x128", ""),
        ("python -m engines.revision main --round 3", "has no option --round"),
        (".venv/bin/pip install -e '.[video]'", ""),
        ("pip install '.[vidio,export]'", "there is no extra vidio"),
        ("python docs/pictures.py", "there is no docs/pictures.py"),
        ("streetseg infer img.png --lanes 2", ""),
        ("streetseg infr img.png", "streetseg has no command infr"),
        ("streetseg infer img.png --lane", "streetseg infer has no option --lane"),
        ("streetseg --version", ""),
        ("frobnicate img.png", "frobnicate is no command that is known here"),
        ("cd x && make nothing > log | head", "make has no target nothing"),
        ("make bench  # make nothing", ""),
        ("make prune ... WEIGHTS=x", ""),
    ],
)
def test_what_is_not_there_is_found(line, said):
    complaints = list(filter(None, map(complaint, snippets._split(line))))
    assert len(complaints) == bool(said) and all(said in found for found in complaints)


def test_blocks_are_found_where_a_page_has_them(tmp_path, monkeypatch):
    monkeypatch.setattr(snippets, "ROOT", tmp_path)
    page = tmp_path / "page.md"
    page.write_text(
        "Words:\n\n    make a\n    make b\n\nand\n\n```sh\nmake c \\\n  D=1\n```\n\n- x\n\n"
        "    ```console\n    $ make e\n    done\n    ```\n\n"
        "<!-- not run: it takes\na night -->\n```python\nx\n```\n\n```text\ny\n```\n`make f` and `x`\n"
    )
    found = blocks(page)
    assert [(block.language, block.line) for block in found] == [
        ("indented", 3), ("sh", 8), ("console", 15), ("python", 22), ("text", 26),
    ]  # fmt: skip
    assert [block.reason for block in found] == ["", "", "", "it takes\na night", ""]
    assert [commands(block) for block in found[:3]] == [
        [["make", "a"], ["make", "b"]], [["make", "c", "D=1"]], [["make", "e"]],
    ]  # fmt: skip
    assert spans(page) == ["make f"]
