"""The tests that a change can break, one a line: `python .ci/changed.py [BASE]`, the differences to main by default.

A file of tests is taken if it changed, if its name mirrors a module that changed, or if it imports a module or helper
that changed. Nothing printed: the change is in no code. `all`: it is in what everything hangs on.
"""

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("runtime", "engines", "calib", "export", "streetseg")
# What decides every test, and no import tells.
EVERYTHING = ("pyproject.toml", "constraints.txt", "tests/conftest.py")
# Tests that read files and import nothing of them.
READERS = {
    "Makefile": ("tests/test_makefile.py",),
    "README.md": ("tests/docs",),
    "docs": ("tests/docs",),
    "mkdocs.yml": ("tests/docs",),
    "figures": ("tests/docs",),
    ".ci": ("tests/test_changed.py",),
    "examples": ("tests/examples",),
    "deploy": ("tests/test_deploy.py",),
    ".dockerignore": ("tests/test_deploy.py",),
}
# Quick, and they hold the whole tree: with every change of code.
ALWAYS = ("tests/test_house.py",)


def changed_files(base: str) -> list[str]:
    """Paths that differ from where this branch left `base`, committed or not, removed ones too."""
    left = _git("merge-base", base, "HEAD") or [base]
    return sorted({*_git("diff", "--name-only", left[0]), *_git("ls-files", "--others", "--exclude-standard")})


def tests_of(changed: list[str], imports: dict[str, set[str]]) -> list[str]:
    """Which files of tests hold these changed files.

    Args:
        changed: paths from the root of the project.
        imports: file of tests or helper -> the modules that it imports.

    Returns:
        Paths; `["all"]` for what everything hangs on.
    """
    if set(changed) & set(EVERYTHING):
        return ["all"]
    modules = {_module(path) for path in changed if path.endswith(".py")}
    modules |= {_module(str(Path(path).parent / "__init__.py")) for path in changed if path.startswith(PACKAGES)}
    helpers = {name for name in imports if "/helpers/" in name or name.endswith("conftest.py")}
    # A changed helper is a changed module of those that import it; one that imports what changed is not: most do.
    found = {
        path for path in imports if path in changed or imports[path] & modules or _mirrors(path, changed)
    } - helpers
    for conftest in (path for path in changed if path.endswith("conftest.py")):
        found |= {path for path in imports if path.startswith(f"{Path(conftest).parent}/")} - helpers
    found |= {test for path in changed for start, tests in READERS.items() if path.startswith(start) for test in tests}
    return sorted(found | set(ALWAYS if modules else ()))


def imported(path: Path) -> set[str]:
    """The modules that a Python file imports, wherever it does, by every name that it can mean."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def _mirrors(test: str, changed: list[str]) -> bool:
    # tests/runtime/media/test_video.py, and test_video_x.py, are for runtime/media/video.py.
    folder, name = Path(test).parent, Path(test).stem
    paths = (Path(path) for path in changed if path.startswith(PACKAGES))
    return any(folder == "tests" / path.parent and f"{name}_".startswith(f"test_{path.stem}_") for path in paths)


def _module(path: str) -> str:
    return ".".join(Path(path).with_suffix("").parts).removesuffix(".__init__")


def _git(*words: str) -> list[str]:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.split("\n")[:-1] if done.returncode == 0 else []


def main(base: str) -> int:
    """Print what `make check` runs."""
    if not _git("rev-parse", "--verify", base):
        print(f"error: there is no revision {base} to compare with; name one: make check BASE=HEAD~1", file=sys.stderr)
        return 1
    imports = {str(path.relative_to(ROOT)): imported(path) for path in sorted((ROOT / "tests").rglob("*.py"))}
    there = (path for path in tests_of(changed_files(base), imports) if path == "all" or (ROOT / path).exists())
    print("\n".join(there))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "main"))
