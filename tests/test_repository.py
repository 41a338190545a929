"""Invariants of the repository: layout, file sizes, start-up time, and a guide that knows every pass."""

from __future__ import annotations

import ast
import importlib.util
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LINKED_FOLDERS = ("passes", "backends", "models")
SOURCE_FOLDERS = ("qcompiler", *LINKED_FOLDERS, "benchmarks", "scripts")
HEAVY_MODULES = ("torch", "tvm", "transformers", "onnxruntime", "sklearn", "scipy", "onnxscript")
MAX_LINES = 300
MAX_FUNCTION_LINES = 50
VAGUE_NAMES = ("utils", "util", "helpers", "common", "misc")
MAY_PRINT = ("benchmarks", "scripts", "qcompiler/cli", "qcompiler/report", "qcompiler/demo.py", "models")
MAX_HELP_SECONDS = 0.3

needs_cli = pytest.mark.skipif(
    importlib.util.find_spec("qcompiler.cli") is None, reason="qcompiler.cli does not exist yet"
)


def source_files() -> list[Path]:
    """Return every Python file outside the tests, each once (linked folders are not entered)."""
    found = []
    for folder in SOURCE_FOLDERS:
        for path, _, names in os.walk(ROOT / folder, followlinks=False):
            found += [Path(path) / name for name in names if name.endswith(".py")]
    return found


@pytest.mark.parametrize("name", LINKED_FOLDERS)
def test_package_links_to_the_root_folder(name: str) -> None:
    link = ROOT / "qcompiler" / name
    assert link.is_symlink(), f"{link} must be a symlink (on Windows: git config core.symlinks true)"
    assert os.readlink(link) == f"../{name}"
    assert (ROOT / name).is_dir()
    assert not (ROOT / name).is_symlink()


def test_linked_folder_is_imported_under_one_name() -> None:
    import qcompiler.passes

    assert qcompiler.passes.__name__ == "qcompiler.passes"
    assert qcompiler.passes.__file__ is not None
    assert Path(qcompiler.passes.__file__).resolve() == ROOT / "passes" / "__init__.py"


def test_no_source_file_is_too_long() -> None:
    lengths = {path.relative_to(ROOT): len(path.read_text("utf-8").splitlines()) for path in source_files()}
    too_long = {str(path): lines for path, lines in lengths.items() if lines > MAX_LINES}
    assert not too_long, f"more than {MAX_LINES} lines usually hold two ideas: {too_long}"


def test_no_function_is_too_long() -> None:
    too_long = {
        f"{path.relative_to(ROOT)}:{function.lineno} {function.name}": lines
        for path in source_files()
        for function in ast.walk(parsed(path))
        if isinstance(function, ast.FunctionDef) and (lines := code_lines(function)) > MAX_FUNCTION_LINES
    }
    assert not too_long, f"more than {MAX_FUNCTION_LINES} lines in the body: {too_long}"


def test_files_are_named_after_their_idea() -> None:
    vague = [str(path.relative_to(ROOT)) for path in source_files() if path.stem in VAGUE_NAMES]
    assert not vague


def test_only_programs_print() -> None:
    """The library logs; what a user reads is written by the command line, scripts and training recipes."""
    printing = [
        f"{path.relative_to(ROOT)}:{call.lineno}"
        for path in source_files()
        if not path.relative_to(ROOT).as_posix().startswith(MAY_PRINT)
        for call in ast.walk(parsed(path))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "print"
    ]
    assert not printing


def test_package_loads_no_heavy_module() -> None:
    """``import qcompiler`` is what every user pays; it must not load a runtime or a framework."""
    assert loaded_by("import qcompiler") == []


@needs_cli
def test_cli_loads_no_heavy_module() -> None:
    assert loaded_by("import qcompiler.cli") == []


@needs_cli
def test_help_is_fast() -> None:
    """``qcompile --help`` answers in 0.3 s of work.

    CPU time of the process, not wall time: other tests and builds share the machine. The best of five: the
    first run also compiles and reads files that no later run reads again.
    """
    seconds = [help_cpu_seconds() for _ in range(5)]
    assert min(seconds) < MAX_HELP_SECONDS, f"median {statistics.median(seconds):.2f} s, all {seconds}"


@needs_cli
def test_help_loads_no_heavy_module() -> None:
    script = "import sys; sys.argv = ['qcompile', '--help']\nfrom qcompiler.cli import main\n"
    script += "try:\n    main()\nexcept SystemExit as stop:\n    assert not stop.code, stop.code"
    assert loaded_by(script) == []


@pytest.mark.skipif(not (ROOT / "docs" / "guide.md").exists(), reason="docs/guide.md does not exist yet")
def test_guide_has_a_row_for_every_pass() -> None:
    registry = pytest.importorskip("qcompiler.pipeline.registry")
    guide = (ROOT / "docs" / "guide.md").read_text("utf-8")
    rows = {line.split("|")[1].strip(" `") for line in guide.splitlines() if line.startswith("| `")}
    missing = sorted(set(registry.PASSES) - rows)
    assert not missing, f"docs/guide.md has no table row '| `name` | ...' for {missing}"


def parsed(path: Path) -> ast.Module:
    """Return the syntax tree of a source file."""
    return ast.parse(path.read_text("utf-8"))


def code_lines(function: ast.FunctionDef) -> int:
    """Return the lines of a function's body after its docstring; a long signature is not a second idea."""
    documented = ast.get_docstring(function, clean=False) is not None
    body = function.body[1:] if documented else function.body
    return (function.end_lineno or function.lineno) - body[0].lineno + 1 if body else 0


def loaded_by(script: str) -> list[str]:
    """Return which heavy modules a new interpreter holds after ``script``."""
    report = f"\nimport sys\nprint('loaded:', *[name for name in {HEAVY_MODULES!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script + report], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1].removeprefix("loaded:").split()


def help_cpu_seconds() -> float:
    """Return user plus system seconds of one ``qcompile --help``."""
    command = [sys.executable, "-c", "from qcompiler.cli import main; main()", "--help"]
    before = os.times()
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return min(used, time.perf_counter() - started)
