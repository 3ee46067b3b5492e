"""The rules of the house, read from its sources: who imports whom, how long a file is, and what the pages draw."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("export", "calib", "engines", "runtime", "streetseg")
FORBIDDEN = {
    "runtime": {"export", "calib", "engines", "streetseg"},
    "calib": {"export", "streetseg"},
    "engines": {"export", "streetseg"},
    "export": {"calib", "engines", "streetseg"},
    "streetseg": set(),
}
# What users type, or import as README shows: each only forwards to where the code is, and nothing of ours imports it.
COMMANDS = (
    "runtime.bench", "runtime.bench_files", "runtime.bench_report", "runtime.bench_rivals", "runtime.bench_scaling",
    "runtime.evaluate", "runtime.regress", "runtime.report", "export.ablation", "export.balance", "export.prune",
    "export.train",
)  # fmt: skip
FORWARDERS = (*COMMANDS, "runtime.camera", "runtime.frames")
MOST_FORWARDED_LINES = 8
# What is deployed: nothing of it needs what measures and judges it.
NOT_DEPLOYED = ("runtime.measure", "runtime.accuracy")
HEAVY = (
    "torch", "onnx", "onnxscript", "onnxruntime", "tensorrt", "tensorrt_rtx", "openvino", "pycuda", "numba", "cv2",
    "tqdm", "filelock", "plotly", "PIL", "isal", "starlette", "uvicorn", "prometheus_client",
    "pyarrow", "ray", "fsspec", "s3fs",
)  # fmt: skip
MOST_LINES = 400
SOURCES = {".py", ".cu", ".cuh", ".h", ".hpp", ".cpp", ".sh"}
TEXTS = SOURCES | {".md", ".toml", ".yml", ".yaml", ".json", ".txt", ""}
NAME = re.compile(r"[\w.-]+(?:/|\.(?:py|cuh?|h|cpp|md|toml|sh))")
# Put together here, so that this file does not hold what it looks for.
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:" + "|".join(("work", "tmp", "root", "home")) + ")/")


def house_files(suffixes: set[str]) -> list[Path]:
    folders = [
        ROOT / name for name in (*PACKAGES, "docs", "tests", "examples", ".ci", ".github") if (ROOT / name).is_dir()
    ]
    files = [path for folder in folders for path in folder.rglob("*")]
    files += [path for path in ROOT.iterdir() if path.name != ".git"]  # a file in a worktree, which names the other one
    return sorted(
        path for path in files if path.is_file() and path.suffix in suffixes and "__pycache__" not in path.parts
    )


def modules(package: str) -> list[str]:
    files = (path.relative_to(ROOT).with_suffix("") for path in sorted((ROOT / package).rglob("*.py")))
    return [".".join(path.parts).removesuffix(".__init__") for path in files]


def imported(source: str) -> Iterator[str]:
    """Every module that the source imports, wherever it does, and every text that reads as a module of ours."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")
        elif isinstance(node, ast.Constant) and re.fullmatch(rf"(?:{'|'.join(PACKAGES)})(\.\w+)+", str(node.value)):
            yield str(node.value)


def forbidden_imports(package: str, source: str) -> list[str]:
    return [name for name in imported(source) if name.split(".")[0] in FORBIDDEN[package] | {""}]


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_imports_only_what_it_may(package):
    found = {
        str(path.relative_to(ROOT)): wrong
        for path in (ROOT / package).rglob("*.py")
        if (wrong := forbidden_imports(package, path.read_text()))
    }
    assert found == {}


@pytest.mark.parametrize(
    "source",
    [
        "import export",
        "import numpy, engines.cache as c",
        "from calib.sample import sample",
        "def f():\n    from export.models import enet",
        "importlib.import_module('engines.build')",
        "from .. import export",
        "def f():\n    import streetseg",
    ],
)
def test_a_forbidden_import_is_found_wherever_it_stands(source):
    assert forbidden_imports("runtime", source)


def test_what_only_looks_like_an_import_is_not_one():
    assert forbidden_imports("runtime", "import runtime.spec\nexport = 'engines/x.engine'\n'make engines. Then'") == []


def path_of(module: str) -> Path:
    path = ROOT.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def below(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def arrows(sources: dict[str, str]) -> dict[str, set[str]]:
    """Which of the modules each of them imports, wherever it does: {name: source} -> {name: names}.

    What is loaded by name, as a backend is, is not among them, nor are the packages that a name goes through.
    """
    found: dict[str, set[str]] = {}
    for name, source in sources.items():
        named = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Import | ast.ImportFrom)]
        plain = {alias.name for node in named if isinstance(node, ast.Import) for alias in node.names}
        pairs = {(str(n.module), alias.name) for n in named if isinstance(n, ast.ImportFrom) for alias in n.names}
        plain |= {f"{module}.{leaf}" if f"{module}.{leaf}" in sources else module for module, leaf in pairs}
        found[name] = plain & sources.keys()
    return found


def circle(found: dict[str, set[str]]) -> list[str]:
    """Modules of which each imports the next and the last the first; empty if there are none."""
    done: set[str] = set()

    def follow(name: str, way: list[str]) -> list[str]:
        if name in way:
            return way[way.index(name) :]
        if name in done:
            return []
        tied = next((tied for target in sorted(found[name]) if (tied := follow(target, [*way, name]))), [])
        done.add(name)
        return tied

    return next((tied for name in sorted(found) if (tied := follow(name, []))), [])


OURS = {module: path_of(module).read_text() for package in PACKAGES for module in modules(package)}


def test_no_modules_import_each_other_in_a_circle():
    found = arrows(OURS)
    assert circle(found) == []
    assert "runtime.spec" in found["runtime.backend"]
    assert "runtime.measure.bench.kernels" in found["runtime.measure.bench.latency"]


def test_a_circle_is_found_through_packages_functions_and_three_modules():
    sources = {
        "a": "",
        "a.b": "import json\nfrom a import c",
        "a.c": "def f():\n    import a.d.e",
        "a.d": "from a.b import X",
        "a.d.e": "from a.d import Y\nfrom a import Z",
        "a.f": "import a.b",
    }
    assert circle(arrows(sources)) == ["a.b", "a.c", "a.d.e", "a.d"]
    assert circle(arrows(sources | {"a.d": "X = 'a.b'"})) == []


def deployed(module: str) -> bool:
    return below(module, ("runtime",)) and module not in FORWARDERS and not below(module, NOT_DEPLOYED)


def test_what_is_deployed_imports_nothing_that_measures_or_judges_it():
    names = {module: set(imported(source)) for module, source in OURS.items() if deployed(module)}
    found = {module: wrong for module in names if (wrong := {n for n in names[module] if below(n, NOT_DEPLOYED)})}
    assert found == {}
    assert {"runtime", "runtime.infer", "runtime.media.frames", "runtime.backends.openvino"} <= names.keys()


def test_a_measurement_is_not_deployed_by_any_name():
    assert not below("runtime.measures", NOT_DEPLOYED)
    for source in ("import runtime.measure", "from runtime.accuracy.own import x", "f('runtime.measure.gate.regress')"):
        assert any(below(name, NOT_DEPLOYED) for name in imported(source))


@pytest.mark.parametrize("module", FORWARDERS)
def test_a_name_that_users_type_only_forwards(module):
    lines, tree = OURS[module].splitlines(), ast.parse(OURS[module])
    assert len(lines) <= MOST_FORWARDED_LINES
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    if module in COMMANDS:
        assert lines[-2:] == ['if __name__ == "__main__":', "    run(main)"]
        assert any(f'prog="python -m {module}"' in source for source in OURS.values())


def test_our_own_code_imports_what_was_moved_from_where_it_is():
    sources = OURS | {str(path): path.read_text() for path in (ROOT / "tests").rglob("*.py")}
    found = {name: used for name, targets in arrows(sources).items() if (used := targets & set(FORWARDERS))}
    assert found == {}


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)


BLOCK = f"""
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {HEAVY!r}:
            raise ImportError(name + " is blocked")
sys.meta_path.insert(0, Blocker())
"""


@pytest.mark.parametrize("module", modules("runtime"))
def test_every_runtime_module_imports_without_any_heavy_library(module):
    done = run_python(f"{BLOCK}\nimport {module}")
    assert done.returncode == 0, done.stderr.splitlines()[-1]


@pytest.mark.parametrize("library", HEAVY)
def test_the_block_blocks(library):
    assert f"{library} is blocked" in run_python(f"{BLOCK}\nimport {library}").stderr


def test_import_runtime_loads_no_library_at_all():
    done = run_python("import sys, runtime; print(*{name.split('.')[0] for name in sys.modules})")
    assert {"numpy", *HEAVY, *PACKAGES} & set(done.stdout.split()) == {"runtime"}


def test_import_streetseg_loads_nothing_of_ours_and_no_library():
    done = run_python("import sys, streetseg; print(*{name.split('.')[0] for name in sys.modules})")
    assert {"numpy", *HEAVY, *PACKAGES} & set(done.stdout.split()) == {"streetseg"}


def test_no_file_is_over_400_lines():
    lines = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in house_files(SOURCES)}
    assert {name: count for name, count in lines.items() if count > MOST_LINES} == {}
    assert "tests/test_house.py" in lines


def test_no_file_names_a_place_on_one_machine():
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in (*house_files(TEXTS), *sorted((ROOT / "figures").rglob("*.json")))
        for number, line in enumerate(path.read_text("utf-8", "replace").splitlines(), 1)
        if MACHINE_PATH.search(line)
    ]
    assert found == []


def test_a_place_on_one_machine_is_recognised():
    for place in ("work", "tmp", "root", "home"):
        assert MACHINE_PATH.search(f"open('/{place}/x')")
        assert not MACHINE_PATH.search(f"https://host.org/{place}/x tests/{place}/x ./{place}/x")


def drawn(text: str) -> list[str]:
    """The paths in the picture under "## The house": two spaces a level; a folder's line may name files in it."""
    block = re.search(r"^## The house\n.*?^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert block, 'no fenced block under "## The house"'
    folders: list[str] = []
    paths = []
    for line in filter(str.strip, block[1].splitlines()):
        first, *rest = (word.strip(",;:()") for word in line.split())
        del folders[(len(line) - len(line.lstrip())) // 2 :]
        paths.append("".join([*folders, first]))
        if first.endswith("/"):
            folders.append(first)
        paths += ["".join([*folders, word]) for word in rest if NAME.fullmatch(word)]
    return paths


def test_the_picture_is_read_as_it_is_drawn():
    picture = """# x
## The house
Words.
```
Makefile            `make help` prints it; see <module>.py
export/             PyTorch -> ONNX
  models/           one a file: enet.py icnet.py ... ; layers.py they share
  half.py  losses.py    where (see weights.py).
runtime/  the rest
  kernels/          segment.cu (CUDA), cpu.py
```
```
other/
```
"""
    assert drawn(picture) == [
        "Makefile", "export/", "export/models/", "export/models/enet.py", "export/models/icnet.py",
        "export/models/layers.py", "export/half.py", "export/losses.py", "runtime/", "runtime/kernels/",
        "runtime/kernels/segment.cu", "runtime/kernels/cpu.py",
    ]  # fmt: skip


def test_the_picture_in_readme_names_what_exists_and_every_room():
    paths = drawn((ROOT / "README.md").read_text())
    assert [path for path in paths if not (ROOT / path).exists()] == []
    rooms = {path.parent.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("__init__.py")}
    assert {f"{room}/" for room in rooms} - set(paths) == set()


def test_the_picture_of_how_it_works_names_what_exists_and_every_module():
    paths = drawn((ROOT / "docs/how-it-works.md").read_text())
    assert [path for path in paths if not (ROOT / path).exists()] == []
    sources = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py") if path.name != "__init__.py"]
    assert {str(path.relative_to(ROOT)) for path in sources} - set(paths) == set()


def test_no_folder_that_tests_put_on_the_path_hides_a_library():
    # pytest puts the folders of conftest.py and of test files on the path.
    on_path = {path.parent for path in (ROOT / "tests").rglob("*.py")}
    names = {path.name for folder in on_path for path in folder.iterdir() if path.is_dir()}
    assert names & {*HEAVY, "triton", "tritonclient"} == set()
