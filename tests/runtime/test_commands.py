"""What a message tells a user to type, in a checkout and elsewhere."""

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import pytest

from runtime import __main__ as listing
from runtime import cli, commands
from runtime.arguments import Parser, raising
from runtime.artifacts import sha256_of
from runtime.manifest import SHIPPED_WEIGHTS, read_manifest, rebuild_command
from tests.helpers import fake_backend
from tests.helpers.project import project

ROOT = Path(__file__).parents[2]
OUR_MAKE = re.compile(r"\bmake (engine|onnx|calib|report|evaluate|install|regress|demo)\b")


def checkout(folder: Path, name: str = "street-segmentation") -> None:
    (folder / "Makefile").touch()
    (folder / "pyproject.toml").write_text(f'[project]\nname = "{name}"\n')


@pytest.mark.parametrize(
    ("target", "values", "made", "typed"),
    [
        ("engine", {"model": "enet", "precision": "int8", "size": (704, 960), "weights": None},
         "make engine MODEL=enet PRECISION=int8 SIZE=704x960",
         "streetseg engine --model enet --precision int8 --size 704x960"),
        ("onnx", {"batch": 1}, "make onnx BATCH=1", "streetseg export --batch 1"),
        ("calib", {}, "make calib", "streetseg calib"),
    ],
)  # fmt: skip
def test_a_checkout_is_told_make_and_every_other_folder_streetseg(tmp_path, monkeypatch, target, values, made, typed):
    monkeypatch.chdir(tmp_path)
    assert commands.command(target, **values) == typed
    checkout(tmp_path)
    assert commands.command(target, **values) == made
    checkout(tmp_path, "another")
    assert commands.command(target, **values) == typed


def test_an_option_and_an_extra_are_told_as_they_are_typed_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert (commands.option("weights"), commands.data_option()) == ("--weights path", "--data DIR")
    assert commands.install("video") == "pip install 'street-segmentation[video]'"
    checkout(tmp_path)
    assert (commands.option("weights"), commands.install("video")) == ("WEIGHTS=path", "pip install -e '.[video]'")


def test_a_rebuild_names_weights_where_they_are_not_those_that_come_by_themselves(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    manifest = read_manifest(fake_backend.write_fake_engine(tmp_path))

    def rebuilt(name, sha256):
        return rebuild_command(
            dataclasses.replace(manifest, spec=dataclasses.replace(manifest.spec, name=name, weights_sha256=sha256))
        )

    shipped = sha256_of(SHIPPED_WEIGHTS / "icnet-camvid.safetensors")
    assert rebuilt("icnet", shipped).endswith("--size 64x128")
    assert rebuilt("icnet", "0" * 64).endswith("--size 64x128 --weights path")
    assert rebuilt("icnet", "random-seed-0").endswith("--weights path")  # it would get the shipped ones
    assert rebuilt("enet-davidtvs", "random-seed-0").endswith("--size 64x128")


@pytest.mark.parametrize(("free", "typed"), [(True, "--batch 1-4"), (False, "--batch 4")])
def test_a_rebuild_names_the_batch(tmp_path, monkeypatch, free, typed):
    monkeypatch.chdir(tmp_path)
    manifest = read_manifest(fake_backend.write_fake_engine(tmp_path))
    several = dataclasses.replace(manifest.spec, batch=4, batch_free=free)
    assert typed in rebuild_command(dataclasses.replace(manifest, spec=several))


def test_every_extra_that_is_told_is_there():
    extras = project()["optional-dependencies"]
    assert set(commands.EXTRAS.values()) <= extras.keys()


def test_no_message_tells_make_by_itself():
    packages = ("runtime", "engines", "calib", "export", "streetseg")
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for package in packages
        for path in (ROOT / package).rglob("*.py")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if OUR_MAKE.search(line) and "`make" not in line
    ]
    # README of the checkout; the gate of two revisions, which needs one; a rendered example.
    allowed = ("engines/revision.py", "runtime/commands.py")
    assert [line for line in found if not line.startswith(allowed)] == []


def test_a_command_of_a_module_that_misses_an_extra_is_one_line(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "class Blocked:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] == 'onnx':\n"
        "            raise ModuleNotFoundError('No module named onnx', name='onnx')\n"
        "sys.meta_path.insert(0, Blocked())\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "calib.qdq", "x.onnx"], cwd=tmp_path, capture_output=True, text=True, timeout=120,
        env={"PATH": "", "PYTHONPATH": f"{tmp_path}:{ROOT}"},
    )  # fmt: skip
    assert done.returncode == cli.FAILED
    assert done.stderr == "error: onnx is not installed, and is needed here: pip install 'street-segmentation[build]'\n"


def test_python_m_runtime_lists_its_commands(capsys):
    assert listing.main([]) == cli.DONE
    printed = capsys.readouterr().out
    for name in listing.COMMANDS:
        assert f"python -m {name} " in printed
    ours = [path.stem for path in (ROOT / "runtime").glob("*.py") if "run(main)" in path.read_text()]
    ours += [path.parent.name for path in (ROOT / "runtime").glob("*/__main__.py")]
    assert {f"runtime.{stem}" for stem in ours if stem != "__main__"} == listing.COMMANDS.keys()


@pytest.mark.parametrize(
    ("typed", "said"),
    [("infer", "type python -m runtime.infer"), ("infr", "unknown command 'infr'. Did you mean infer?")],
)
def test_python_m_runtime_with_a_command_says_how_it_is_typed(capsys, typed, said):
    assert listing.main([typed]) == cli.USAGE and said in capsys.readouterr().err


def test_a_program_gets_a_refused_option_as_an_error():
    with raising(), pytest.raises(ValueError, match="unrecognized arguments: --epoch 5"):
        Parser(prog="python -m x").parse_args(["--epoch", "5"])
