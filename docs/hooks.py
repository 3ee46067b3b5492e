"""What the site makes while it is built: the reference of commands, links into the tree, and no load from elsewhere.

MkDocs calls the functions whose names begin with `on_`; mkdocs.yml names this file.
"""

import argparse
import importlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

try:
    from mkdocs.exceptions import PluginError
except ImportError:
    # Tests read the commands' parsers with this module where the site's libraries are not installed.
    PluginError = ValueError

ROOT = Path(__file__).parents[1]
COMMANDS_PAGE, COMMANDS_MARK = "commands.md", "<!-- commands -->"
COMMANDS = (
    "runtime.infer", "runtime.fleet", "runtime.serve", "runtime.triton", "runtime.evaluate", "runtime.prove",
    "runtime.doctor", "export.to_onnx", "export.adopt", "export.to_torch", "calib.ranges", "calib.qdq",
    "calib.sensitivity", "calib.speed", "calib.methods", "engines.build", "engines.bundle", "engines.compare",
    "engines.keys", "engines.nncf_engine", "engines.onnxruntime_int8", "engines.plan", "export.train",
    "export.prune", "export.balance", "export.ablation", "runtime.bench", "runtime.bench_files",
    "runtime.bench_report", "runtime.bench_rivals", "runtime.bench_scaling", "runtime.measure.roof",
    "runtime.report", "runtime.regress", "engines.revision",
)  # fmt: skip

# [words](../place), but not in a line of code.
OUT_OF_DOCS = re.compile(r"\[([^\]]+)\]\(\.\./([^)\s#]+)(?:#[^)]*)?\)")
# What a browser loads by itself; a link that a reader follows (<a href>) is not among it.
LOADED = re.compile(r"<(?:script|img|iframe|source|video)[^>]*?\ssrc=\"?((?:https?:)?//[^\"\s>]+)|"
                    r"<link(?![^>]*rel=\"?canonical)[^>]*?\shref=\"?((?:https?:)?//[^\"\s>]+)")  # fmt: skip


class _Caught(Exception):
    """Ends a command where it would read its command line."""


def caught_parsers(main: Callable[[Sequence[str]], int], argv: Sequence[str] = ()) -> list[argparse.ArgumentParser]:
    """The parser that `main` hands its command line to: a list of one, or of none."""
    found: list[argparse.ArgumentParser] = []

    def catch(parser: argparse.ArgumentParser, *_: Any, **__: Any) -> None:
        found.append(parser)
        raise _Caught

    with mock.patch.object(argparse.ArgumentParser, "parse_known_args", catch):
        try:
            main(list(argv))
        except _Caught:
            pass
    return found


def parser_of(module: str) -> argparse.ArgumentParser:
    """The parser of `python -m module`, taken from its `main` where that begins to read the command line.

    Raises:
        PluginError: its `main` does not.
    """
    found = caught_parsers(importlib.import_module(module).main)
    if not found:
        raise PluginError(f"{module}.main parses no command line: docs/hooks.py cannot describe it")
    return found[0]


def streetseg_parser(name: str) -> argparse.ArgumentParser:
    """The parser of `streetseg name`.

    Raises:
        PluginError: it reads no command line.
    """
    found = caught_parsers(importlib.import_module("streetseg.cli").main, [name])
    if not found:
        raise PluginError(f"streetseg {name} parses no command line: docs/hooks.py cannot describe it")
    return found[0]


def streetseg_commands() -> dict[str, dict[str, Any]]:
    """The commands of `streetseg`, by what they are for: {group: {name: command}}."""
    groups: dict[str, dict[str, Any]] = importlib.import_module("streetseg.commands").GROUPS
    return groups


def as_markdown(parser: argparse.ArgumentParser, also: str = "") -> str:
    """What `--help` says, as a section: what the command is for, how it is called, a table of its options.

    Args:
        parser: of the command.
        also: another name of it.
    """
    # argparse keeps its help in this one way; its own formatter fills in the defaults.
    formatter = parser._get_formatter()
    rows = [
        f"| {_names(action)} | {_cell(formatter._expand_help(action) if action.help else '')} |"
        for action in parser._actions
        if action.help != argparse.SUPPRESS and action.dest != "help"
    ]
    usage = re.sub(r"\s+", " ", parser.format_usage().removeprefix("usage: ")).strip()
    lines = [f"### `{parser.prog.removeprefix('python -m ')}`", "", _paragraphs(parser.description or ""), ""]
    lines += [f"Also `{also}`.", ""] if also else []
    lines += ["```text", *_folded(usage), "```", ""]
    if rows:
        lines += ["| argument | what it is |", "|---|---|", *rows, ""]
    return "\n".join([*lines, _paragraphs(parser.epilog or ""), ""])


def _names(action: argparse.Action) -> str:
    value = action.metavar or ("" if action.nargs == 0 else (action.dest if not action.option_strings else ""))
    if not action.option_strings:
        return f"`{value if isinstance(value, str) else ' '.join(value)}`"
    if action.nargs != 0 and not value:
        value = "|".join(map(str, action.choices)) if action.choices else action.dest.upper()
    shown = value if isinstance(value, str) else " ".join(value)
    return ", ".join(f"`{name}{f' {shown}' if shown else ''}`".replace("|", "\\|") for name in action.option_strings)


def _cell(text: str) -> str:
    return _escaped(re.sub(r"\s+", " ", text)).replace("|", "\\|")


def _paragraphs(text: str) -> str:
    return "\n\n".join(_escaped(re.sub(r"\s+", " ", paragraph).strip()) for paragraph in text.split("\n\n"))


def _escaped(text: str) -> str:
    # Outside of code a star and a < are Markdown.
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else re.sub(r"([*<_])", r"\\\1", part) for part in parts)


def _folded(usage: str, width: int = 88) -> list[str]:
    lines, words = [""], re.findall(r"\[[^\]]*\]+|\S+", usage)
    for word in words:
        if len(lines[-1]) + len(word) >= width:
            lines.append("   ")
        lines[-1] = f"{lines[-1]} {word}" if lines[-1] else word
    return lines


def make_targets() -> dict[str, tuple[list[str], str]]:
    """Every target of `make help`, the variables that it takes, and what it does."""
    found = {}
    for line in (ROOT / "Makefile").read_text().splitlines():
        if match := re.match(r"([a-z-]+):.*?## (?:([A-Z0-9_ ]+): )?(.*)", line):
            found[match[1]] = ((match[2] or "").split(), match[3])
    return found


def commands_reference() -> str:
    """All commands: make's targets, `streetseg`, and the modules that it has no name for."""
    lines = ["## make", "", "| target | variables | what it does |", "|---|---|---|"]
    for name, (variables, what) in make_targets().items():
        lines.append(f"| `make {name}` | {' '.join(f'`{variable}`' for variable in variables)} | {_cell(what)} |")
    return "\n".join([*lines, *_of_streetseg(), *_of_modules()])


def _of_streetseg() -> list[str]:
    lines = ["", "## streetseg", ""]
    modules = {importlib.import_module(module).main: f"python -m {module}" for module in COMMANDS}
    for group, commands in streetseg_commands().items():
        lines += [f"**{group[0].upper()}{group[1:]}**", "", "| command | what it is for |", "|---|---|"]
        lines += [f"| [`streetseg {name}`](#{_anchor(name)}) | {_cell(one.about)} |" for name, one in commands.items()]
        lines += [""]
    for commands in streetseg_commands().values():
        for name, command in commands.items():
            section = as_markdown(streetseg_parser(name), modules.get(command.load(), ""))
            first, _, rest = section.partition("\n")
            lines += [f"{first} {{ #{_anchor(name)} }}\n{rest}"]
    return lines


def _anchor(name: str) -> str:
    return f"streetseg-{name}"


def _of_modules() -> list[str]:
    # What `streetseg` has under a name of its own is told there.
    told = {command.load() for commands in streetseg_commands().values() for command in commands.values()}
    lines = ["", "## python -m", ""]
    for module in COMMANDS:
        if importlib.import_module(module).main not in told:
            lines.append(as_markdown(parser_of(module)))
    return lines


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Fill in the reference of commands; tell a file of the tree by its name, as the site does not hold it.

    Raises:
        PluginError: the mark is missing, or a link names a file that is not there.
    """
    if page.file.src_uri == COMMANDS_PAGE:
        if markdown.count(COMMANDS_MARK) != 1:
            raise PluginError(f"{COMMANDS_PAGE} wants one {COMMANDS_MARK}, where the reference belongs")
        markdown = markdown.replace(COMMANDS_MARK, commands_reference())
    return OUT_OF_DOCS.sub(lambda match: _told(match, page.file.src_uri), markdown)


def _told(match: re.Match[str], page: str) -> str:
    words, place = match[1], match[2]
    if not (ROOT / place).exists():
        raise PluginError(f"docs/{page} links to ../{place}, which is not there")
    return words if place in words else f"{words} (`{place}`)"


def on_post_page(output: str, *, page: Any, **_: Any) -> str:
    """Hold a page to what lies beside it.

    Raises:
        PluginError: it loads something from elsewhere, so that it cannot be read without a network.
    """
    if found := LOADED.search(output):
        raise PluginError(f"{page.file.src_uri} loads {found[1] or found[2]}; the site is read without a network")
    if 'class="mermaid"' in output:
        raise PluginError(
            f"{page.file.src_uri} has a mermaid drawing, whose library is loaded from elsewhere; draw it as text"
        )
    return output
