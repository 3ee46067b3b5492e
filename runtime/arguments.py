"""How every command reads its options: under the name that was typed, and for a program instead of a person."""

import argparse
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple, NoReturn

from runtime.texts import shown

UNKNOWN = "unrecognized arguments: "  # argparse's words
NEAR = 0.7  # of a name's letters are right, and it is what was meant
TOLD = 50  # characters


class Caller(NamedTuple):
    """Who calls a command: by which name, and whether to see its parser or to have its refusals raised."""

    name: str = ""
    shown: bool = False
    raised: bool = False


class ParserShown(Exception):
    """Ends a command that was called only to see its parser."""

    def __init__(self, parser: "Parser") -> None:
        super().__init__(parser.prog)
        self.parser = parser


PERSON = Caller()
_CALLER: ContextVar[Caller] = ContextVar("_CALLER", default=PERSON)


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` under the name that was typed, which suggests the option that was probably meant."""

    def __init__(self, prog: str, description: str | None = None, **settings: Any) -> None:
        """Of the command `python -m ...` that `prog` tells; called by another name it and the description have that."""
        name = _CALLER.get().name or prog
        super().__init__(prog=name, description=(description or "").replace(prog, name), **settings)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse does it.

        Raises:
            ParserShown: `parser_of` asked.
        """
        if _CALLER.get().shown:
            raise ParserShown(self)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Usage and one line on stderr, exit code 2.

        Raises:
            ValueError: a program calls, see `raising`.
        """
        told = shown(message + self._meant(message))
        if _CALLER.get().raised:
            raise ValueError(f"{self.prog}: {told}")
        super().error(told)

    def refuse_word(self, argv: Sequence[str], words: Sequence[str]) -> None:
        """Hold a first word that is no option to those that the command knows: usage, as `error` has it."""
        if argv and not argv[0].startswith("-") and argv[0] not in words:
            told = f"{argv[0][:TOLD]!r} is no word of this command; there is {', '.join(words)}"
            self.error(told + meant(argv[0].lower(), words))

    def _meant(self, message: str) -> str:
        if not message.startswith(UNKNOWN):
            return ""
        given = next((word for word in message.removeprefix(UNKNOWN).split() if word.startswith("-")), "")
        return meant(given.partition("=")[0], self._option_string_actions)


def meant(given: str, names: Iterable[str]) -> str:
    """` (did you mean NAME?)` of the name that was probably meant; "" where none is near."""
    import difflib

    near = difflib.get_close_matches(given, list(names), 1, NEAR)
    return f" (did you mean {near[0]}?)" if near else ""


@contextmanager
def typed_as(name: str) -> Iterator[None]:
    """Commands called within tell `name` for their own, for example `streetseg infer`."""
    with _called(Caller(name)):
        yield


@contextmanager
def raising() -> Iterator[None]:
    """Options that a command refuses within are a ValueError: for a program, which an exit would end."""
    with _called(Caller(raised=True)):
        yield


def parser_of(main: Callable[[Sequence[str]], object], name: str = "") -> Parser:
    """The parser of a command, which is otherwise not run.

    Raises:
        ValueError: it reads no options.
    """
    with _called(Caller(name, shown=True)):
        try:
            main([])
        except ParserShown as shown:
            return shown.parser
    raise ValueError(f"{main.__module__} reads no options")


@contextmanager
def _called(caller: Caller) -> Iterator[None]:
    before = _CALLER.set(caller)
    try:
        yield
    finally:
        _CALLER.reset(before)


def add_device(parser: argparse.ArgumentParser) -> None:
    """The option `--device`, of which `auto` is all that there is: others are refused with what to do instead."""
    parser.add_argument(
        "--device", type=_device, default="auto", help="auto: the first GPU that CUDA shows, or the CPU (%(default)s)"
    )


def _device(text: str) -> str:
    if text == "auto":
        return text
    if text.lower().startswith("dla"):
        raise argparse.ArgumentTypeError(
            f"{shown(text)[:20]}: a Jetson's DLA is not used, engines here are built for its GPU; leave the device out"
        )
    raise argparse.ArgumentTypeError(
        f"{shown(text)[:20]}: only auto is known. CUDA_VISIBLE_DEVICES=1 chooses another GPU, "
        "the backend openvino the CPU"
    )
