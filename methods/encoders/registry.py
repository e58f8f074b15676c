"""Every encoder, by name: each module in this folder is imported, so a new file needs no other edit."""

import importlib
import pkgutil
from pathlib import Path
from typing import Any

from methods.encoders.base import Encoder, class_of, registered


def _import_all() -> None:
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        if module.ispkg:
            continue
        importlib.import_module(f"methods.encoders.{module.name}")


def names() -> list[str]:
    """Every registered encoder, sorted."""
    _import_all()
    return sorted(registered())


def create(name: str, **given: Any) -> Encoder:
    """An encoder with its settings; ValueError naming the nearest valid name or setting."""
    if name not in registered():
        _import_all()
    return class_of(name, given)(**given)
