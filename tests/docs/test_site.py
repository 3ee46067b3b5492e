"""README as a door, and the site: what it is made of, what it refuses, and that it is built strictly."""

import argparse
import importlib.util
import json
import os
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest

from runtime.artifacts import sha256_of
from runtime.measure.bench.tables import quickest, read_document
from tests.helpers.snippets import PAGES, ROOT, hooks

README = (ROOT / "README.md").read_text()
MOST_LINES, MOST_CHARACTERS = 200, 120
MOST_PICTURE_BYTES = 500_000
LINK = re.compile(r"\]\(([^)#\s]+)")


def test_readme_is_a_door():
    lines = README.splitlines()
    assert len(lines) <= MOST_LINES
    assert [line for line in lines if len(line) > MOST_CHARACTERS] == []


@pytest.mark.parametrize("typed", ["make demo", "make test", "make engine MODEL=icnet PRECISION=fp16",
                                   "python -m runtime.infer img.png"])  # fmt: skip
def test_readme_shows_what_users_type_word_for_word(typed):
    assert re.search(rf"^(?:\$ )?{re.escape(typed)}$", README, re.M)


def test_the_picture_is_in_readme_and_small():
    (picture,) = re.findall(r"!\[[^\]]+\]\((\S+)\)", README)
    assert 50_000 < (ROOT / picture).stat().st_size < MOST_PICTURE_BYTES


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_link_within_the_tree_leads_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    places = [place for place in LINK.findall(text) if not re.match(r"[a-z]+:", place)]
    assert [place for place in places if not (page.parent / place).exists()] == []


def test_every_page_is_in_the_nav_once():
    nav = (ROOT / "mkdocs.yml").read_text().partition("\nnav:")[2]
    assert sorted(re.findall(r": (\S+\.md)$", nav, re.M)) == [page.name for page in PAGES if page.parent != ROOT]


def test_times_of_other_weights_than_the_shipped_ones_are_said_to_be_so():
    documents = quickest([read_document(path) for path in sorted((ROOT / "figures").glob("bench-*.json"))])
    engines = [document["fingerprint"]["engine"] for document in documents]
    shipped = {name: sha256_of(ROOT / f"export/weights/{name}-camvid.safetensors") for name in ("enet", "icnet")}
    other = any(engine["weights_sha256"] != shipped[engine["model"]] for engine in engines)
    assert ("of earlier weights" in README) == other


def test_the_accuracies_that_readme_tells_are_the_measured_ones():
    rows = re.findall(r"^\| ([\w-]+) \| ([\d.]+) \|(?: ([\d.]+) at (\d+x\d+))? \|$", README, re.M)
    assert sorted(name for name, *_ in rows) == sorted(
        path.name.removesuffix("-camvid.safetensors") for path in (ROOT / "export/weights").glob("*.safetensors")
    )
    for name, deployed, small, size in rows:
        figures = [
            path
            for kind in ("sizes", "precisions", "openvino", "native")
            for path in (ROOT / "figures").glob(f"{kind}-{name}.json")
        ]
        engines = [engine for path in figures for engine in json.loads(path.read_text())["engines"]]
        worth = {
            "x".join(map(str, e["network_size"])): f"{100 * e['miou']:.2f}" for e in engines if e["precision"] == "fp32"
        }
        assert deployed == worth["1024x2048"] and (not size or small == worth[size]), name
    lost = {}
    for name, figures in (("icnet", "precisions-icnet"), ("enet", "openvino-enet")):
        engines = json.loads((ROOT / f"figures/{figures}.json").read_text())["engines"]
        worth = {e["precision"]: 100 * e["miou"] for e in engines if e["backend"] == "openvino"}
        lost[name] = worth["fp32"] - worth["int8"]
    told = f"INT8 costs ICNet {lost['icnet']:.1f} and ENet {lost['enet']:.1f} points"
    assert told in " ".join(README.split())


def test_every_command_is_described():
    sources = [path for package in ("runtime", "export", "calib", "engines") for path in (ROOT / package).rglob("*.py")]
    commands = re.findall(r'prog="python -m ([\w.]+)"', "".join(path.read_text() for path in sources))
    assert sorted(hooks().COMMANDS) == sorted(commands)
    names = [name for commands in hooks().streetseg_commands().values() for name in commands]
    found = re.findall(r"^### `(\S+?)(?: (\S+))?`", hooks().commands_reference(), re.M)
    assert [name for program, name in found if program == "streetseg"] == names
    assert set(hooks().COMMANDS) >= {module for module, name in found if not name}


@pytest.mark.parametrize("module", hooks().COMMANDS)
def test_the_reference_of_a_command_has_every_option(module):
    parser = hooks().parser_of(module)
    text = hooks().as_markdown(parser)
    options = [name for action in parser._actions if action.dest != "help" for name in action.option_strings]
    assert [name for name in options if f"`{name}" not in text] == []
    assert text.startswith(f"### `{module}`") and "%(" not in text


def test_the_reference_is_of_the_code_and_not_of_the_shell():
    parser = argparse.ArgumentParser(prog="python -m x", description="What a * is, by `a * b`.\n\nMore.", epilog="End.")
    parser.add_argument("one", nargs="+", help="a | b")
    parser.add_argument("--size", "-s", default=3, metavar="N", help="of it (%(default)s)")
    parser.add_argument("--way", choices=["left", "right"])
    parser.add_argument("--quiet", action="store_true", help=argparse.SUPPRESS)
    assert hooks().as_markdown(parser).splitlines()[:4] == ["### `x`", "", "What a \\* is, by `a * b`.", ""]
    assert hooks().as_markdown(parser).splitlines()[-5:] == [
        "| `one` | a \\| b |", "| `--size N`, `-s N` | of it (3) |", "| `--way left\\|right` |  |", "", "End.",
    ]  # fmt: skip


def test_a_command_that_reads_no_command_line_is_none():
    assert hooks().caught_parsers(lambda argv: 0) == []


def filled(markdown, name="engines.md"):
    return hooks().on_page_markdown(markdown, page=SimpleNamespace(file=SimpleNamespace(src_uri=name)))


def test_a_link_to_a_file_of_the_tree_is_told_by_its_name():
    assert (
        filled("[the law](../runtime/reference.py#L3), [x](int8.md)")
        == "the law (`runtime/reference.py`), [x](int8.md)"
    )
    assert filled("[`runtime/spec.py`](../runtime/spec.py)") == "`runtime/spec.py`"
    with pytest.raises(Exception, match=r"links to \.\./runtime/none\.py, which is not there"):
        filled("[x](../runtime/none.py)")
    with pytest.raises(Exception, match="wants one <!-- commands -->"):
        filled("no mark", "commands.md")


@pytest.mark.parametrize(
    ("output", "loads"),
    [
        ('<script src="https://host.org/x.js"></script>', True),
        ('<img alt=x src="//host.org/x.png">', True),
        ('<link rel="stylesheet" href="http://host.org/x.css">', True),
        ('<pre class="mermaid">', True),
        ('<a href="https://host.org">a link</a><img src="images/x.png"><script src="a.js"></script>', False),
    ],
)
def test_a_page_that_loads_something_from_elsewhere_is_refused(output, loads):
    page = SimpleNamespace(file=SimpleNamespace(src_uri="x.md"))
    if loads:
        with pytest.raises(Exception, match=r"elsewhere|without a network"):
            hooks().on_post_page(output, page=page)
    else:
        assert hooks().on_post_page(output, page=page) == output


@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec("mkdocs"), reason="the site's libraries are not installed: make docs")
@pytest.mark.slow  # `make docs`, which CI runs, is strict, too
def test_the_site_is_built_strictly_and_its_search_works_on_files(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and "WARNING" not in done.stderr, done.stderr
    site = tmp_path / "site"
    assert "--lanes N" in (site / "commands.html").read_text()
    assert "runtime.open_backend" in (site / "python-api.html").read_text()
    index = (site / "search/search_index.js").read_text()
    assert index.startswith("var __index = ") and "runtime.infer" in index
    assert "iframe-worker.js" in (site / "index.html").read_text() and not (site / "hooks.py").exists()
