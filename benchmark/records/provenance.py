"""On what a number was made, with what, and when."""

import importlib.metadata
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import cache
from pathlib import Path, PurePath
from typing import Any

from benchmark.records import throughput

_ABSOLUTE = re.compile(r"(?<![\w.:/~-])/(?:[^\s/:;,'\"()]+/)+(?=[^\s/])")


@cache
def machine() -> dict[str, Any]:
    """What this process runs on, and with."""
    import torch

    versions = {"python": platform.python_version()}
    for package in (
        "torch",
        "torchvision",
        "timm",
        "numpy",
        "scikit-learn",
        "faiss-cpu",
        "faiss-gpu",
        "Pillow",
    ):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "cpu": throughput.processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(memory, 1),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": platform.platform(),
        "versions": versions,
        "commit": _commit(),
    }


def _commit() -> str | None:
    """The commit of this checkout, with `+` where tracked files differ from it; None outside of git."""
    here = Path(__file__).parent
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, timeout=10)
        diff = subprocess.run(["git", "diff", "--quiet", "HEAD"], cwd=here, capture_output=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return None if head.returncode else head.stdout.strip() + ("+" if diff.returncode else "")


def provenance(**more: Any) -> dict[str, Any]:
    """Machine, versions, commit, date and command of this run, and `more`."""
    return {
        **machine(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": portable(["run_all.py", *sys.argv[1:]]),
        **more,
    }


def training(device: str) -> dict[str, Any]:
    """Where a training was done, and when: what a fit keeps, and the records made from it repeat."""
    here = machine()
    about = {name: here[name] for name in ("cpu", "cores", "threads", "gpu", "system", "versions")}
    return {**about, "device": device, "date": datetime.now(UTC).isoformat(timespec="seconds")}


def portable(words: Iterable[str]) -> str:
    """A command without the folders of this machine, of which only the last name stays: records are committed."""
    return " ".join("".join(map(_last_name, re.split("(=)", word))) for word in words)


def _last_name(part: str) -> str:
    return f".../{PurePath(part).name}" if PurePath(part).is_absolute() else part


def without_folders(text: str) -> str:
    """Words without absolute paths, of which only the last name stays."""
    return _ABSOLUTE.sub(".../", text)
