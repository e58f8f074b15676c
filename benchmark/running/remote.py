"""What a worker of a cluster does: it proves that it is like the driver, then carries out the jobs that it is sent.

No Ray in here. A job is named by its place in the plan and its key; its results lie in the store.
"""

import os
import socket
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import torch

from benchmark.jobs.base import Job
from benchmark.jobs.worker import Engine, Worker
from benchmark.records import provenance
from benchmark.running.base import Ended, carry
from benchmark.running.sharing import SEEN_SECONDS, appears, filesystem, look
from benchmark.store import keys
from benchmark.store.entries import Store

ROOT = Path(__file__).parents[2]
ROOMS = ("benchmark", "datasets", "methods")


class NotAlike(Exception):
    """This worker would not compute what the driver plans; one line says why."""


@dataclass(frozen=True)
class Run:
    """All that a worker needs to know of a run.

    tokens: files that only this run's driver wrote, one in each folder that all share: the store's first, the records'.
    folders: of data and weights, which a worker must see as well. plugins: files with methods of the user's own.
    """

    targets: tuple[Job, ...]
    store: Path
    tokens: tuple[Path, ...]
    device: str
    batch_size: int | None
    engines: Mapping[str, Engine]
    threads: int
    source: str
    versions: dict[str, str]
    folders: tuple[Path, ...] = ()
    plugins: tuple[Path, ...] = ()
    argv: tuple[str, ...] = ()


@cache
def source(plugins: tuple[Path, ...] = ()) -> str:
    """Hash of the project's code, and of plugins."""
    files = {path.relative_to(ROOT): path for room in ROOMS for path in (ROOT / room).rglob("*.py")}
    files |= {path: path for path in plugins}
    return keys.digest(**{str(name): keys.file_digest(path) for name, path in sorted(files.items())})


@cache
def versions() -> dict[str, str]:
    """Of Python, of what a number can depend on here, and of Ray."""
    return provenance.versions("onnxruntime", "ray")


def log_path(store: Path) -> Path:
    """Where this process writes what it has to say."""
    return store / "logs" / f"{socket.gethostname()}-{os.getpid()}.log"


def prove(run: Run, seconds: float = SEEN_SECONDS) -> None:
    """NotAlike, in one line, where this process has other code, other versions, or does not see the run's files."""
    here = f"a worker on {socket.gethostname()}"
    for path in (*run.folders, *run.plugins):
        if not path.exists():
            raise NotAlike(f"{here} does not see {path}: all machines must share it")
    if source(run.plugins) != run.source:
        raise NotAlike(f"{here} has other code ({ROOT}): bring both to the same commit")
    for name in sorted(run.versions.keys() | versions().keys()):
        mine, others = versions().get(name, "none"), run.versions.get(name, "none")
        if mine != others:
            raise NotAlike(f"{here} has {name} {mine}, the driver {others}: install the same")
    for token, flag in zip(run.tokens, ("--cache", "--results"), strict=True):
        if not appears(partial(_is_there, token), seconds):
            what = "the store" if flag == "--cache" else "the records"
            raise NotAlike(f"{here} does not see {what} in {token.parent}: name a shared folder with {flag}")


def _is_there(path: Path) -> bool:
    look(path.parent)
    return path.is_file()


def find(targets: Sequence[Job], path: Sequence[int]) -> Job:
    """The job at a place of the plan."""
    job = targets[path[0]]
    for place in path[1:]:
        job = job.needs[place]
    return job


def seen(job: Job, store: Store) -> bool:
    """Whether this process sees what a finished job wrote; the names are looked up anew, large files are not read."""
    path = getattr(job, "path", None)  # of a record
    look(store.folder(job.kind, job.key).parent if path is None else path.parent)
    return store.there(job.kind, job.key) or job.done(store)


def unseen(job: Job, run: Run) -> str:
    """What is said where a finished job's files do not appear."""
    folder = run.tokens[job.kind == "measure"].parent
    return (
        f"{job.title} is finished, but after {SEEN_SECONDS:.0f} s its files are not seen on {socket.gethostname()}; "
        f"{folder} lies on {filesystem(folder)}: all machines must see the same files"
    )


_opened: dict[tuple[Path, ...], tuple[Run, Worker]] = {}


def begin(
    tokens: tuple[Path, ...], fetch: Callable[[], Run], device: str | None = None, seconds: float = SEEN_SECONDS
) -> tuple[Run, Worker]:
    """Get ready for a run, once a process. `device`: of the next job; None: it computes on none, or the run's own."""
    if tokens not in _opened:
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
        _opened.clear()
        _opened[tokens] = run, _worker(run, device)
    run, worker = _opened[tokens]
    if device not in (None, worker.device):  # another GPU than before: what is open on that one goes
        _opened[tokens] = run, _worker(run, device)
    return _opened[tokens]


def _worker(run: Run, device: str | None) -> Worker:
    if device is not None and device.startswith("cuda"):
        torch.cuda.set_device(device)
    worker = Worker(Store(run.store), device=device or run.device, batch_size=run.batch_size)
    worker.engines = run.engines
    return worker


def gpu(lent: Sequence[int | str], visible: str | None) -> str | None:
    """The device that Ray has lent, as torch counts those that CUDA_VISIBLE_DEVICES lets it see; None for none."""
    if not lent:
        return None
    return f"cuda:{visible.split(',').index(str(lent[0])) if visible else lent[0]}"


def _note(line: str) -> None:
    print(time.strftime("%H:%M:%S"), line, file=sys.stderr, flush=True)


def work(
    tokens: tuple[Path, ...], fetch: Callable[[], Run], device: str | None, path: tuple[int, ...], key: str
) -> Ended:
    """Carry out one job of a run."""
    try:
        run, worker = begin(tokens, fetch, device)
        job = find(run.targets, path)
        if job.key != key:
            raise NotAlike(f"a worker on {socket.gethostname()} finds another job: {job.title}")
        for need in job.needs:  # made on another machine, perhaps this moment
            if not appears(partial(seen, need, worker.store), SEEN_SECONDS):
                raise NotAlike(f"{job.title}: {unseen(need, run)}")
    except NotAlike as why:
        return Ended(key, "failed", str(why))
    _note(f"begin {key} {job.title}")
    ended = carry(job, worker)
    worker.store.flush()  # this process may be ended as soon as nobody needs it
    _note(f"{ended.status} {key} {ended.trace or ended.reason}")
    return Ended(key, ended.status, ended.reason, ended.full, ended.trace, ended.passes, str(log_path(run.store)))
