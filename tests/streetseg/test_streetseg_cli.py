"""The command `streetseg`: what it lists, what it answers to what is not there, and what it starts with."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from runtime import cli as runtime_cli
from runtime.arguments import parser_of, typed_as
from runtime.errors import LibraryError, PipelineError
from streetseg import __main__ as start
from streetseg import cli, commands
from tests.helpers import fake_backend

ROOT = Path(__file__).parents[2]
MOST_STARTING_S = 0.3  # of processor time: what else the machine does is not ours
HEAVY = ("numpy", "cv2", "numba", "torch", "onnx", "openvino", "shtab")


def test_help_lists_every_command_with_one_line_by_purpose(capsys):
    assert cli.main(["--help"]) == runtime_cli.DONE
    lines = capsys.readouterr().out.splitlines()
    for group, members in commands.GROUPS.items():
        at = lines.index(f"{group}:")
        told = [line.split()[0] for line in lines[at + 1 : at + 1 + len(members)]]
        assert told == list(members)
    assert max(map(len, lines)) <= 80


def test_without_a_command_the_list_is_printed_and_the_exit_code_says_usage(capsys):
    assert cli.main([]) == runtime_cli.USAGE and "infer" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("typed", "answer"),
    [
        (["infr", "a.png"], "unknown command 'infr'. Did you mean infer? There are: "),
        (["engnes"], "unknown command 'engnes'. Did you mean engines? "),
        (["eval"], "unknown command 'eval'. Did you mean evaluate? "),
        (["xyz"], "unknown command 'xyz'. There are: ablation, "),
        (["--model", "icnet", "engine"], "the command comes first: streetseg COMMAND [options]; "),
    ],
)
def test_a_mistyped_command_is_one_line_that_names_the_closest(capsys, typed, answer):
    assert cli.main(typed) == runtime_cli.USAGE
    printed = capsys.readouterr()
    assert printed.err.startswith(f"error: {answer}") and printed.err.count("\n") == 1 and printed.out == ""


@pytest.mark.parametrize(
    ("typed", "answer"),
    [
        (["infer", "a.png", "--engin", "x", "--oputput", "y"], "--oputput y (did you mean --output?)"),
        (["engine", "--precison=int8"], "--precison=int8 (did you mean --precision?)"),
        (["engine", "--zzz"], "unrecognized arguments: --zzz"),
        (["engine", "--size", "704"], "size '704' is not HEIGHTxWIDTH, for example 1024x2048"),
        (["engine", "x.onnx", "--model", "enet"], "x.onnx and --model enet: give a graph or a network"),
        (["triton", "prob"], "'prob' is no word of this command; there is probe (did you mean probe?)"),
        (["triton", "street.engine"], "'street.engine' is no word of this command; there is probe"),
        (["fleet", "Merg", "-o", "nix"], "Merg: does not exist (did you mean merge?)"),
        (["fleet", "pln", "in"], "pln: does not exist (did you mean plan?)"),
    ],
)
def test_a_mistyped_option_or_word_is_usage_and_names_the_closest(capsys, typed, answer):
    with pytest.raises(SystemExit) as ended:
        cli.main(typed)
    last = capsys.readouterr().err.splitlines()[-1]
    assert ended.value.code == runtime_cli.USAGE
    assert last.startswith(f"streetseg {typed[0]}: error: ") and last.endswith(answer)


@pytest.mark.parametrize("name", commands.COMMANDS)
def test_a_command_calls_itself_what_was_typed(name):
    text = parser_of(commands.COMMANDS[name].load(), f"streetseg {name}").format_help()
    assert text.startswith(f"usage: streetseg {name} ")
    assert f"python -m {commands.COMMANDS[name].place.partition(':')[0]} " not in text


def test_the_same_function_called_as_a_module_has_its_own_name():
    main = commands.find("infer").load()
    assert parser_of(main).prog == "python -m runtime.infer"
    with typed_as("streetseg infer"):
        assert parser_of(main, "streetseg infer").prog == "streetseg infer"
    assert parser_of(main).prog == "python -m runtime.infer"


def test_help_of_a_command_is_asked_either_way(capsys):
    for typed in (["help", "infer"], ["infer", "--help"]):
        with pytest.raises(SystemExit, match="0"):
            cli.main(typed)
    first, second = capsys.readouterr().out.split("usage: ")[1:]
    assert first == second


def test_a_command_does_what_its_module_does(tmp_path, monkeypatch, capsys):
    here = fake_backend.working_folder(tmp_path, monkeypatch)
    assert cli.main(["infer", "a.png", "-o", "out", "--save", "ids"]) == runtime_cli.DONE
    assert "out/a_png_ids.png" in capsys.readouterr().out and (here / "out/a_png_ids.png").is_file()


def test_a_commands_error_and_exit_code_pass(tmp_path, monkeypatch, capsys):
    fake_backend.working_folder(tmp_path, monkeypatch)
    assert cli.main(["infer", "a.png", "none.png", "-o", "out"]) == runtime_cli.FAILED
    with pytest.raises(PipelineError, match=r"streetseg engine --model \.\.\. --precision \.\.\.|does not exist"):
        cli.main(["infer", "a.png", "--engine", "none.engine"])


class Blocked:
    """Finds no module of these names."""

    def __init__(self, *names):
        self.names = names

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


@pytest.mark.parametrize(
    ("command", "library", "extra"),
    [("train", "torch", "export"), ("quantize", "onnx", "build"), ("export", "onnxscript", "export")],
)
def test_a_missing_extra_is_one_line_that_names_it(tmp_path, monkeypatch, command, library, extra):
    monkeypatch.chdir(tmp_path)
    code = (
        "import sys; from tests.streetseg.test_streetseg_cli import Blocked; from streetseg.__main__ import start\n"
        f"sys.meta_path.insert(0, Blocked({library!r})); sys.argv = ['streetseg', {command!r}, *sys.argv[1:]]; start()"
    )
    done = run_python(code, *(["--size", "64x128"] if command != "train" else []), cwd=tmp_path)
    assert done.returncode == runtime_cli.FAILED and done.stdout == ""
    told = f"error: {library} is not installed, and is needed here: pip install 'street-segmentation[{extra}]'"
    assert done.stderr.splitlines()[-1] == told, done.stderr


def test_a_module_of_ours_that_is_missing_is_a_bug_and_no_extra(monkeypatch):
    broken = commands.Command("", "runtime.nowhere:main")
    monkeypatch.setitem(commands.COMMANDS, "broken", broken)
    with pytest.raises(ModuleNotFoundError, match=r"runtime\.nowhere"):
        cli.main(["broken"])


def test_a_library_that_a_command_misses_is_typed(monkeypatch):
    monkeypatch.setitem(commands.COMMANDS, "broken", commands.Command("", "av_that_is_not_here:main"))
    with pytest.raises(LibraryError, match="av_that_is_not_here is not installed"):
        cli.main(["broken"])


def run_python(code, *argv, cwd=ROOT):
    return subprocess.run(
        [sys.executable, "-c", code, *argv], cwd=cwd, capture_output=True, text=True, timeout=300,
        env={"PATH": "", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_and_version_load_no_library_and_are_quick(option):
    code = (
        "import sys, time; from streetseg.cli import main; main(sys.argv[1:])\n"
        "print(*{name.split('.')[0] for name in sys.modules}, time.process_time(), file=sys.stderr)"
    )
    done = run_python(code, option)
    *loaded, took_s = done.stderr.split()
    assert done.returncode == 0 and not set(HEAVY) & set(loaded)
    assert float(took_s) < MOST_STARTING_S


def test_the_version_is_the_packages():
    version = re.search(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.M)
    assert re.fullmatch(r"[\d.]+\S*|\(not installed\)", cli.version()) and version


def test_a_runtime_in_the_users_folder_is_not_taken_for_ours(tmp_path):
    (tmp_path / "runtime.py").write_text("raise SystemExit('the user\\'s runtime.py')")
    done = subprocess.run(
        [sys.executable, "-m", "streetseg", "engines"], cwd=tmp_path, capture_output=True, text=True, timeout=60,
        env={"PATH": "", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0 and "no engine in artifacts/engines" in done.stderr, done.stderr


def test_only_the_users_folder_is_forgotten(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", ["", "kept"])
    start.forget_the_users_folder()  # the checkout itself
    assert sys.path == ["", "kept"]
    monkeypatch.chdir(tmp_path)
    start.forget_the_users_folder()
    assert sys.path == ["kept"]
