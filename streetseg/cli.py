"""`streetseg COMMAND [options]`: one entry to every command."""

from collections.abc import Sequence

from runtime.arguments import typed_as
from runtime.cli import DONE, USAGE, fail
from runtime.commands import COMMAND, missing
from runtime.errors import PipelineError
from streetseg.commands import COMMANDS, GROUPS, find

DISTRIBUTION = "street-segmentation"
HELP, VERSION = ("-h", "--help", "help"), ("-V", "--version", "version")


def main(argv: Sequence[str]) -> int:
    """Do the command that the first word names, with the options after it; its exit code, 2 where there is none.

    Raises:
        PipelineError: what the command raises; a library that is not installed, with the extra that brings it.
    """
    if not argv or argv[0] in HELP:
        return _help(argv)
    if argv[0] in VERSION:
        print(f"{COMMAND} {version()}")
        return DONE
    if argv[0].startswith("-"):
        fail(f"the command comes first: {COMMAND} COMMAND [options]; {COMMAND} --help lists them, got {argv[0]}")
        return USAGE
    try:
        command = find(argv[0])
    except PipelineError as error:
        fail(str(error))
        return USAGE
    with typed_as(f"{COMMAND} {argv[0]}"):
        try:
            return command.load()(argv[1:])
        except ModuleNotFoundError as error:
            raise missing(error) or error from None


def version() -> str:
    """The version that is installed; without an installation, that there is none."""
    from importlib import metadata

    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return "(not installed)"


def help_text() -> str:
    """Every command with its line, by what it is for."""
    width = max(map(len, COMMANDS)) + 2
    lines = [
        f"usage: {COMMAND} COMMAND [options]",
        "",
        "Street-scene segmentation: from PyTorch to the fastest engine.",
    ]
    for group, commands in GROUPS.items():
        lines += ["", f"{group}:", *(f"  {name:<{width}}{command.about}" for name, command in commands.items())]
    lines += ["", f"{COMMAND} COMMAND --help tells its options; {COMMAND} --version the version."]
    return "\n".join(lines)


def _help(argv: Sequence[str]) -> int:
    if argv[1:] and argv[1] in COMMANDS:
        return main([argv[1], "--help"])
    print(help_text())
    return DONE if argv else USAGE
