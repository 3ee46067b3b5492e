"""Pickles read without unpickling: a machine of our own for their opcodes, which makes inert records of every name.

Nothing that a file names is imported, called or given a state. `pickletools` takes the bytes apart, what stands here
puts numbers, texts, lists and dictionaries together, and keeps the rest as `Made`, for a reader to look at.

Source: CPython, Lib/pickletools.py and Lib/pickle.py (`_Unpickler`), protocols 0 to 5.
"""

import dataclasses
import pickletools
import warnings
from collections.abc import Callable
from typing import Any, BinaryIO

MOST_OPCODES = 300_000  # half a second; a network's checkpoint with its optimizer has some ten thousand
LARGEST_KEY = 1 << 31  # of a number: Python hashes larger ones to places that a file can choose
SHOWN = 80  # characters of a name in a message


@dataclasses.dataclass(frozen=True, slots=True)
class Name:
    """A class or function that a pickle names. It is never looked up."""

    module: str
    name: str

    def __str__(self) -> str:
        """As a message shows it: one line, whatever the file holds."""
        text = f"{self.module}.{self.name}"
        return "".join(c if c.isprintable() else "?" for c in text[:SHOWN]) + "..." * (len(text) > SHOWN)


@dataclasses.dataclass(eq=False, slots=True)
class Made:
    """What a pickle would have made: by calling `by`, with what it would have set on the result."""

    by: Any  # a `Name`, or whatever a forged pickle calls
    args: Any = ()
    state: Any = None
    items: list[Any] = dataclasses.field(default_factory=list)
    pairs: dict[Any, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(eq=False, slots=True)
class Stored:
    """What is kept outside of the pickle, by the identity that stands in it."""

    identity: Any


@dataclasses.dataclass(eq=False, slots=True)
class OddKey:
    """A key of a dictionary that is no text and no small number: equal to itself alone, and hashed in no time."""

    value: Any


class ForeignError(ValueError):
    """Something stands where a tensor is expected, which only its own code could make."""

    def __init__(self, by: Any) -> None:
        super().__init__(f"{by if isinstance(by, Name) else 'an object'} is no tensor")
        self.name = str(by) if isinstance(by, Name) else "an object"


class Machine:
    """Reads one pickle. `names` tells afterwards which classes and functions it named."""

    def __init__(self) -> None:
        self.names: dict[Name, None] = {}
        self._stack: list[Any] = []
        self._marked: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    def read(self, stream: BinaryIO) -> Any:
        """The value of the pickle that begins here; the stream then stands behind it.

        Raises:
            ValueError: it is damaged, forged, or longer than `MOST_OPCODES`.
        """
        try:
            return self._run(stream)
        except KeyError as error:
            raise ValueError(f"a pickle with {error}") from None
        except IndexError:
            raise ValueError("a pickle that takes more than it was given") from None

    def _run(self, stream: BinaryIO) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd escapes in texts
            for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
                if count == MOST_OPCODES:
                    raise ValueError(f"a pickle of more than {MOST_OPCODES} steps")
                if opcode.name == "STOP":
                    return self._stack.pop()
                _ACTIONS[opcode.name](self, argument)
        raise ValueError("a pickle without an end")

    def push(self, value: Any) -> None:
        """Any opcode that holds its value."""
        self._stack.append(value)

    def mark(self, _: Any) -> None:
        """Begin a new stack, which the next `since_mark` takes."""
        self._marked.append(self._stack)
        self._stack = []

    def since_mark(self) -> list[Any]:
        """What was pushed since the last mark; the stack of before goes on."""
        values, self._stack = self._stack, self._marked.pop()
        return values

    def pop(self, _: Any) -> None:
        """POP: a value, or the mark where none is above it."""
        if self._stack:
            self._stack.pop()
        else:
            self.since_mark()

    def put(self, place: int | None) -> None:
        """PUT and MEMOIZE."""
        self._memo[len(self._memo) if place is None else place] = self._stack[-1]

    def get(self, place: int) -> None:
        """GET."""
        if place not in self._memo:
            raise ValueError("a pickle that recalls what it never kept")
        self.push(self._memo[place])

    def take(self, count: int) -> list[Any]:
        """So many values from the stack, the last one last."""
        if count > len(self._stack):
            raise IndexError
        values = self._stack[len(self._stack) - count :]
        del self._stack[len(self._stack) - count :]
        return values

    def append(self, values: list[Any]) -> None:
        """Extend what is on the stack, a list or a record."""
        target = self._stack[-1]
        if not isinstance(target, (list, Made)):
            raise ValueError("a pickle that appends to what is no list")
        (target if isinstance(target, list) else target.items).extend(values)

    def set(self, values: list[Any]) -> None:
        """Set the keys and values, by turns, of what is on the stack, a dictionary or a record."""
        target = self._stack[-1]
        if not isinstance(target, (dict, Made)):
            raise ValueError("a pickle that sets keys of what is no dictionary")
        (target if isinstance(target, dict) else target.pairs).update(_dictionary(values))

    def name(self, module: Any, name: Any) -> None:
        """GLOBAL and STACK_GLOBAL."""
        if not (isinstance(module, str) and isinstance(name, str)):
            raise ValueError("a pickle that names what is no text")
        found = Name(module, name)
        self.names[found] = None
        self.push(found)

    def make(self, by: Any, args: Any) -> None:
        """REDUCE and its kin: a record in place of a call."""
        self.push(Made(by, args))

    def build(self, _: Any) -> None:
        """BUILD: a state, kept beside the record."""
        (state,) = self.take(1)
        if not isinstance(self._stack[-1], Made):
            raise ValueError("a pickle that gives a state to what has none")
        self._stack[-1].state = state


def mapping_of(value: Any) -> dict[Any, Any] | None:
    """A dictionary, or the pairs of what would have been one of Python's own kinds of it; None for anything else."""
    if isinstance(value, dict):
        return value
    if not (isinstance(value, Made) and isinstance(value.by, Name) and value.by in MAPPINGS):
        return None
    pairs = value.args[0] if isinstance(value.args, tuple) and value.args else []
    if value.by.name == "OrderedDict" and isinstance(pairs, list):  # as Python 2 keeps it
        if not all(isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in pairs):
            return None
        return _dictionary([each for pair in pairs for each in pair]) | value.pairs
    return value.pairs


def _dictionary(values: list[Any]) -> dict[Any, Any]:
    if len(values) % 2:
        raise ValueError("a pickle with a key that has no value")
    return {_key(key): value for key, value in zip(values[::2], values[1::2], strict=True)}


def _key(value: Any) -> Any:
    # Only what hashes in no time and by no rule that a file can use: nested tuples would take for ever.
    small = type(value) is int and abs(value) < LARGEST_KEY
    return value if small or value is None or isinstance(value, (str, bytes, bool)) else OddKey(value)


MAPPINGS = frozenset({Name("collections", "OrderedDict"), Name("collections", "defaultdict")})
_Action = Callable[[Machine, Any], None]


def _split(machine: Machine, argument: str) -> None:
    machine.name(*argument.split(" ", 1))


def _instance(machine: Machine, argument: str) -> None:
    args = tuple(machine.since_mark())
    _split(machine, argument)
    machine.make(machine.take(1)[0], args)


def _object(machine: Machine, _: Any) -> None:
    by, *args = machine.since_mark() or [None]
    machine.make(by, tuple(args))


# What holds its value in itself; NONE and its like have no argument.
_VALUES = (
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING",
    "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8", "UNICODE", "BINUNICODE",
    "SHORT_BINUNICODE", "BINUNICODE8",
)  # fmt: skip
_ACTIONS: dict[str, _Action] = {
    **dict.fromkeys(_VALUES, Machine.push),
    **dict.fromkeys(("PROTO", "FRAME"), lambda machine, _: None),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), Machine.put),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), Machine.get),
    "NONE": Machine.push,
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    "MARK": Machine.mark,
    "POP": Machine.pop,
    "POP_MARK": lambda machine, _: (machine.since_mark(), None)[1],
    "DUP": lambda machine, _: machine.push(machine._stack[-1]),
    "EMPTY_LIST": lambda machine, _: machine.push([]),
    "EMPTY_TUPLE": lambda machine, _: machine.push(()),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "EMPTY_SET": lambda machine, _: machine.make(Name("builtins", "set"), ()),
    "FROZENSET": lambda machine, _: machine.make(Name("builtins", "frozenset"), (machine.since_mark(),)),
    "LIST": lambda machine, _: machine.push(machine.since_mark()),
    "TUPLE": lambda machine, _: machine.push(tuple(machine.since_mark())),
    "TUPLE1": lambda machine, _: machine.push(tuple(machine.take(1))),
    "TUPLE2": lambda machine, _: machine.push(tuple(machine.take(2))),
    "TUPLE3": lambda machine, _: machine.push(tuple(machine.take(3))),
    "DICT": lambda machine, _: machine.push(_dictionary(machine.since_mark())),
    "APPEND": lambda machine, _: machine.append(machine.take(1)),
    **dict.fromkeys(("APPENDS", "ADDITEMS"), lambda machine, _: machine.append(machine.since_mark())),
    "SETITEM": lambda machine, _: machine.set(machine.take(2)),
    "SETITEMS": lambda machine, _: machine.set(machine.since_mark()),
    "GLOBAL": _split,
    "STACK_GLOBAL": lambda machine, _: machine.name(*machine.take(2)),
    **dict.fromkeys(("REDUCE", "NEWOBJ"), lambda machine, _: machine.make(*machine.take(2))),
    "NEWOBJ_EX": lambda machine, _: machine.make(*machine.take(3)[:2]),
    "INST": _instance,
    "OBJ": _object,
    "BUILD": Machine.build,
    "PERSID": lambda machine, identity: machine.push(Stored(identity)),
    "BINPERSID": lambda machine, _: machine.push(Stored(machine.take(1)[0])),
}
