"""Loops as machine code that is called without numba: its import and its first call take 0.3 s of a process.

numba makes the code once a machine; `runtime.kernels.kept` has the files. They are object files without a reference to
numba or Python, which llvmlite loads in milliseconds. The arguments are laid down in slots of eight bytes, as numba
takes them apart: an array is its owner, size, address, shape and strides, a named tuple its fields.

Source: numba, core/callconv.py (CPUCallConv) and core/datamodel/models.py (ArrayModel); NumPy, C API, PyArrayObject.
"""

import ctypes
import functools
import re
import struct
import threading
from collections.abc import Callable, Hashable
from typing import Any

import numpy as np

from runtime.forks import hold

ENTRY = "loop"
DONE = (0, -2)  # numba's statuses of a loop that ended; -2 is that of None
SLOTS = {"int": "q", "H": "H6x", "f": "f4x"}  # of a scalar, by its type, for `struct`
ADDRESS = (
    object.__basicsize__
)  # where a NumPy array has the address of its values: `ctypes.data` takes ten times as long
# Frees an array that a loop owns. None does: it makes none, and is given none to keep.
FREE = re.compile(r"^declare void @NRT_MemInfo_call_dtor\(ptr[^)]*\).*$", re.MULTILINE)
UNTYPED = 16  # LLVM's version since which its pointers are `ptr`, as they are written here
_ENGINES: list[Any] = []  # their code is called as long as the process lives
_LOADING = threading.RLock()
hold(_LOADING)


class Loop:
    """A plain function in its compiled form, one for each of the kinds of arguments that it was called with."""

    def __init__(self, function: Any, made: Callable[[Any, Hashable, tuple[Any, ...]], Callable[..., Any]]):
        """Nothing is loaded.

        Args:
            function: the plain one; where it returns something, it stays numba's.
            made: gives what to call, of the function, the kinds of its arguments, and such arguments.
        """
        self.function, self._made = function, made
        self.loaded: dict[Hashable, Callable[..., Any]] = {}

    def __call__(self, *arguments: Any) -> Any:
        """What the plain function does."""
        kinds = tuple(map(kind_of, arguments))
        call = self.loaded.get(kinds)
        if call is None:
            with _LOADING:
                call = self.loaded.get(kinds) or self._made(self.function, kinds, arguments)
                self.loaded[kinds] = call
        return call(*arguments)


def kind_of(argument: Any) -> Hashable:
    """What machine code hangs on of an argument: types, dimensions, order in memory, whether it may be written."""
    if isinstance(argument, np.ndarray):
        flags = argument.flags
        order = "C" if flags.c_contiguous else "F" if flags.f_contiguous else "A"
        return argument.dtype.char, argument.ndim, order, flags.writeable, flags.aligned
    if isinstance(argument, tuple):
        return type(argument).__name__, *map(kind_of, argument)
    return argument.dtype.char if isinstance(argument, np.generic) else type(argument).__name__


def is_possible() -> bool:
    """Whether this llvmlite takes a module apart and reads pointers without types, for `object_file`: since 0.45."""
    import llvmlite.binding as llvm

    return hasattr(llvm, "create_new_module_pass_manager") and llvm.llvm_version_info[0] >= UNTYPED


def object_file(dispatcher: Any, arguments: tuple[Any, ...]) -> bytes | None:
    """Of a function of numba's, for such arguments, the machine code with all that it calls; None: it needs more."""
    import llvmlite.binding as llvm
    import numba

    types = tuple(map(numba.typeof, arguments))
    dispatcher.compile(types)
    compiled = dispatcher.overloads[types]
    if compiled.signature.return_type != numba.none:
        return None
    entry = compiled.fndesc.llvm_func_name
    text = FREE.sub("define internal void @NRT_MemInfo_call_dtor(ptr %0) { ret void }", compiled.library.get_llvm_str())
    given = [str(each.type) for each in llvm.parse_assembly(text).get_function(entry).arguments]
    module, machine = llvm.parse_assembly(text + _from_slots(entry, given[2:])), _machine()
    for value in (*module.functions, *module.global_variables):
        if not value.is_declaration and value.name != ENTRY:
            value.linkage = "internal"
    passes = llvm.create_new_module_pass_manager()
    passes.add_global_dead_code_eliminate_pass()
    passes.run(module, llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options()))
    declared = {value.name for value in (*module.functions, *module.global_variables) if value.is_declaration}
    needed = {name for name in declared if not name.startswith("llvm.")}
    return None if needed else machine.emit_object(module)


def _from_slots(entry: str, types: list[str]) -> str:
    # LLVM assembly: ENTRY calls numba's function with what lies in the slots; its result and exception go nowhere.
    loads = [
        f"%p{i} = getelementptr i64, ptr %slots, i64 {i}\n%v{i} = load {kind}, ptr %p{i}"
        for i, kind in enumerate(types)
    ]
    given = ", ".join(["ptr %result", "ptr %error", *(f"{kind} %v{i}" for i, kind in enumerate(types))])
    places = "%result = alloca i64\n%error = alloca ptr"
    call = f'%status = call i32 @"{entry}"({given})\nret i32 %status'
    return "\n".join([f"\ndefine i32 @{ENTRY}(ptr %slots) {{", places, *loads, call, "}"])


def loaded(data: bytes, arguments: tuple[Any, ...]) -> Callable[..., None]:
    """What to call of an object file, with arguments of the kinds of these.

    Python's lock is free meanwhile.
    """
    import llvmlite.binding as llvm

    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _machine())
    engine.add_object_file(llvm.ObjectFileRef.from_data(data))
    engine.finalize_object()
    _ENGINES.append(engine)
    function = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_char_p)(engine.get_function_address(ENTRY))
    pack = struct.Struct("<" + "".join(map(_slots, arguments))).pack

    def call(*given: Any) -> None:
        values: list[Any] = []
        for each in given:
            _lay_down(each, values)
        status = function(pack(*values))
        if status not in DONE:
            raise RuntimeError(f"machine code of a loop ended with status {status}")

    return call


@functools.cache
def host() -> tuple[str, str, str]:
    """The CPU as LLVM names it: system, model, features."""
    import llvmlite.binding as llvm

    return llvm.get_process_triple(), llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()


@functools.cache
def _machine() -> Any:
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    triple, cpu, features = host()
    options = {"cpu": cpu, "features": features, "opt": 3, "jit": True}
    return llvm.Target.from_triple(triple).create_target_machine(**options)


def _slots(argument: Any) -> str:
    # How `struct` writes what `_lay_down` gives.
    if isinstance(argument, np.ndarray):
        return "q" * (5 + 2 * argument.ndim)
    return "".join(map(_slots, argument)) if isinstance(argument, tuple) else SLOTS[str(kind_of(argument))]


def _lay_down(argument: Any, values: list[Any]) -> None:
    if isinstance(argument, np.ndarray):
        address = ctypes.c_void_p.from_address(id(argument) + ADDRESS).value
        values += (0, 0, argument.size, argument.itemsize, address, *argument.shape, *argument.strides)
    elif isinstance(argument, tuple):
        for each in argument:
            _lay_down(each, values)
    else:
        values.append(argument)
