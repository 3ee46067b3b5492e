"""The pages' links lead somewhere: to pages, to headings that these have, to files of the project."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = {path.stem: path.read_text() for path in sorted((ROOT / "docs").glob("*.md"))}
NAMED = r"`((?:figures|export|engines|calib|runtime|tests)/[\w./*-]+\.\w+)`"
OF_THE_EXAMPLE = ("export/models/tinyseg.py", "tests/golden/tinyseg.json")


def anchors(text):
    """The headings of a page as its links name them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S), re.M)
    return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", heading.lower())).strip("-") for heading in headings}


def broken(name, pages):
    """The links of a page that lead nowhere; headings of pages that are made when the site is built are not known."""
    links = re.findall(r"\]\((?!\w+:)([\w-]*)(?:\.md)?(?:#([\w-]+))?\)", pages[name])
    return [
        f"{target or name}#{heading}"
        for target, heading in links
        if (target or name) not in pages
        or (heading and heading not in anchors(pages[target or name]) and "::: " not in pages[target or name])
    ]


@pytest.mark.parametrize("name", PAGES)
def test_a_page_links_to_pages_and_headings_that_are_there(name):
    assert broken(name, PAGES) == []


def test_a_link_that_leads_nowhere_is_found():
    pages = {"a": "# A\n[x](b.md#two) [y](b.md#three) [z](c.md) [w](#a) [v](https://x.org/c.md#d)", "b": "## Two\n"}
    assert broken("a", pages) == ["b#three", "c#"]


@pytest.mark.parametrize("name", PAGES)
def test_every_file_that_a_page_names_is_there(name):
    named = set(re.findall(NAMED, PAGES[name])) - set(OF_THE_EXAMPLE)
    assert [path for path in sorted(named) if not list(ROOT.glob(path))] == []
    pictures = re.findall(r"!\[[^\]]*\]\((?!https?:)([^)]+)\)", PAGES[name])
    assert [path for path in pictures if not (ROOT / "docs" / path).is_file()] == []
