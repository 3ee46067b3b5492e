"""Machine code that numba made, kept on disk: read where it is whole, made anew where it is not, done without at all.

Of loops an object file is kept that needs no numba (`runtime.kernels.native`), of what `keep` is given numba's pickle.

numba's own cache wants a folder that it can write even to read from it, ends the program where a file is damaged or the
disk is full, and runs damaged machine code. Here each file carries its checksum; whatever is wrong with the disk costs
time and one line on stderr.
"""

import functools
import hashlib
import importlib.util
import os
import pickle
import sys
from collections.abc import Callable, Hashable, Iterator, Sequence
from pathlib import Path
from types import FunctionType
from typing import Any, cast

from runtime.artifacts import user_cache, write_atomically
from runtime.bars import say
from runtime.forks import hold
from runtime.kernels import native
from runtime.versions import version_of

DIGEST = 32  # bytes of a sha256
NATIVE, PICKLED = ".native", ".kept"
COST = "every start compiles the loops again, for some seconds; NUMBA_CACHE_DIR may name a folder that can be written"
Signature = Any  # numba's
_told: set[str] = set()  # what was said, by its kind


def keep(dispatcher: Any) -> Any:
    """The dispatcher that `numba.njit` gave, its machine code kept on disk from now on."""
    _hold_compiler()
    dispatcher._cache = Kept(dispatcher.py_func)
    return dispatcher


def compile_all(module: dict[str, Any], loops: Sequence[Any]) -> None:
    """Put compiled loops, kept on disk, in the place of a module's own, but of those that only others call.

    Args:
        module: its `globals()`.
        loops: its functions, each after those that it calls.

    Raises:
        ImportError: numba is not installed, or does not load and nothing is kept.
    """
    if importlib.util.find_spec("numba") is None:
        raise ImportError("No module named 'numba'")
    if not _is_kept(loops[0]):
        import numba  # noqa: F401 - who cannot compile goes another way from the beginning

    plain = dict(module)

    @functools.cache
    def dispatchers() -> dict[str, Any]:
        return _dispatchers(plain, loops)

    for loop in loops:
        if not loop.__name__.startswith("_"):
            module[loop.__name__] = native.Loop(loop, functools.partial(_made, dispatchers))


def _dispatchers(module: dict[str, Any], loops: Sequence[Any]) -> dict[str, Any]:
    # numba's, which find each other in a namespace of their own.
    from numba import njit

    _hold_compiler()
    for loop in loops:
        dispatcher = njit(nogil=True, error_model="numpy")(FunctionType(loop.__code__, module, loop.__name__))
        module[loop.__name__] = dispatcher if native.is_possible() else keep(dispatcher)
    return module


def _made(
    dispatchers: Callable[[], dict[str, Any]], loop: Any, kinds: Hashable, arguments: tuple[Any, ...]
) -> Callable[..., Any]:
    # What to call of a loop with such arguments: read, or compiled and kept, or the plain one: of what is kept in part,
    # only now is it known that numba does not load.
    try:
        return _read_or_compiled(dispatchers, loop, kinds, arguments)
    except ImportError as error:
        _say_once("not loaded", f"numba does not load ({error}): loops that are not kept run in Python, very slowly")
        return cast(Callable[..., Any], loop)


def _read_or_compiled(
    dispatchers: Callable[[], dict[str, Any]], loop: Any, kinds: Hashable, arguments: tuple[Any, ...]
) -> Callable[..., Any]:
    key, stamp = (kinds, native.host()), _stamp(loop.__code__.co_filename)
    name = _file_name(loop, key, NATIVE)
    for folder in folders():
        if (body := _whole(folder / name, stamp)) is not None:
            return native.loaded(body, arguments)
    dispatcher = dispatchers()[loop.__name__]
    made = native.object_file(dispatcher, arguments) if native.is_possible() else None
    if made is None:
        return cast(Callable[..., Any], dispatcher)
    _write(name, _sealed(stamp, made))
    return native.loaded(made, arguments)


def _is_kept(loop: Any) -> bool:
    # Whether a loop of the same module was compiled on this machine by the same numba.
    stamp, names = _stamp(loop.__code__.co_filename), _file_name(loop, (), NATIVE).split(".")[0] + f".*{NATIVE}"
    paths = (path for folder in folders() for path in _found(folder, names))
    return any(_whole(path, stamp) is not None for path in paths)


def _found(folder: Path, names: str) -> list[Path]:
    # A folder that may not be searched has none; that nothing can be kept there is said by who tries.
    try:
        return list(folder.glob(names))
    except OSError:
        return []


def _file_name(function: Any, key: object, suffix: str) -> str:
    # The types and the CPU tell apart what is kept side by side; `_stamp` what takes its place.
    digest = hashlib.sha256(repr(key).encode()).hexdigest()[:16]
    version = "".join(map(str, sys.version_info[:2]))
    return f"{function.__module__.rpartition('.')[2]}.{function.__name__}.py{version}-{digest}{suffix}"


def _sealed(stamp: bytes, body: bytes) -> bytes:
    return stamp + hashlib.sha256(stamp + body).digest() + body


def folders() -> Iterator[Path]:
    """Where machine code may be: what numba's own variable names, beside the source, or the user's cache."""
    named = os.environ.get("NUMBA_CACHE_DIR")
    if named:
        yield Path(named).absolute()
    yield Path(__file__).parent / "__pycache__"
    yield user_cache()


class Kept:
    """What a dispatcher asks for machine code and gives it to, in the place of numba's `FunctionCache`."""

    def __init__(self, function: Any) -> None:
        """Nothing is read yet; `function` is the plain one."""
        self._function = function
        self.cache_path = str(next(folders()))

    def load_overload(self, signature: Signature, target: Any) -> Any:
        """The compile result that was kept for these argument types and this CPU; None where there is none."""
        from numba.core import compiler

        result: Any = compiler.CompileResult
        target.refresh()
        name = self._name(signature, target.codegen())
        for folder in folders():
            body = _whole(folder / name, _stamp(self._function.__code__.co_filename))
            if body is not None:
                return result._rebuild(target, *pickle.loads(body))
        return None

    def save_overload(self, signature: Signature, compiled: Any) -> None:
        """Keep a compile result where it can be kept; where it cannot, that is said once."""
        from numba.core import serialize

        body: bytes = cast(Any, serialize).dumps(compiled._reduce())
        stamp = _stamp(self._function.__code__.co_filename)
        _write(self._name(signature, compiled.codegen), _sealed(stamp, body))

    def enable(self) -> None:
        """As numba's has it."""

    disable = flush = enable

    def _name(self, signature: Signature, codegen: Any) -> str:
        return _file_name(self._function, (signature, codegen.magic_tuple()), PICKLED)


@functools.cache
def _stamp(source: str) -> bytes:
    # Of all that machine code is made from and by, without importing it: what the loops are (they call none of another
    # file), how they are compiled, and how they are called, since code that is called otherwise ends the process.
    made = b"".join(Path(path).read_bytes() for path in (source, __file__, native.__file__))
    versions = [f"{name} {version_of(name)}" for name in ("numba", "llvmlite", "numpy")]
    return hashlib.sha256(made + " ".join([*versions, sys.version]).encode()).digest()


def _whole(path: Path, stamp: bytes) -> bytes | None:
    # What `save_overload` wrote of the same source, to the last bit; None: nothing, stale, or damaged, which is said.
    try:
        kept = path.read_bytes()
    except OSError:
        return None
    head, digest, body = kept[:DIGEST], kept[DIGEST : 2 * DIGEST], kept[2 * DIGEST :]
    if digest == hashlib.sha256(head + body).digest():
        return body if head == stamp else None
    _say_once("damaged", f"machine code in {path.parent} is damaged ({path.name}): it is compiled anew")
    return None


def _write(name: str, data: bytes) -> None:
    if "not kept" in _told:  # where one cannot be kept, none of the others is tried
        return
    problems = []
    for folder in folders():
        try:
            write_atomically(folder / name, data)
            return
        except OSError as error:
            problems.append(f"{folder}: {error.strerror or error}")
    _say_once("not kept", f"machine code of the loops cannot be kept ({'; '.join(problems)}): {COST}")


def _say_once(kind: str, message: str) -> None:
    if kind not in _told:
        _told.add(kind)
        say(message)


@functools.cache
def _hold_compiler() -> None:
    from numba.core.compiler_lock import global_compiler_lock

    hold(global_compiler_lock)
