"""Results with their provenance: one JSON file for one row, one OOD set and one seed; one for a row's speed."""

import gzip
import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path, PurePath
from typing import Any

from benchmark.records import throughput
from benchmark.store.files import write_atomically

SCHEMA = 1
PACKED = "records.jsonl.gz"
Record = dict[str, Any]


def safe_name(name: str) -> str:
    """`name` as a file name."""
    return re.sub(r"[^\w.@=+-]", "_", name)


def path_of(folder: Path, row: str, ood: str, seed: int) -> Path:
    return folder / "records" / safe_name(row) / f"{safe_name(ood)}.seed{seed}.json"


def speed_path(folder: Path, row: str) -> Path:
    return folder / "records" / safe_name(row) / "speed.json"


def scores_path(folder: Path, row: str, name: str, seed: int) -> Path:
    return folder / "scores" / safe_name(row) / f"{safe_name(name)}.seed{seed}.npy"


def result(about: Mapping[str, Any], key: str, status: str, reason: str = "", **more: Any) -> Record:
    """The record of one cell: what it is about, how it ended, and `more`: its numbers, where it has any.

    `status`: done, failed, skipped or interrupted; only `done` is ever reused.
    """
    empty = dict.fromkeys(("metrics", "intervals", "accuracy", "knn_accuracy", "bits_per_dimension", "provenance"))
    head = {"schema": SCHEMA, "kind": "result", "key": key, "status": status, "reason": reason}
    return {**head, **about, **empty, **more}


def write(path: Path, record: Record) -> None:
    write_atomically(path, json.dumps(record, indent=1, sort_keys=True) + "\n")


def read(path: Path) -> Record | None:
    """A record; None where there is none, or it cannot be read."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and record.get("schema") == SCHEMA else None


def is_done(path: Path, key: str) -> bool:
    """Whether the record there is the result of the job with this key."""
    record = read(path)
    return record is not None and record["status"] == "done" and record["key"] == key


def read_all(folder: Path) -> Iterator[Record]:
    """Every record below a results folder, in the order of their names; of a published one, out of its one file."""
    for path in sorted((folder / "records").glob("*/*.json")):
        record = read(path)
        if record is not None:
            yield record
    if (folder / PACKED).is_file():
        with gzip.open(folder / PACKED, "rt", encoding="utf-8") as file:
            yield from (record for line in file if (record := json.loads(line))["schema"] == SCHEMA)


def pack(folder: Path, path: Path) -> None:
    """All records of a results folder as one compressed file, a line each: what is committed of them."""
    lines = [json.dumps(record, sort_keys=True, separators=(",", ":")) + "\n" for record in read_all(folder)]
    path.write_bytes(gzip.compress("".join(lines).encode(), mtime=0))


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


def portable(words: Iterable[str]) -> str:
    """A command without the folders of this machine, of which only the last name stays: records are committed."""
    return " ".join(f".../{PurePath(word).name}" if PurePath(word).is_absolute() else word for word in words)
