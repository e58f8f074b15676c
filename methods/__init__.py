"""The registry's face: every module in this folder is imported, so a new file needs no other edit."""

import importlib
import pkgutil
import warnings
from typing import Any

from methods.base import Method, hyperparameters, nearest, registered

__all__ = ["create", "get", "names"]

_imported: set[str] = set()


def _import_all() -> None:
    for module in pkgutil.iter_modules(__path__):
        if module.ispkg or module.name in _imported:
            continue
        _imported.add(module.name)
        try:
            importlib.import_module(f"methods.{module.name}")
        except Exception as error:  # a broken new file must not take the other methods with it
            warnings.warn(f"methods/{module.name}.py is left out: {type(error).__name__}: {error}", stacklevel=3)


def names() -> list[str]:
    """Every registered method, sorted."""
    _import_all()
    return sorted(registered())


def get(name: str) -> type[Method]:
    """The class of a method; ValueError naming the nearest one where there is none."""
    if name not in registered():
        _import_all()
    if name not in registered():
        raise ValueError(f"no method {name!r}; {nearest(name, registered())}")
    return registered()[name]


def create(name: str, *, preset: str | None = None, **settings: Any) -> Method:
    """A method with its hyper-parameters, `preset` first, `settings` over it.

    An unknown name, preset or hyper-parameter: ValueError naming the nearest valid one.
    """
    cls = get(name)
    if preset is not None and preset not in cls.presets:
        raise ValueError(f"{name} has no preset {preset!r}; {nearest(preset, cls.presets)}")
    valid = hyperparameters(cls)
    for setting in settings:
        if setting not in valid:
            raise ValueError(f"{name} has no hyper-parameter {setting!r}; {nearest(setting, valid)}")
    return cls(**{**(cls.presets[preset] if preset else {}), **settings})
