"""Loops as machine code without numba: called as numba compiles them, kept, read, made anew where it is damaged."""

import errno
import functools
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from runtime.kernels import kept, native
from tests.runtime.kernels.test_kept import DAMAGES

pytest.importorskip("numba")
if not native.is_possible():
    pytest.skip("this llvmlite takes no module apart", allow_module_level=True)


class Pair(NamedTuple):
    """Of arrays."""

    first: np.ndarray
    second: np.ndarray


def blend(start, pair, weight, shift, out):
    for i in range(start, out.shape[0]):
        for j in range(out.shape[1]):
            out[i, j] = np.float32(pair.first[i, j]) * weight + _second(pair, j) + np.float32(shift)


def _second(pair, j):
    return np.float32(pair.second[j])


def returns(values):
    return values.size


def fails(values):
    if values.size > 1:
        raise ValueError("it is more than one")
    values[0] = 7


LOOPS = (_second, blend, returns, fails)


@pytest.fixture
def folder(monkeypatch, tmp_path):
    """The one folder for machine code, empty, and nothing said yet."""
    monkeypatch.setattr(kept, "folders", lambda: iter([tmp_path / "kept"]))
    monkeypatch.setattr(kept, "_told", set())
    return tmp_path / "kept"


def loops():
    """A process's own loops."""
    module = {**globals()}
    kept.compile_all(module, LOOPS)
    assert module["_second"] is _second
    return module


@pytest.fixture
def compiles(monkeypatch):
    """Arguments of each function that numba compiled."""
    found = []
    original = native.object_file
    monkeypatch.setattr(native, "object_file", lambda *given: found.append(given[1]) or original(*given))
    return found


def case(order="C", kind=np.float32):
    random = np.random.default_rng(0)
    first = random.integers(0, 99, (5, 7)).astype(kind)
    pair = Pair(np.asfortranarray(first) if order == "F" else first, random.integers(0, 9, 7).astype(np.uint8))
    pair = pair._replace(first=np.repeat(first, 2, 1)[:, ::2]) if order == "A" else pair
    return 2, pair, np.float32(0.5), np.uint16(40000), np.full((5, 7), -1, np.float32)


def check(module, arguments):
    wanted = arguments[-1].copy()
    blend(*arguments[:-1], wanted)
    assert module["blend"](*arguments) is None
    np.testing.assert_array_equal(arguments[-1], wanted)
    assert wanted[0, 0] == -1 and wanted[2, 0] > 20000


@pytest.mark.parametrize("order", ["C", "F", "A"])
@pytest.mark.parametrize("kind", [np.float32, np.uint8, np.int32])
def test_a_loop_is_the_plain_function_whatever_its_arguments_are(folder, compiles, order, kind):
    check(loops(), case(order, kind))
    check(loops(), case(order, kind))
    assert len(compiles) == 1


def test_what_may_not_be_written_is_told_apart(folder, compiles):
    arguments = case()
    arguments[1].first.flags.writeable = False
    module = loops()
    check(module, arguments)
    check(module, case())
    assert len(compiles) == 2 and len(list(folder.glob("*.native"))) == 2


def test_a_loop_that_gives_something_is_numba_s_own_and_not_kept(folder):
    assert loops()["returns"](np.zeros(3)) == 3 and not folder.exists()


def test_a_loop_that_fails_is_an_error_and_no_wrong_result(folder):
    module, values = loops(), np.zeros(1)
    made = module["fails"].loaded
    module["fails"](values)
    assert values[0] == 7 and made
    with pytest.raises(Exception, match=r"status 1|more than one"):
        module["fails"](np.zeros(2))


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_object_file_is_never_run_but_made_anew_and_said(folder, compiles, damage, capsys):
    check(loops(), case())
    (path,) = folder.iterdir()
    path.write_bytes(damage(path.read_bytes()))
    check(loops(), case())
    check(loops(), case())
    assert len(compiles) == 2
    assert capsys.readouterr().err == f"machine code in {folder} is damaged ({path.name}): it is compiled anew\n"


def test_another_source_or_cpu_has_machine_code_of_its_own(folder, compiles, monkeypatch):
    check(loops(), case())
    with monkeypatch.context() as patch:
        patch.setattr(native, "host", lambda: ("another", "cpu", ""))
        check(loops(), case())
    assert len(compiles) == 2 and len(list(folder.iterdir())) == 2
    monkeypatch.setattr(kept, "_stamp", lambda source: b"s" * kept.DIGEST)
    check(loops(), case())
    assert len(compiles) == 3 and len(list(folder.iterdir())) == 2


@pytest.mark.parametrize("module", [native, kept])
def test_what_another_way_to_compile_or_call_a_loop_made_is_stale(folder, compiles, monkeypatch, tmp_path, module):
    check(loops(), case())
    other = tmp_path / "other.py"
    other.write_bytes(Path(module.__file__).read_bytes() + b"# changed")
    monkeypatch.setattr(module, "__file__", str(other))
    monkeypatch.setattr(kept, "_stamp", functools.cache(kept._stamp.__wrapped__))
    check(loops(), case())
    assert len(compiles) == 2 and len(list(folder.iterdir())) == 1


def test_a_folder_that_cannot_be_listed_costs_one_line(monkeypatch, tmp_path, capsys):
    class Closed(type(tmp_path)):
        def glob(self, *given, **named):
            raise PermissionError(errno.EACCES, "Permission denied")

    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setattr(kept, "folders", lambda: iter([Closed(tmp_path / "file" / "kept")]))
    monkeypatch.setattr(kept, "_told", set())
    check(loops(), case())
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(f"machine code of the loops cannot be kept ({tmp_path / 'file' / 'kept'}: ")


def test_where_numba_no_longer_loads_what_is_kept_runs_and_the_rest_in_python(folder, compiles, monkeypatch, capsys):
    check(loops(), case())
    module = loops()
    monkeypatch.setitem(sys.modules, "numba", None)
    for order in "CFA":
        check(module, case(order))
    assert len(compiles) == 1
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith("numba does not load (") and said.endswith("not kept run in Python, very slowly")


@pytest.mark.parametrize("block", [1, 2])
def test_of_what_is_kept_a_frame_its_mask_its_overlay_and_its_confidence_need_no_numba(block):
    code = f"""
import sys
import numpy as np
from runtime.kernels import cpu, loops, native
from tests.helpers.graphs import tiny_spec
spec = tiny_spec(block={block})
frame = cpu.FrameResizer(spec.preprocess).resize(np.zeros((9, 9, 3), np.uint8))
cpu.load_loops(spec)
for kind in (np.float32, np.uint16):
    mask = cpu.Segmenter(spec).segment(np.zeros((4, 8, len(spec.classes) * {block}**2), kind), 30, 50)
    cpu.Segmenter(spec).confidence(np.zeros((4, 8, len(spec.classes) * {block}**2), kind), 30, 50)
cpu.overlay(np.zeros((30, 50, 3), np.uint8), mask, np.zeros((256, 3), np.uint8), 0.5)
print("numba" in sys.modules)
"""
    for found in ("", "False\n"):  # the first compiles what is not kept yet
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.endswith(found) and done.stderr == ""


@pytest.mark.parametrize("version", [(14, 0, 6), (15, 0, 7)])
def test_an_llvmlite_whose_pointers_have_types_has_numba_s_own_kept(folder, monkeypatch, version):
    import llvmlite.binding as llvm

    monkeypatch.setattr(llvm, "llvm_version_info", version)  # 15: of llvmlite 0.44, which has all the names
    for _ in range(2):
        check(loops(), case())
    assert {path.suffix for path in folder.iterdir()} == {kept.PICKLED}
