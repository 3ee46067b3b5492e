"""Comparing with a revision: its files come, its engine is built by its own code, and nothing is left behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from engines import revision
from engines.revision import NoBase, built_engine, main, worktree
from runtime.errors import EngineError
from runtime.measure.gate import regress

MAKEFILE = """
engine: $(VENV)/.installed
	@echo building $(MODEL) >&2; mkdir -p artifacts; echo {text} > artifacts/{text}.engine; echo artifacts/{text}.engine
$(VENV)/.installed: always
	@echo 'packages are installed again' >&2; exit 1
always:
"""
# Python leaves an interrupt ignored where its parent, a shell's background job, has it so.
WAIT = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
WAIT += "import sys; from pathlib import Path; from engines.revision import worktree; import time\n"
WAIT += "with worktree('HEAD', Path(sys.argv[1])) as tree: print(tree, flush=True); time.sleep(60)"


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    done = subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two commits of a project whose engine is named after them; it stands in for this one."""
    folder = tmp_path / "project"
    folder.mkdir()
    git(folder, "init", "--quiet")
    for text in ("old", "new"):
        (folder / "Makefile").write_text(MAKEFILE.format(text=text))
        git(folder, "add", "Makefile")
        git(folder, "commit", "--quiet", "-m", text)
    monkeypatch.setattr(revision, "ROOT", folder)
    return folder


def worktrees(folder: Path) -> int:
    return len(git(folder, "worktree", "list").splitlines())


@pytest.mark.parametrize("level", [None, "0", "2"])
def test_this_projects_makefile_takes_the_packages_that_are_installed(monkeypatch, capsys, level):
    if level is None:
        monkeypatch.delenv("MAKELEVEL", raising=False)
    else:
        monkeypatch.setenv("MAKELEVEL", level)
    with pytest.raises(EngineError):
        built_engine(revision.ROOT, ["PRECISION=none"])
    assert "unknown precision 'none'" in capsys.readouterr().err


def test_a_revision_has_its_own_code_and_this_trees_artifacts(project):
    with worktree("HEAD~1", project) as tree:
        assert "old" in (tree / "Makefile").read_text()
        assert built_engine(tree, ["MODEL=icnet"]).read_text() == "old\n"
        assert (project / "artifacts" / "old.engine").is_file()
    assert not tree.exists() and worktrees(project) == 1
    assert (project / "artifacts" / "old.engine").is_file()


def test_both_engines_are_compared_and_other_options_are_passed_on(project, monkeypatch):
    compared = []

    def fake(argv: list[str]) -> int:
        compared.extend([Path(argv[0]).read_text(), Path(argv[1]).read_text(), *argv[2:3], *argv[4:]])
        return regress.SLOWER

    monkeypatch.setattr(regress, "main", fake)
    assert main(["HEAD~1", "--model", "enet", "--budget-ms", "33.3"]) == regress.SLOWER
    assert compared == ["old\n", "new\n", "--base-code", "--budget-ms", "33.3"]


def test_what_is_said_of_a_network_reaches_both_trees_its_files_by_their_whole_paths(project, tmp_path, monkeypatch):
    built = []
    monkeypatch.setattr(revision, "built_engine", lambda tree, variables: built.append(variables) or tree / "Makefile")
    monkeypatch.setattr(regress, "main", lambda argv: 0)
    monkeypatch.chdir(tmp_path)
    for name in ("net.py", "w.pth", "c.json"):
        Path(name).touch()
    given = ["--weights", "w.pth", "--classes", "c.json", "--ema", "--preprocess", "imagenet"]
    assert main(["HEAD~1", "--model", "net.py:build", *given]) == 0
    files = [f"WEIGHTS={tmp_path}/w.pth", f"CLASSES={tmp_path}/c.json", "PREPROCESS=imagenet", "EMA=1"]
    assert built[0] == built[1] and built[0][0] == f"MODEL={tmp_path}/net.py:build" and built[0][-4:] == files


def test_a_revision_that_is_not_there_is_no_baseline(project, capsys):
    assert main(["HEAD~7"]) == regress.NO_BASELINE
    assert capsys.readouterr().out.startswith("no baseline\n  git cannot take HEAD~7: ")
    assert worktrees(project) == 1


def test_a_revision_that_builds_no_engine_is_no_baseline(project, capsys):
    (project / "Makefile").write_text("engine:\n\t@echo this is broken >&2; exit 1\n")
    git(project, "commit", "--quiet", "-am", "broken")
    (project / "Makefile").write_text(MAKEFILE.format(text="new"))
    assert main(["HEAD"]) == regress.NO_BASELINE
    assert "the base gives no engine: " in capsys.readouterr().out


def test_a_candidate_that_builds_no_engine_is_an_error(project):
    (project / "Makefile").write_text("engine:\n\t@true\n")
    with pytest.raises(EngineError, match=r"make engine MODEL=icnet PRECISION=fp16 .* fails"):
        main(["HEAD"])


def waiting(project: Path) -> tuple[subprocess.Popen[str], Path]:
    child = subprocess.Popen(
        [sys.executable, "-c", WAIT, str(project)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert child.stdout is not None
    tree = Path(child.stdout.readline().strip())
    assert tree.is_dir() and worktrees(project) == 2
    return child, tree


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupt_leaves_no_worktree(project, number):
    child, tree = waiting(project)
    time.sleep(0.1)
    child.send_signal(number)
    child.communicate(timeout=30)
    assert not tree.parent.exists() and worktrees(project) == 1


@pytest.mark.parametrize("locked", [False, True])
def test_the_worktree_that_a_killed_run_left_goes_with_the_next_one(project, locked):
    child, left = waiting(project)
    child.kill()
    child.communicate()
    assert left.is_dir() and worktrees(project) == 2
    if locked:  # as git has it while it makes one
        git(project, "worktree", "lock", str(left))
    with worktree("HEAD", project) as tree:
        assert tree.is_dir() and worktrees(project) == 2
    assert not left.parent.exists() and worktrees(project) == 1


def test_an_interrupt_while_an_engine_is_built_ends_what_make_started(project, tmp_path):
    (project / "Makefile").write_text(
        f"engine:\n\t@(sleep 20; touch {tmp_path}/written) & echo $$! > {tmp_path}/pid; wait\n"
    )
    program = "import sys; from pathlib import Path; from engines.revision import built_engine\n"
    program += "built_engine(Path(sys.argv[1]), [])"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    child = subprocess.Popen([sys.executable, "-c", program, str(project)], env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while not (pid := (tmp_path / "pid")).is_file() or not pid.read_text().strip():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    child.terminate()
    child.wait(10)  # and not as long as what make started holds its output
    stat = Path(f"/proc/{pid.read_text().strip()}/stat")
    while stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z" and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z"


def test_a_mistake_in_the_gates_options_is_told_before_anything_is_built(project, monkeypatch, capsys):
    monkeypatch.setattr(revision, "built_engine", None)
    with pytest.raises(SystemExit):
        main(["HEAD", "--rounds", "8", "--batches", "1"])
    assert "must be 9 or more" in capsys.readouterr().err


def test_outside_of_git_there_is_no_baseline(tmp_path):
    with pytest.raises(NoBase, match="git cannot take HEAD"), worktree("HEAD", tmp_path):
        pass


def test_an_onnx_file_and_what_its_options_name_are_found_from_either_tree(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my classes.json").write_text("[]")
    given = ["HEAD", "--onnx", "net.onnx", "--adopt-options", "--preprocess imagenet --classes 'my classes.json'"]
    options = revision._parser().parse_args(given)
    options_text = f"ADOPT_OPTIONS=--preprocess imagenet --classes '{tmp_path / 'my classes.json'}'"
    assert revision._network(options) == [f"ONNX={tmp_path / 'net.onnx'}", options_text]
    assert revision._network(revision._parser().parse_args(["HEAD"])) == ["MODEL=icnet"]
