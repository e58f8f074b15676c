"""The linter, the formatter and the type checker are part of the tests; so are the floors of the house."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("benchmark", "datasets", "methods")


@pytest.mark.parametrize("command", ["ruff check", "ruff format --check", "mypy"])
def test_the_tools_have_nothing_to_say(command):
    done = subprocess.run(
        [sys.executable, "-m", *command.split()], cwd=ROOT, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stdout + done.stderr


def imports(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def test_no_file_imports_upward():
    may = {"datasets": {"datasets"}, "methods": {"methods"}, "benchmark": set(ROOMS)}
    for room in ROOMS:
        for path in (ROOT / room).rglob("*.py"):
            for name in imports(path):
                there = name.partition(".")[0]
                assert there not in {*ROOMS, "run_all"} - may[room], f"{path} imports {name}"


def test_no_circles():
    edges = {}
    for room in ROOMS:
        for path in (ROOT / room).rglob("*.py"):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            tree = ast.parse(path.read_text(encoding="utf-8"))
            found = set()
            for node in ast.walk(tree):
                if isinstance(node, ast.ImportFrom) and node.module:
                    found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
                elif isinstance(node, ast.Import):
                    found |= {alias.name for alias in node.names}
            edges[name] = found
    edges = {name: found & set(edges) for name, found in edges.items()}
    while leaves := [name for name, found in edges.items() if not found]:
        for leaf in leaves:
            del edges[leaf]
        edges = {name: found - set(leaves) for name, found in edges.items()}
    assert not edges, f"these import each other in circles: {sorted(edges)}"
