"""The registry's face: every module in this folder is imported, so a new file needs no other edit."""

import hashlib
import importlib
import importlib.util
import pkgutil
import re
import sys
import traceback
import warnings
from pathlib import Path
from typing import Any

from methods.base import Method, hyperparameters, nearest, registered

__all__ = ["create", "get", "load", "names"]

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


def load(path: Path) -> None:
    """Have a Python file from outside register its methods (and encoders), as if it lay in this folder.

    ValueError, in one line, for what is no such file, fails, registers nothing, or takes a name that is taken.
    """
    _import_all()
    if path.suffix != ".py" or not path.is_file():
        raise ValueError(f"{path} is no Python file")
    content = path.read_bytes()
    # its name says its content, so that keys follow the file and not the folder that it lies in
    name = f"methods.{re.sub(r'[^0-9A-Za-z_]', '_', path.stem)}_{hashlib.sha256(content).hexdigest()[:8]}"
    if name in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == spec.origin]
        where = f"line {lines[-1]}: " if lines else f"line {error.lineno}: " if isinstance(error, SyntaxError) else ""
        raise ValueError(f"{path}: {where}{type(error).__name__}: {' '.join(str(error).split())}") from error
    if not any(getattr(value, "__module__", None) == name for value in _registered_anywhere()):
        raise ValueError(f'{path} registers nothing: put @register("name") above its class')


def _registered_anywhere() -> list[type]:
    from methods.encoders import base

    return [*registered().values(), *base.registered().values()]
