"""Odd command lines over all commands, in this process: usage or one line, and never a traceback."""

import importlib
import sys

import pytest

from runtime import cli
from runtime.arguments import parser_of

# Of every command what it must be given; none of it is of use.
COMMANDS = {
    "runtime.infer": ["a.png"],
    "runtime.evaluate": ["--engine", "e.engine", "--dataset", "camvid", "--data", "d"],
    "runtime.bench_report": ["a.json"],
    "runtime.bench_rivals": ["a.json", "--page", "a.png"],
    "runtime.report": ["--bench", "a.json"],
    "runtime.prove": ["e.engine"],
    "engines.build": ["g.onnx"],
    "engines.bundle": ["g.onnx", "--wheel", "w"],
    "engines.compare": ["g.onnx", "e.engine"],
    "calib.ranges": ["g.onnx", "--data", "d"],
    "calib.qdq": ["g.onnx"],
    "calib.methods": ["g.onnx", "--data", "d"],
    "calib.sensitivity": ["g.onnx", "--data", "d"],
    "export.to_torch": ["--model", "nope"],
}
ODD = ["", "-1", "99999999999999999999", "nan", ".", "a\x1b[2J", "\udcff", "x" * 5000]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "a.json", "e.engine"):
        (tmp_path / name).write_text("x")
    (tmp_path / "d").mkdir()


@pytest.mark.parametrize("name", COMMANDS)
def test_odd_values_of_every_option_are_usage_or_one_line(here, monkeypatch, capsys, name):
    main, given = importlib.import_module(name).main, COMMANDS[name]
    lines = [[], ["--nope"], [""] * len(given)]
    for action in parser_of(main)._actions:
        if action.option_strings and action.nargs != 0:
            lines += [[*given, f"{action.option_strings[-1]}={value}"] for value in ODD]
    for line in lines:
        monkeypatch.setattr(sys, "argv", ["x", *line])
        with pytest.raises(SystemExit) as ended:
            cli.run(main)
        err = capsys.readouterr().err
        assert ended.value.code in (cli.DONE, cli.FAILED, cli.USAGE), (line, err)
        assert "\x1b" not in err and "Traceback" not in err, (line, err)


@pytest.mark.parametrize("odd", ["", ".", "..", "/", "d", "nowhere/x", "x" * 5000, "\x1b[2J", "a\nb"])
@pytest.mark.parametrize(
    "name", ["runtime.infer", "runtime.prove", "runtime.bench_report", "engines.build", "engines.keys"]
)
def test_odd_files_are_one_line(here, monkeypatch, capsys, name, odd):
    monkeypatch.setattr(sys, "argv", ["x", odd])
    with pytest.raises(SystemExit) as ended:
        cli.run(importlib.import_module(name).main)
    err = capsys.readouterr().err
    assert ended.value.code in (cli.DONE, cli.FAILED, cli.USAGE) and "\x1b" not in err
    assert ended.value.code == cli.DONE or err.splitlines()[-1].count("error: ") == 1
