"""`streetseg completion bash|zsh`: a script for the shell; a TAB then starts no Python.

What it completes is read from the commands' own parsers when it is printed: commands, options, networks, precisions,
backends, engines under the current folder.
"""

import argparse
from collections.abc import Sequence

import shtab

from runtime.arguments import Parser, parser_of
from runtime.cli import DONE, log
from runtime.commands import COMMAND, missing
from runtime.manifest import ENGINE_SUFFIX, ENGINES
from runtime.spec import BACKENDS, PRECISIONS
from streetseg.cli import help_text
from streetseg.commands import COMMANDS

KEPT = {
    "bash": "~/.local/share/bash-completion/completions/streetseg",
    "zsh": "~/.zfunc/_streetseg, with fpath+=~/.zfunc before compinit in ~/.zshrc",
}
SHELLS = tuple(KEPT)
DATASETS = ("camvid", "cityscapes", "own")
# Files by their suffix, in any folder; engines also from where builds keep them.
PREAMBLE = {
    "bash": r"""
_streetseg_engines() {
  compgen -G "$1*ENGINE" || compgen -G "FOLDER/$1*ENGINE"
  compgen -d -- "$1"
}
_streetseg_graphs() {
  compgen -G "$1*.onnx"
  compgen -d -- "$1"
}
""",
    "zsh": r"""
_streetseg_engines() {
  local -a built=(FOLDER/*ENGINE(N))
  compadd -M 'l:|=*' -- $built
  _files -g '*ENGINE'
}
_streetseg_graphs() { _files -g '*.onnx' }
""",
}
ENGINE_FILES = dict.fromkeys(SHELLS, "_streetseg_engines")
GRAPH_FILES = dict.fromkeys(SHELLS, "_streetseg_graphs")
ENGINE_ACTIONS = {"--engine", "--engines", "--plain", "engines"}
GRAPH_ACTIONS = {"graph"}


def main(argv: Sequence[str]) -> int:
    """Print the script; how it is installed is told on stderr."""
    parser = Parser(prog="streetseg completion", description="Completion for a shell, as a script on stdout.")
    parser.add_argument("shell", choices=SHELLS)
    shell = parser.parse_args(argv).shell
    print(script(shell))
    log(f'# now: eval "$({COMMAND} completion {shell})"; for good: {COMMAND} completion {shell} > {KEPT[shell]}')
    return DONE


def script(shell: str) -> str:
    """The completion of every command that can be loaded here; of the others their names alone."""
    preamble = PREAMBLE[shell].replace("FOLDER", str(ENGINES)).replace("ENGINE", ENGINE_SUFFIX)
    return str(shtab.complete(_tree(), shell, preamble=preamble))


def _tree() -> argparse.ArgumentParser:
    tree = argparse.ArgumentParser(COMMAND, description=help_text().splitlines()[2])
    tree.add_argument("--version", action="store_true", help="the version")
    commands = tree.add_subparsers()
    networks = _networks()
    for name, command in COMMANDS.items():
        parser = _parser(name)
        for action in parser._actions if parser else ():
            _complete(action, networks)
        parents = [parser] if parser else []
        commands.add_parser(name, parents=parents, add_help=parser is None, help=command.about)
    return tree


def _parser(name: str) -> Parser | None:
    try:
        return parser_of(COMMANDS[name].load(), f"{COMMAND} {name}")
    except ModuleNotFoundError as error:
        log(f"# {name}: its options are not completed; {missing(error) or error}")
        return None


def _networks() -> tuple[str, ...]:
    try:
        from export import registry
    except ModuleNotFoundError:
        return ()
    return registry.names()


def _complete(action: argparse.Action, networks: Sequence[str]) -> None:
    name = action.option_strings[-1] if action.option_strings else action.dest
    words = {"--model": networks, "names": networks, "--precision": PRECISIONS, "--backend": ("auto", *BACKENDS)}
    words["--dataset"] = DATASETS
    if name in words and action.choices is None:
        action.choices = words[name] or None
    elif name in ENGINE_ACTIONS and action.nargs != 0:
        action.complete = ENGINE_FILES  # type: ignore[attr-defined]
    elif name in GRAPH_ACTIONS:
        action.complete = GRAPH_FILES  # type: ignore[attr-defined]
    elif getattr(action.type, "__name__", "") == "Path":
        action.complete = shtab.FILE  # type: ignore[attr-defined]
