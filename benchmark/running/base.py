"""What every way to carry a plan out shares: ready jobs go in, outcomes come out."""

import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol, Self

from benchmark.jobs.base import Job
from benchmark.jobs.worker import Worker
from benchmark.planning.plan import Row
from benchmark.store.files import is_full
from benchmark.store.locks import Busy
from methods.base import CannotRun


class DiskFull(Exception):
    """No space left: nothing more can be kept, so the run stops here."""

    def __init__(self, job: Job) -> None:
        super().__init__(f"no space left while doing: {job.title}; free some, or choose another --cache or --results")


@dataclass(frozen=True)
class Ready:
    """A job whose needs are there. `path`: its target's place, then the place of each need on the way down to it."""

    job: Job
    path: tuple[int, ...]


Status = Literal["done", "busy", "failed", "skipped"]


@dataclass(frozen=True)
class Ended:
    """How a job ended. `passes`: images that went through each encoder meanwhile; `log`: the file that says more."""

    key: str
    status: Status
    reason: str = ""
    full: bool = False  # it failed for want of space
    trace: str = ""
    passes: Mapping[str, int] = field(default_factory=dict)
    log: str = ""


class Carrier(Protocol):
    """Carries jobs out, here or elsewhere. A context: what it started is gone at its end."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None: ...

    @property
    def room(self) -> int:
        """How many more jobs it takes now."""

    def give(self, ready: Ready) -> None: ...

    def wait(self) -> list[Ended]:
        """What has ended since the last call; where nothing does, it comes back after a second or so."""

    def doing(self) -> str:
        """Who does what, for the progress bar."""


class Beside(Protocol):
    """What goes on beside the measuring, in processes of its own."""

    def measured(self, row: Row) -> None:
        """All cells of a row are measured, some of them just now."""

    def rest(self) -> None:
        """Wait until nothing goes on: a speed is measured next."""

    def whole(self) -> None:
        """All is there that tables show; what rows erred on is still looked for."""


def carry(job: Job, worker: Worker) -> Ended:
    """Carry one job out under its lock, unless it is done. Whatever it raises ends this job alone."""
    before = dict(worker.passes)
    full, trace = False, ""
    status: Status
    try:
        with worker.store.lock(job.key):
            if not job.done(worker.store):  # another process may have finished it meanwhile
                job.run(worker)
        status, reason = "done", ""
    except Busy as owner:
        status, reason = "busy", str(owner)
    except CannotRun as why:
        status, reason = "skipped", str(why)
    except (Exception, SystemExit) as error:
        status, reason, full = "failed", f"{job.title}: {_in_one_line(error)}", is_full(error)
        trace = "".join(traceback.format_exception(error)).rstrip()
    passes = {name: count - before.get(name, 0) for name, count in worker.passes.items() if count > before.get(name, 0)}
    return Ended(job.key, status, reason, full, trace, passes)


def _in_one_line(error: BaseException) -> str:
    message = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, ValueError | RuntimeError | OSError):
        return message
    frame = traceback.extract_tb(error.__traceback__)[-1]  # a fault of the code, and not of what it was given
    return f"{type(error).__name__}: {message} ({Path(frame.filename).name}, line {frame.lineno})"
