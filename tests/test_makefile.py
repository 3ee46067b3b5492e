"""What `make` says to a target that is not there, and where `bench-gpu` measures; its commands only told, not run."""

import os
import shutil
import subprocess

import pytest

from tests.helpers.bare_make import ROOT, bare_make

# Keeps its arguments, and answers with the backend that was asked for, or else with what the test says.
PYTHON = """#!/bin/bash
echo "$@" >> calls
for last; do :; done
if [ "$last" = auto ]; then echo "$AUTO"; else echo "$last"; fi
"""

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="no make on the PATH")


@pytest.fixture
def make(tmp_path):
    """Runs `make` in a folder with the Makefile alone: (exit code, lines of stderr but make's own, commands)."""
    bare_make(tmp_path, PYTHON)
    shutil.copytree(tmp_path / ".venv", tmp_path / ".venv-rivals")

    def run(*words, auto="openvino"):
        environment = {"PATH": os.environ["PATH"], "AUTO": auto}
        done = subprocess.run(
            ["make", *words], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
        )
        said = [line for line in done.stderr.splitlines() if not line.startswith("make")]
        calls = tmp_path / "calls"
        return done.returncode, said, calls.read_text().splitlines() if calls.exists() else []

    return run


def test_a_target_that_is_not_there_is_one_line_that_says_where_they_are(make):
    assert make("bench-gup") == (2, ["error: there is no target bench-gup; make help lists them"], [])


@pytest.mark.parametrize("given", [(), ("BACKEND=openvino",)])
def test_a_gpus_figures_are_not_measured_on_a_cpu(make, given):
    code, said, calls = make("bench-gpu", *given)
    assert code == 2 and len(said) == 1 and " is openvino here; " in said[0]
    assert len(calls) == 1 and "--check" in calls[0]


@pytest.mark.parametrize(("given", "auto"), [((), "tensorrt"), (("BACKEND=tensorrt-rtx",), "openvino")])
def test_a_gpus_figures_are_of_the_backend_that_is_there_or_asked_for(make, given, auto):
    code, _, calls = make("bench-gpu", "MODEL=enet", "PRECISION=int8", *given, auto=auto)
    backend = given[0].partition("=")[2] if given else auto
    assert code == 0
    paths, kernels = calls[-2:]
    assert "--against torch-cuda-graph" in paths and paths.endswith(f"--json figures/bench-{backend}-enet-int8.json")
    assert "--kernels" in kernels and kernels.endswith(f"--json figures/kernels-{backend}-enet-int8.json")
    assert any("streetseg engine" in call and f"--backend {backend}" in call for call in calls[1:])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            "engine model=enet",
            "make engine takes no model (did you mean MODEL?); it takes MODEL PRECISION BACKEND SIZE",
        ),
        ("engine DATASET=own", "make engine takes no DATASET; it takes MODEL"),
        ("demo size=64x128", "make demo takes no size; it takes no variable"),
        ("bench BATCH=4", "make bench takes no BATCH; it takes MODEL PRECISION SIZE WEIGHTS CLASSES"),
        ("MODEL=enet", "make help takes no MODEL; it takes no variable"),
        ("lint test FOO=1", "make lint test takes no FOO; it takes no variable"),
    ],
)
def test_a_variable_that_no_target_takes_is_one_line_and_nothing_is_run(make, given, said):
    code, lines, calls = make(*given.split())
    assert code == 2 and len(lines) == 1 and said in lines[0] and not calls


def test_what_a_target_takes_by_the_targets_that_it_makes_is_taken(make):
    assert make("bench", "PRECISION=int8", "BENCH_OPTIONS=--rounds 1", "PYTHON=python3")[0] == 0


@pytest.mark.parametrize("target", ["onnx", "engine", "calib", "evaluate", "bench"])
def test_a_fit_reaches_what_a_target_runs_once(make, target, tmp_path):
    code, said, calls = make(target, "FIT=pad", *([f"DATA={tmp_path}"] if target in ("calib", "evaluate") else []))
    assert code == 0, said
    assert sum("--fit pad" in call for call in calls) == 1


def test_an_engine_is_served_with_its_options_and_without_one_the_newest(make):
    assert (
        "-m runtime.serve --engine my street.engine --port 9000"
        in make("serve", "ENGINE=my street.engine", "SERVE_OPTIONS=--port 9000")[2]
    )
    code, said, calls = make("serve")
    assert (code, said) == (0, []) and calls[-1] == "-m runtime.serve"


def test_a_revision_is_built_with_the_packages_of_another_tree(make):
    code, said, calls = make("--silent", "engine", "VENV=.venv", "MODEL=enet", "SIZE=64x128")  # `engines.revision`
    assert (code, said) == (0, []) and calls


# No value may run a command, and honest ones arrive letter by letter.
VALUES = [
    "$(shell touch pwned)", "$$(touch pwned)", "$(touch pwned)", "`touch pwned`", "a; touch pwned",
    "a' ; touch pwned; '",
    'a" ; touch pwned; "', "a && touch pwned", "a | touch pwned", "a > pwned", "a\ntouch pwned", "$(eval X:=y)", "it's",
    'a "b" c', "my folder/a b", "$HOME/$x", "50% #1", "a\\b", "straße 日本", "${PATH}", "*", "~",
]  # fmt: skip
ECHO = """#!/bin/bash
printf '%s\\0' "$@" >> arguments
"""


@pytest.fixture
def arguments(tmp_path):
    """Runs `make` with a Python that keeps its arguments, whole: exit code, and them."""
    bare_make(tmp_path, ECHO)

    def run(*words, **environment):
        environment = {"PATH": os.environ["PATH"]} | environment
        done = subprocess.run(["make", "-s", *words], cwd=tmp_path, env=environment, capture_output=True, timeout=60)
        kept = tmp_path / "arguments"
        given = kept.read_text().split("\0") if kept.exists() else []
        kept.unlink(missing_ok=True)
        assert {path.name for path in tmp_path.iterdir()} - {"a", "data"} == FILES, done
        return done.returncode, given

    return run


FILES = {"Makefile", "pyproject.toml", "constraints.txt", ".venv"}


@pytest.mark.parametrize("value", VALUES)
def test_a_value_arrives_as_it_was_typed_and_nothing_in_it_is_run(arguments, value):
    code, given = arguments("engine", f"MODEL={value}", f"WEIGHTS={value}", "PRECISION=fp16")
    assert code == 0 and given[given.index("--model") + 1] == given[given.index("--weights") + 1] == value
    assert arguments("engine", MODEL=value)[1][4] == value  # from the environment
    assert arguments("regress", f"BASE={value}")[1][2] == value
    assert arguments("need-data", f"DATA={value}")[0] == 2
    assert arguments(value.replace("=", ""))[0] == 2  # as a target


@pytest.mark.parametrize("value", VALUES)
def test_a_value_reaches_a_make_within_make_as_it_was_typed(arguments, value):
    given = arguments("bench", f"MODEL={value}")[1]
    assert given[given.index("--model") + 1] == value and given[-2].startswith(f"figures/bench-{value}-fp16.json")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("--a 1 --b", ["--a", "1", "--b"]),
        ("--out 'my folder' --name \"it's\"", ["--out", "my folder", "--name", "it's"]),
        ("--a $HOME $(touch pwned) ;touch pwned", ["--a", "$HOME", "$(touch", "pwned)", ";touch", "pwned"]),
        ("--a `touch pwned`", ["--a", "`touch", "pwned`"]),
        ("--files *.toml", ["--files", "pyproject.toml"]),
        ("--files *.nothing", ["--files", "*.nothing"]),
        ("", []),
    ],
)
def test_options_are_split_as_a_shell_does_and_run_nothing(arguments, value, words):
    code, given = arguments("regress", f"REGRESS_OPTIONS={value}")
    assert code == 0 and given[given.index("--size") + 2 : -1] == words


def test_a_quote_that_is_not_closed_is_refused(arguments):
    assert arguments("regress", "REGRESS_OPTIONS=--out 'a")[0] == 2


def test_no_recipe_has_a_value_in_its_text():
    text = (ROOT / "Makefile").read_text()
    settings = text.partition("SETTINGS := ")[2].partition("\nTYPED")[0].replace("\\", "").split()
    for line in text.splitlines():
        if line.startswith("\t"):
            assert not any(f"$({name}" in line for name in settings), line


def test_an_onnx_file_stands_in_place_of_a_network_and_has_its_own_size(arguments):
    given = arguments("engine", "ONNX=my net.onnx", "ADOPT_OPTIONS=--preprocess 'pre a.json'")[1]
    assert given[given.index("--onnx") + 1] == "my net.onnx" and not {"--model", "--size"} & set(given)
    assert given[given.index("--preprocess") + 1] == "pre a.json"
    assert "--size" in arguments("engine", "ONNX=net.onnx", "SIZE=64x128")[1]


@pytest.mark.parametrize(
    ("target", "engines", "told"),
    [
        ("precisions", 6, "--dataset camvid --data"),
        ("report", 2, "-o artifacts/report.html"),
        ("bench", 2, "--json figures/bench-my-net-fp16.json"),
        ("rivals", 1, "--json figures/rivals-my-net-fp16.json"),
        ("regress", 0, "--onnx my net.onnx --adopt-options --preprocess imagenet"),
    ],
)
@pytest.mark.parametrize("size", [(), ("SIZE=64x128",)])
def test_what_measures_takes_an_onnx_file_like_a_network(make, tmp_path, target, engines, told, size):
    given = ["ONNX=my net.onnx", "ADOPT_OPTIONS=--preprocess imagenet", *size]
    given += ["DATA=."] if target in ("precisions", "report") else []
    (tmp_path / "artifacts").mkdir()
    code, said, calls = make(target, *given)
    assert code == 0, said
    built = [call for call in calls if "streetseg engine" in call]
    assert len(built) == engines and any(told in call for call in calls)
    for call in [*built, *(call for call in calls if "engines.revision" in call)]:
        assert "--onnx my net.onnx" in call and "--preprocess imagenet" in call and "--model" not in call
        assert ("--size 64x128" in call) == bool(size) and "--size 1024" not in call
    assert not any("to_torch" in call or "--torch" in call for call in calls)
    if target == "precisions":
        assert (tmp_path / "figures" / "precisions-my net.json").is_file()


OWN = ("MODEL=nets/net.py:build", "WEIGHTS=w.pth", "CLASSES=c.json", "EMA=1", "PREPROCESS=imagenet")
ASKED = ("--weights w.pth", "--classes c.json", "--ema", "--preprocess imagenet")


@pytest.mark.parametrize(
    "target", ["onnx", "engine", "bench", "rivals", "bench-files", "report", "regress", "precisions", "sizes"]
)
def test_weights_classes_average_and_normalisation_are_taken_wherever_a_network_is(make, tmp_path, target):
    (tmp_path / "artifacts").mkdir()
    code, said, calls = make(target, *OWN, *(["DATA=."] if target in ("precisions", "sizes") else []))
    made = [call for call in calls if "nets/net.py:build" in call]
    built = {"bench": 3, "rivals": 4, "report": 2, "precisions": 6, "sizes": 4}.get(target, 1)
    assert code == 0 and said == ["making torch"] * (target == "rivals") and len(made) == built
    assert all(words in call for call in made for words in ASKED)
    assert not (tmp_path / "figures/nets").exists()


def test_rivals_are_built_from_the_same_frames_and_one_that_fails_is_told(make, tmp_path):
    other = tmp_path / ".venv-rivals/bin/python"
    other.write_text("#!/bin/bash\necho \"$@\" >> calls\necho 'error: it has no such layer' >&2\nexit 1\n")
    code, said, calls = make("rivals", "MODEL=enet", "PRECISION=int8", "DATA=.", "RIVALS_OPTIONS=--rounds 3")
    assert code == 0 and "error: it has no such layer" in said
    made = [call for call in calls if "engines.nncf_engine" in call or "engines.onnxruntime_int8" in call]
    assert len(made) == 2 and all("--data . --frames 32" in call for call in made)
    assert "--missing nncf=error: it has no such layer" in calls[-1] and "--torch " in calls[-1]
    assert "--rounds 3" in calls[-1] and calls[-1].endswith("--json figures/rivals-enet-int8.json")


def test_without_frames_what_is_calibrated_is_left_out(make):
    calls = make("rivals")[2]
    assert "--missing nncf=it wants calibration frames: DATA=path" in calls[-1] and "--data" not in calls[-1]
    assert make("rivals", "DATA=nowhere")[:2] == (2, ["error: there is no folder nowhere: DATA=path is the data set's"])


def test_what_grows_with_pixels_is_built_at_each_size(make):
    code, said, calls = make("scaling", "PRECISION=int8", "SCALING_OPTIONS=--rounds 3")
    sizes = [word for call in calls for word in call.split() if "x" in word and word[0].isdigit()]
    assert (code, said, sizes) == (0, [], ["256x512", "512x1024", "2048x4096", "1024x2048"])
    assert "--rounds 3" in calls[-1] and calls[-1].endswith("--json figures/scaling-icnet-int8.json")


def test_a_training_takes_the_normalisation(make):
    assert "--preprocess minus1to1" in make("train", "MODEL=a.py", "DATA=.", "PREPROCESS=minus1to1")[2][0]
