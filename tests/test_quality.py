"""The linter and the formatter are part of the tests, and the floors of the house; `mypy` runs in `.ci/run`."""

import ast
import functools
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("benchmark", "datasets", "methods")


@pytest.mark.parametrize("command", ["ruff check", "ruff format --check"])
def test_the_tools_have_nothing_to_say(command):
    done = subprocess.run([sys.executable, "-m", *command.split()], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


FLOORS = (
    # a room stands on those before it; what is named together shares a floor and does not import each other
    ("benchmark.beta", "datasets", "methods"),
    ("benchmark.arguments", "benchmark.metrics", "benchmark.shown", "benchmark.store"),
    ("benchmark.canvas", "benchmark.records"),
    ("benchmark.jobs",),
    ("benchmark.planning",),
    ("benchmark.running", "benchmark.reporting", "benchmark.detectors"),
    ("benchmark.papers", "benchmark.quoted"),
    ("benchmark.detecting", "benchmark.listing", "benchmark.publishing", "benchmark.shipping"),
    ("benchmark.evaluating", "benchmark.commands"),
    ("run_all",),
)
JOBS = (
    "batching",
    "transfer",
    "inputs",
    "worker",
    "base",
    "writing",
)  # inside benchmark.jobs: these first, then the rest
METHODS = (
    ("methods.core",),
    ("methods.base",),
    ("methods.device",),
    ("methods.vectors", "methods.pixels"),
    ("methods.training",),
    ("methods.networks",),
    ("methods.encoders.base",),
    ("methods.encoders.images",),
    ("methods.encoders.networks",),
    ("methods.encoders.outliers",),
    ("methods.encoders", "methods"),
)


@functools.cache
def modules():
    """Every module by its dotted name, with the modules of the project that it imports when it runs."""
    files = {}
    for path in [ROOT / "run_all.py", *(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))]:
        parts = path.relative_to(ROOT).with_suffix("").parts
        files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    found = {}
    for name, path in files.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        unseen = {inner for node in ast.walk(tree) if _for_types_alone(node) for inner in ast.walk(node)}
        imported = set()
        for node in ast.walk(tree):
            if node in unseen:
                continue
            if isinstance(node, ast.ImportFrom) and node.module:
                named = {f"{node.module}.{alias.name}" for alias in node.names}
                modules = named & set(files)
                imported |= modules if len(modules) == len(named) else {*modules, node.module}
            elif isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
        found[name] = imported & set(files)
    return found


def _for_types_alone(node):
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def floor(name, floors):
    """The floor and the room of a module: the longest room that holds it."""
    rooms = {room: place for place, names in enumerate(floors) for room in names}
    room = max((room for room in rooms if name == room or name.startswith(f"{room}.")), key=len, default=None)
    return (rooms[room], room) if room else (None, None)


def test_no_file_imports_upward():
    for name, imported in modules().items():
        for other in imported:
            here, there = floor(name, FLOORS), floor(other, FLOORS)
            assert here[0] is not None, f"{name} stands on no floor"
            assert there < here if there[0] != here[0] else there[1] == here[1], f"{name} imports {other}"


def test_no_run_imports_pandas():
    """It takes 0.3 s: where data frames are what is given or read, and nowhere else, it stands at a file's head."""
    heads = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "benchmark").rglob("*.py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.Import) and "pandas" in {alias.name for alias in node.names}
    }
    assert heads == {"benchmark/detectors/detector.py", "benchmark/quoted/suites.py", "benchmark/quoted/trained.py"}


def test_the_floors_of_the_jobs():
    room = "benchmark.jobs."
    for name, imported in modules().items():
        for other in (other for other in imported if other.startswith(room) and name.startswith(room)):
            here, there = (
                JOBS.index(last) if (last := full.removeprefix(room)) in JOBS else len(JOBS) for full in (name, other)
            )
            assert there < here or here == len(JOBS), f"{name} imports {other}"


def test_the_floors_of_the_methods():
    for name, imported in modules().items():
        for other in imported:
            here, there = floor(name, METHODS), floor(other, METHODS)
            if here[0] is not None and other != "methods":
                assert there[0] < here[0] or there[1] == here[1], f"{name} imports {other}"


def test_no_circles():
    edges = modules()
    while leaves := {name for name, imported in edges.items() if not imported & set(edges)}:
        edges = {name: imported for name, imported in edges.items() if name not in leaves}
    assert not edges, f"these import each other in circles: {sorted(edges)}"
