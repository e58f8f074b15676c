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

_PACKAGES = ("torch", "torchvision", "timm", "numpy", "scikit-learn", "faiss-cpu", "faiss-gpu", "Pillow")
COMMIT = "OOD_COMMIT"
DRIVER = Path("/proc/driver/nvidia/version")


def machine(device: str = "cpu") -> dict[str, Any]:
    """What this process runs on, and with; of GPUs only the one that is used, and no CUDA is touched for the CPU."""
    return {**_machine(), **_gpu(device)}


def _gpu(device: str) -> dict[str, Any]:
    """A GPU's name, compute capability and driver, and the most memory that this process has had of it, in GiB."""
    if not device.startswith("cuda"):
        return {"gpu": None}
    import torch

    return {
        "gpu": torch.cuda.get_device_name(device),
        "gpu_capability": ".".join(map(str, torch.cuda.get_device_capability(device))),
        "gpu_driver": _driver(),
        "gpu_peak_gib": round(torch.cuda.max_memory_allocated(device) / 2**30, 2),
    }


def _driver() -> str | None:
    """The version of NVIDIA's driver; None where it does not say it."""
    try:
        found = re.search(r"Kernel Module\D*?(?:x86_64|aarch64)?\s+(\d+(?:\.\d+)+)", DRIVER.read_text())
    except OSError:
        return None
    return found[1] if found else None


def versions(*more: str) -> dict[str, str]:
    """Of Python, of the packages that a number can depend on, and of `more`, as far as they are installed."""
    found = {"python": platform.python_version()}
    for package in (*_PACKAGES, *more):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


@cache
def _machine() -> dict[str, Any]:
    import torch

    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "cpu": throughput.processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(memory, 1),
        "threads": torch.get_num_threads(),
        "system": platform.platform(),
        "versions": versions(),
        "commit": commit(),
    }


def commit() -> str | None:
    """The commit of this checkout, with `+` where tracked files differ from it; None outside of git.

    Where only the code travelled to this machine, $OOD_COMMIT says it.
    """
    if told := os.environ.get(COMMIT):
        return told
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
        **machine(more.get("device", "cpu")),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": portable(["run_all.py", *sys.argv[1:]]),
        **more,
    }


def training(device: str) -> dict[str, Any]:
    """Where a training was done, and when: what a fit keeps, and the records made from it repeat."""
    apart = ("memory_gib", "commit")
    about = {name: said for name, said in machine(device).items() if name not in apart}
    return {**about, "device": device, "date": datetime.now(UTC).isoformat(timespec="seconds")}


def portable(words: Iterable[str]) -> str:
    """A command without the folders of this machine, of which only the last name stays: records are committed."""
    return " ".join("".join(map(_last_name, re.split("(=)", word))) for word in words)


def _last_name(part: str) -> str:
    return f".../{PurePath(part).name}" if PurePath(part).is_absolute() else part


def without_folders(text: str) -> str:
    """Words without absolute paths, of which only the last name stays."""
    return _ABSOLUTE.sub(".../", text)
