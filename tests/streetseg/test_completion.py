"""Completion as a shell runs it: the scripts are sourced by real shells, which then are asked for words."""

import os
import shutil
import subprocess

import pytest

from runtime.spec import BACKENDS, PRECISIONS
from streetseg import cli, commands, completion

NETWORKS = {
    "ddrnet23-slim", "deeplabv3plus-mmseg-r50", "deeplabv3plus-mobilenetv2", "deeplabv3plus-xception41",
    "deeplabv3plus-xception41-os8", "deeplabv3plus-xception65", "deeplabv3plus-xception65-os8",
    "deeplabv3plus-xception71", "deeplabv3plus-xception71-os8", "enet", "enet-davidtvs", "fast-scnn", "fast-scnn-mmseg",
    "icnet", "icnet-caffe", "icnet-mmseg-r18", "icnet-mmseg-r50", "icnet-sub24",
    "icnet-sub4", "pidnet-s", "pspnet50", "pspnet50-caffe", "pspnet50-mmseg", "pspnet50-sum", "pspnet50-sum-half",
    "pspnet50-sum-os16", "pspnet50-sum-os32", "pspnet50-sum-quarter",
}  # fmt: skip
# Types the words into an interactive zsh with a TAB behind them, and prints what it offers.
ZSH = r"""
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell 'PS1=; LISTMAX=1000; autoload -Uz compinit && compinit -u -D; zstyle ":completion:*" list-colors ""'
zpty -w shell 'eval "$(<./script)"; cd here; print READY'
zpty -r shell line $'*READY*READY*'
zpty -n -w shell "$1"$'\t\t'
sleep 2
zpty -n -w shell $'\x15print D''ONE\n'
zpty -r shell line $'*DONE*'
print -r -- $line
"""


@pytest.fixture(scope="module")
def scripts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("completion")
    for shell in completion.SHELLS:
        (folder / shell).write_text(completion.script(shell))
    return folder


def offered(scripts, folder, *words):
    """What bash offers for the last of these words."""
    code = (
        f'source "{scripts}/bash"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"; '
        'COMP_POINT=${#COMP_LINE}; _shtab_streetseg; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "-c", code, "bash", *words], cwd=folder, capture_output=True, text=True, timeout=60,
        env={"PATH": os.environ["PATH"]},
    )  # fmt: skip
    assert done.returncode == 0 and not done.stderr, done.stderr
    return {word.strip() for word in done.stdout.split("\n") if word.strip()}


@pytest.fixture
def folder(tmp_path):
    engines = tmp_path / "artifacts/engines"
    engines.mkdir(parents=True)
    for name in ("icnet-a.engine", "icnet-a.json", "enet-b.engine"):
        (engines / name).touch()
    for name in ("here.engine", "a.onnx", "a.png"):
        (tmp_path / name).touch()
    return tmp_path


def test_bash_completes_commands(scripts, folder):
    assert set(commands.COMMANDS) <= offered(scripts, folder, "streetseg", "")
    assert offered(scripts, folder, "streetseg", "eng") == {"engine", "engines"}


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (["engine", "--prec"], {"--precision"}),
        (["engine", "--model", ""], NETWORKS),
        (["engine", "--model", "icnet-m"], {"icnet-mmseg-r18", "icnet-mmseg-r50"}),
        (["models", ""], NETWORKS),
        (["export", "--precision", ""], set(PRECISIONS)),
        (["engine", "--backend", ""], {"auto", *BACKENDS}),
        (["evaluate", "--dataset", ""], {"camvid", "cityscapes", "own"}),
        (["completion", ""], {"bash", "zsh"}),
    ],
)
def test_bash_completes_options_and_their_values(scripts, folder, typed, words):
    found = offered(scripts, folder, "streetseg", *typed)
    assert words <= found
    assert {word for word in found - words if not word.startswith("-")} == set()


def test_bash_completes_engines_by_name_and_by_path(scripts, folder):
    built = {"artifacts/engines/icnet-a.engine", "artifacts/engines/enet-b.engine"}
    assert offered(scripts, folder, "streetseg", "infer", "--engine", "") == {"here.engine", "artifacts"}
    assert offered(scripts, folder, "streetseg", "infer", "--engine", "icn") == {"artifacts/engines/icnet-a.engine"}
    assert offered(scripts, folder, "streetseg", "infer", "--engine", "artifacts/engines/") == built
    assert "a.onnx" in offered(scripts, folder, "streetseg", "engine", "")


@pytest.mark.skipif(shutil.which("zsh") is None, reason="no zsh on the PATH")
@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("streetseg eng", {"engine", "engines"}),
        ("streetseg engine --model icnet-m", {"icnet-mmseg-r18", "icnet-mmseg-r50"}),
        ("streetseg export --precision ", set(PRECISIONS)),
        ("streetseg infer --engine artifacts/engines/", {"icnet-a.engine", "enet-b.engine"}),
    ],
)
def test_zsh_completes_the_same(scripts, folder, tmp_path_factory, typed, words):
    home = tmp_path_factory.mktemp("zsh")
    shutil.copy(scripts / "zsh", home / "script")
    (home / "here").symlink_to(folder)
    done = subprocess.run(
        ["zsh", "-f", "-c", ZSH, "zsh", typed], cwd=home, capture_output=True, text=True, timeout=60,
        env={"PATH": os.environ["PATH"], "HOME": str(home), "TERM": "dumb"},
    )  # fmt: skip
    assert all(word in done.stdout for word in words), done.stdout + done.stderr


def test_a_command_that_cannot_be_loaded_completes_its_name_alone(monkeypatch, capsys):
    monkeypatch.setitem(commands.COMMANDS, "train", commands.Command("train", "torch_that_is_not_here:main"))
    assert completion._parser("train") is None
    assert "train: its options are not completed; torch_that_is_not_here is not installed" in capsys.readouterr().err


def test_the_command_prints_the_script_and_tells_how_to_keep_it(capsys):
    assert cli.main(["completion", "bash"]) == 0
    printed = capsys.readouterr()
    assert "-F _shtab_streetseg streetseg" in printed.out
    assert 'eval "$(streetseg completion bash)"' in printed.err


def test_what_is_completed_of_other_packages_is_what_they_have():
    from export import registry
    from runtime.accuracy.datasets import DATASETS

    assert set(registry.names()) == NETWORKS and tuple(DATASETS) == completion.DATASETS
