"""The key of a stored thing: a hash of everything that it depends on."""

import ast
import hashlib
import importlib.util
import json
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
    room = module.partition(".")[0]
    waiting = [module]
    while waiting:
        name = waiting.pop()
        spec = importlib.util.find_spec(name) if name not in texts else None
        if spec is None or spec.origin is None:
            continue
        texts[name] = Path(spec.origin).read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(texts[name])):
            if isinstance(node, ast.ImportFrom) and node.module:
                waiting += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            elif isinstance(node, ast.Import):
                waiting += [alias.name for alias in node.names]
        waiting = [name for name in waiting if name.startswith(f"{room}.") and _is_module(name)]
    return digest(**texts)


def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # `from room.module import name`: a name, not a module
        return False
