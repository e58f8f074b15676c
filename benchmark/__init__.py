"""What a user calls from Python, `from benchmark import evaluate, Detector`: imported on use."""

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmark.detecting import Detector as Detector
    from benchmark.evaluating import evaluate as evaluate

_ROOMS = {"evaluate": "benchmark.evaluating", "Detector": "benchmark.detecting"}
_OURS = Path(__file__).resolve().parents[1] / "datasets"


def _check_datasets() -> None:
    """One process holds one package called `datasets`: ImportError where that is another's, before anything of ours."""
    there = sys.modules.get("datasets")
    where = next(iter(getattr(there, "__path__", ())), getattr(there, "__file__", None))
    if there is not None and (where is None or Path(where).resolve() != _OURS):
        raise ImportError(
            f"the package `datasets` of {where or 'another'} is imported already, and one process holds one of that "
            "name: write features or images to files and run `run_all.py --id FOLDER`, or import benchmark in a "
            "process of its own"
        )


_check_datasets()


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module 'benchmark' has no attribute {name!r}; from Python: {', '.join(_ROOMS)}")
    _check_datasets()
    return getattr(importlib.import_module(_ROOMS[name]), name)
