"""The key of a stored thing: a hash of everything that it depends on."""

import ast
import hashlib
import importlib.util
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any


def digest(**parts: Any) -> str:
    """SHA-256 over the canonical JSON of `parts`, in hex."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@cache
def source(module: str) -> str:
    """Hash of the source text of a module and of the modules of its room that it imports, directly or not.

    So an edited method reruns itself, and an edited network reruns the methods that stand on it, and nothing else.
    """
    texts: dict[str, str] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name not in texts:
            texts[name], imported = _read(name)
            waiting += imported
    return digest(**texts)


@cache
def _read(name: str) -> tuple[str, tuple[str, ...]]:
    """A module's text, and the modules of its room that it names."""
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    text = Path(spec.origin).read_text(encoding="utf-8")
    names: list[str] = []
    for node in _statements(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
    room = name.partition(".")[0]
    return text, tuple(name for name in names if name.startswith(f"{room}.") and _is_module(name))


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    """Every statement below a node, and nothing smaller: there are ten times as many parts of expressions."""
    for block in ("body", "orelse", "finalbody", "handlers", "cases"):
        for statement in getattr(node, block, ()):
            yield statement
            yield from _statements(statement)


@cache
def _is_module(name: str) -> bool:
    try:
        spec = importlib.util.find_spec(name)
        return spec is not None and spec.origin is not None
    except ModuleNotFoundError:  # `from room.module import name`: a name, not a module
        return False
