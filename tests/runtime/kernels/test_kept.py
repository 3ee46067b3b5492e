"""Machine code kept on disk: read, made anew where it is damaged, done without where nothing can be written."""

import errno

import numpy as np
import pytest

from runtime.kernels import kept

numba = pytest.importorskip("numba")


@pytest.fixture
def folders(monkeypatch, tmp_path):
    """One empty folder for machine code, and nothing said yet."""
    found = [tmp_path / "kept"]
    monkeypatch.setattr(kept, "folders", lambda: iter(found))
    monkeypatch.setattr(kept, "_told", set())
    return found


def double(values):
    for i in range(values.size):
        values[i] *= 2


def run():
    """A process's own dispatcher of `double`; whether it compiled, or took what was kept."""
    dispatcher = kept.keep(numba.njit(nogil=True)(double))
    values = np.arange(4)
    dispatcher(values)
    assert values.tolist() == [0, 2, 4, 6]
    return "kept" if dispatcher.stats.cache_hits else "compiled"


def test_machine_code_is_compiled_once(folders, capsys):
    assert [run(), run()] == ["compiled", "kept"]
    assert len(list(folders[0].iterdir())) == 1
    assert capsys.readouterr().err == ""


def test_other_argument_types_are_kept_beside_them(folders):
    run()
    dispatcher = kept.keep(numba.njit(nogil=True)(double))
    dispatcher(np.ones(3, np.float32))
    assert len(list(folders[0].iterdir())) == 2 and run() == "kept"


DAMAGES = {
    "empty": lambda data: b"",
    "cut off": lambda data: data[: len(data) // 2],
    "longer": lambda data: data + b"x",
    "zeros": lambda data: bytes(len(data)),
    "not a pickle": lambda data: b"x" * 900,
    **{f"bit {at:.2f}": lambda data, at=at: flipped(data, at) for at in np.linspace(0, 0.999, 12)},
}


def flipped(data, at):
    changed = bytearray(data)
    changed[int(at * len(data))] ^= 1
    return bytes(changed)


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damaged_machine_code_is_never_run_but_made_anew_and_said(folders, damage, capsys):
    run()
    (path,) = folders[0].iterdir()
    path.write_bytes(damage(path.read_bytes()))
    assert [run(), run()] == ["compiled", "kept"]
    assert capsys.readouterr().err == f"machine code in {folders[0]} is damaged ({path.name}): it is compiled anew\n"


def test_what_another_source_or_another_numba_made_is_stale_and_replaced_without_a_word(folders, monkeypatch, capsys):
    run()
    with monkeypatch.context() as patch:
        patch.setattr(kept, "_stamp", lambda source: b"s" * kept.DIGEST)
        assert [run(), run()] == ["compiled", "kept"]
    assert run() == "compiled" and len(list(folders[0].iterdir())) == 1
    assert capsys.readouterr().err == ""


def unwritable(monkeypatch, error):
    def refuse(path, data):
        raise OSError(error, {errno.EROFS: "Read-only file system", errno.ENOSPC: "No space left on device"}[error])

    monkeypatch.setattr(kept, "write_atomically", refuse)


@pytest.mark.parametrize("error", [errno.EROFS, errno.ENOSPC])
def test_where_nothing_can_be_written_it_is_done_without_and_said_once(folders, error, monkeypatch, capsys):
    unwritable(monkeypatch, error)
    assert [run(), run()] == ["compiled", "compiled"]
    (said,) = capsys.readouterr().err.splitlines()
    assert (
        said.startswith(f"machine code of the loops cannot be kept ({folders[0]}: ") and "every start compiles" in said
    )


def test_a_folder_that_can_only_be_read_is_read(folders, monkeypatch, capsys):
    run()
    unwritable(monkeypatch, errno.EROFS)
    assert run() == "kept" and capsys.readouterr().err == ""


def test_where_the_first_folder_cannot_be_written_the_next_one_is(folders, tmp_path, capsys):
    (tmp_path / "file").write_bytes(b"")
    folders.insert(0, tmp_path / "file" / "kept")
    assert [run(), run()] == ["compiled", "kept"] and capsys.readouterr().err == ""


def test_a_user_without_a_home_has_a_cache_that_cannot_be_written(monkeypatch):
    from runtime import artifacts

    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(artifacts.Path, "home", homeless)
    with pytest.raises(OSError):
        artifacts.write_atomically(artifacts.user_cache() / "a", b"")


def test_the_folder_that_numba_s_variable_names_comes_first(monkeypatch, tmp_path):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    first, *_, last = kept.folders()
    assert (first, last) == (tmp_path, tmp_path / "user" / "street-segmentation")
