"""The code blocks of README and of the pages in docs/, and what a shell line of theirs asks for that is not there."""

import argparse
import importlib.util
import re
import shlex
from functools import cache
from pathlib import Path
from typing import NamedTuple

from tests.helpers.project import project

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
SHELL = ("sh", "bash", "shell", "console")
NOT_RUN = re.compile(r"<!-- not run: (.+?) -->\s*$", re.S)
# Neither what these do nor that they are installed is ours to check.
TOOLS = frozenset(
    ("source", "cd", "ls", "cp", "mv", "mkdir", "cat", "echo", "export", "git", "scp", "ssh", "rsync", "tar", "python3",
     "nvidia-smi", "lscpu", "chmod", "head", "tail", "for", "do", "done", "unzip")
)  # fmt: skip
# Of make itself, or of the installation that every target begins with.
ALWAYS_TAKEN = {"PYTHON", "PIP_OPTIONS"}


class Block(NamedTuple):
    """A fenced block, or lines indented by four; `reason` says why it is not run, "" if it is."""

    page: Path
    line: int
    language: str
    code: str
    reason: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page, and its indented ones as language "indented"."""
    found, before, lines = [], [], page.read_text().splitlines()
    at = 0
    while at < len(lines):
        start = at
        if fence := re.match(r"(\s*)(`{3,})\s*([\w-]*)", lines[at]):
            at += 1
            while at < len(lines) and lines[at].strip() != fence[2]:
                at += 1
            code = "\n".join(line.removeprefix(fence[1]) for line in lines[start + 1 : at])
            language = fence[3]
        elif lines[at].startswith("    ") and not (before and before[-1].strip()):
            while at + 1 < len(lines) and lines[at + 1].startswith("    "):
                at += 1
            code, language = "\n".join(line[4:] for line in lines[start : at + 1]), "indented"
        else:
            before.append(lines[at])
            at += 1
            continue
        marked = NOT_RUN.search("\n".join(before[-4:]).rstrip())
        found.append(Block(page, start + 1, language, f"{code}\n", marked[1] if marked else ""))
        before, at = [], at + 1
    return found


def spans(page: Path) -> list[str]:
    """The commands of ours in a page's running text: `make x`, `python -m y`, `streetseg z`."""
    text = re.sub(r"^\s*```.*?^\s*```\s*$", "", page.read_text(), flags=re.M | re.S)
    found = (" ".join(span.split()) for span in re.findall(r"(?<!`)`([^`]+)`(?!`)", text))
    return [span for span in found if re.match(r"(?:\S*/)?(?:make|python -m|streetseg) ", f"{span} ")]


def commands(block: Block) -> list[list[str]]:
    """The commands of a shell block as words, one a command; of a console what follows its prompt."""
    code = block.code.replace("\\\n", " ")
    lines = code.splitlines()
    if block.language == "console":
        lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    return [words for line in lines for words in _split(line)]


def _split(line: str) -> list[list[str]]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>()")
    lexer.commenters = "#"
    lexer.whitespace_split = True
    found: list[list[str]] = [[]]
    redirected = False
    for word in lexer:
        if set(word) <= set("|&;()"):
            found.append([])
        elif set(word) <= set("<>"):
            redirected = True
        elif redirected:
            redirected = False
        else:
            found[-1].append(word)
    return [words for words in found if words]


def complaint(words: list[str], *, whole: bool = True) -> str:
    """What a command names that is not there; "" if nothing.

    Args:
        words: the command.
        whole: it is to be typed as it stands; else a part of it, as running text names it: `python -m x --option`.
    """
    while words and re.fullmatch(r"\w+=.*|\$|sudo|then|do", words[0]):
        words = words[1:]
    if not words:
        return ""
    program, arguments = words[0].rsplit("/", 1)[-1], words[1:]
    if program == "make":
        return _make_complaint(arguments)
    if program in ("python", "python3") and arguments[:1] == ["-m"]:
        return _module_complaint(arguments[1], arguments[2:], whole)
    if program == "python" and arguments and arguments[0].endswith(".py"):
        return "" if (ROOT / arguments[0]).is_file() else f"there is no {arguments[0]}"
    if program == "streetseg":
        return _streetseg_complaint(arguments, whole)
    if program == "pip":
        return _pip_complaint(arguments)
    return "" if program in TOOLS else f"{program} is no command that is known here"


def _make_complaint(arguments: list[str]) -> str:
    targets = hooks().make_targets()
    names = [word for word in arguments if "=" not in word and word != "..." and not word.startswith("-")]
    given = {word.partition("=")[0] for word in arguments if re.match(r"\w+=", word)}
    if missing := [name for name in names if name not in targets]:
        return f"make has no target {missing[0]}"
    taken = ALWAYS_TAKEN.union(*(targets[name][0] for name in names))
    return f"make {' '.join(names)} takes no {min(given - taken)}" if names and given - taken else ""


def _module_complaint(module: str, arguments: list[str], whole: bool) -> str:
    if module in ("...", "pip", "venv", "pytest", "http.server", "mkdocs"):
        return _pip_complaint(arguments) if module == "pip" else ""
    if module == "streetseg":
        return _streetseg_complaint(arguments, whole)
    try:
        if importlib.util.find_spec(module) is None:
            return f"there is no module {module}"
    except ModuleNotFoundError:
        return f"there is no module {module}"
    if module not in hooks().COMMANDS:
        return ""
    parsers = [hooks().parser_of(module)]
    if module == "engines.revision":
        parsers.append(hooks().parser_of("runtime.regress"))
    return _taken(parsers, arguments, whole)


def _taken(parsers: list[argparse.ArgumentParser], arguments: list[str], whole: bool) -> str:
    """What of the arguments none of the parsers takes: all are known, and if `whole` nothing is missing either."""
    known = {name for parser in parsers for name in parser._option_string_actions}
    options = [word.partition("=")[0] for word in arguments if re.match(r"--?[a-zA-Z]", word)]
    if unknown := [name for name in options if name not in known]:
        return f"{parsers[0].prog} has no option {unknown[0]}"
    if not whole or len(parsers) > 1 or "--help" in options or "..." in arguments:
        return ""
    said: list[str] = []

    def refuse(message: str) -> None:
        said.append(message)
        raise SystemExit

    parsers[0].error = refuse  # type: ignore[assignment, method-assign]
    try:
        parsers[0].parse_args(arguments)
    except SystemExit:
        return f"{parsers[0].prog}: {said[0] if said else 'ends'}"
    return ""


def _streetseg_complaint(arguments: list[str], whole: bool) -> str:
    names = [name for commands in hooks().streetseg_commands().values() for name in commands]
    if not arguments or arguments[0] in ("--help", "--version", "..."):
        return ""
    if arguments[0] not in names:
        return f"streetseg has no command {arguments[0]}"
    return _taken([hooks().streetseg_parser(arguments[0])], arguments[1:], whole)


def _pip_complaint(arguments: list[str]) -> str:
    table = project()
    for word in arguments:
        match = re.search(rf"^(?:\.|{table['name']}\S*?|\S+\.whl)\[([\w,-]+)\]", word)
        for extra in match[1].split(",") if match else ():
            if extra not in table["optional-dependencies"]:
                return f"there is no extra {extra}"
    return ""


@cache
def hooks():
    """docs/hooks.py, which MkDocs loads by its path too."""
    spec = importlib.util.spec_from_file_location("docs_hooks", ROOT / "docs/hooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
