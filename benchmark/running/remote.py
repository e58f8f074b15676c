"""What a worker of a cluster does: it proves that it is like the driver, then carries out the jobs that it is sent.

No Ray in here. A job is named by its place in the plan and its key; its results lie in the store.
"""

import contextlib
import importlib.metadata
import os
import platform
import socket
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from benchmark.jobs.base import Job
from benchmark.jobs.worker import Engine, Worker
from benchmark.running.base import Ended, carry
from benchmark.store import keys
from benchmark.store.entries import Store

ROOT = Path(__file__).parents[2]
SEEN_SECONDS = 60.0  # NFS keeps what it knows of a folder so long by default
_PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "numpy",
    "scikit-learn",
    "faiss-cpu",
    "faiss-gpu",
    "Pillow",
    "onnxruntime",
    "ray",
)


class NotAlike(Exception):
    """This worker would not compute what the driver plans; one line says why."""


@dataclass(frozen=True)
class Run:
    """All that a worker needs to know of a run. `token`: a file in the store that only this run's driver wrote."""

    targets: tuple[Job, ...]
    store: Path
    token: str
    device: str
    batch_size: int | None
    engines: Mapping[str, Engine]
    threads: int
    source: str
    versions: dict[str, str]
    argv: tuple[str, ...]


@cache
def source() -> str:
    """Hash of the project's code."""
    files = [path for room in ("benchmark", "datasets", "methods") for path in (ROOT / room).rglob("*.py")]
    return keys.digest(**{str(path.relative_to(ROOT)): keys.file_digest(path) for path in sorted(files)})


@cache
def versions() -> dict[str, str]:
    """Of Python and of what a number can depend on."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def token_path(store: Path, token: str) -> Path:
    return store / "cluster" / token


def log_path(store: Path) -> Path:
    """Where this process writes what it has to say."""
    return store / "logs" / f"{socket.gethostname()}-{os.getpid()}.log"


def prove(run: Run, seconds: float = SEEN_SECONDS) -> None:
    """NotAlike, in one line, where this process has other code, other versions, or does not see the run's store."""
    here = f"a worker on {socket.gethostname()}"
    if source() != run.source:
        raise NotAlike(f"{here} has other code ({ROOT}): bring both to the same commit")
    for name in sorted(run.versions.keys() | versions().keys()):
        mine, others = versions().get(name, "none"), run.versions.get(name, "none")
        if mine != others:
            raise NotAlike(f"{here} has {name} {mine}, the driver {others}: install the same")
    if not appears(token_path(run.store, run.token).is_file, run.store / "cluster", seconds):
        raise NotAlike(f"{here} does not see the store {run.store}: name a folder that all machines share with --cache")


def appears(there: Callable[[], bool], folder: Path, seconds: float) -> bool:
    """Whether `there` comes true in time; the folder is listed anew, since network filesystems remember names."""
    end = time.monotonic() + seconds
    while not there():
        if time.monotonic() > end:
            return False
        with contextlib.suppress(OSError):
            os.listdir(folder)
        time.sleep(0.1)
    return True


def find(targets: Sequence[Job], path: Sequence[int]) -> Job:
    """The job at a place of the plan."""
    job = targets[path[0]]
    for place in path[1:]:
        job = job.needs[place]
    return job


_opened: dict[str, tuple[Run, Worker]] = {}


def begin(token: str, fetch: Callable[[], Run], seconds: float = SEEN_SECONDS) -> tuple[Run, Worker]:
    """Get ready for a run, once a process."""
    if token not in _opened:
        run = fetch()
        prove(run, seconds)
        os.environ["OMP_NUM_THREADS"] = str(run.threads)
        torch.set_num_threads(run.threads)
        sys.argv = ["run_all.py", *run.argv]
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        log = log_path(run.store)
        log.parent.mkdir(parents=True, exist_ok=True)
        for descriptor in (1, 2):
            with log.open("ab") as file:
                os.dup2(file.fileno(), descriptor)
        worker = Worker(Store(run.store), device=run.device, batch_size=run.batch_size)
        worker.engines = run.engines
        _opened.clear()
        _opened[token] = run, worker
    return _opened[token]


def _note(line: str) -> None:
    print(time.strftime("%H:%M:%S"), line, file=sys.stderr, flush=True)


def work(token: str, fetch: Callable[[], Run], path: tuple[int, ...], key: str) -> Ended:
    """Carry out one job of a run."""
    try:
        run, worker = begin(token, fetch)
        job = find(run.targets, path)
        if job.key != key:
            raise NotAlike(f"a worker on {socket.gethostname()} finds another job: {job.title}")
    except NotAlike as why:
        return Ended(key, "failed", str(why))
    _note(f"begin {key} {job.title}")
    ended = carry(job, worker)
    _note(f"{ended.status} {key} {ended.trace or ended.reason}")
    return Ended(key, ended.status, ended.reason, ended.full, ended.trace, ended.passes, str(log_path(run.store)))
