"""Carries a plan out in this process: what is missing, in order, each job under its lock."""

import time
import traceback
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tqdm.auto import tqdm

from benchmark.jobs.base import Job
from benchmark.jobs.calibrating import Calibrate
from benchmark.jobs.measuring import Measure
from benchmark.jobs.timing import MeasureSpeed
from benchmark.jobs.worker import Worker
from benchmark.planning.plan import Plan, Row
from benchmark.records import names, records
from benchmark.store.files import is_full, sweep
from benchmark.store.locks import Busy
from methods.base import CannotRun

WAIT_SECONDS = 0.5


@dataclass
class Outcome:
    """How a run went: cells that were measured, or that were already; `failed`, `skipped`: rows, with the reason."""

    measured: int = 0
    reused: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)


class DiskFull(Exception):
    """No space left: nothing more can be kept, so the run stops here."""


@dataclass(frozen=True)
class _Stopped:
    """A job that could not be carried out, and all that needs it."""

    status: str
    reason: str


class Runner:
    """One process's way through a plan. A job that another process holds is put off; others come first.

    debug: the traceback of a job that fails is shown too.
    """

    def __init__(self, plan: Plan, worker: Worker, *, debug: bool = False) -> None:
        self.plan, self.worker, self.debug = plan, worker, debug
        self.outcome = Outcome()
        self._stopped: dict[str, _Stopped] = {}
        self._finished: set[str] = set()

    def run(self) -> Outcome:
        """Measure everything that is selected. Ctrl-C leaves the cells that were not measured as interrupted."""
        sweep(self.plan.folder)
        self.worker.store.welcome()
        for row in self.plan.rows:
            if row.selected and row.reason:
                self.outcome.skipped[row.spec.label] = row.reason
                self._write_all(row, "skipped", row.reason)
        waiting = list(self.plan.targets())
        self._say_what_is_measured_anew(waiting)
        bar = tqdm(total=len(waiting), desc="measure", unit="cell", delay=2, leave=False, dynamic_ncols=True)
        with bar:
            try:
                while waiting:
                    put_off = []
                    for number, (row, target) in enumerate(waiting):
                        bar.set_postfix_str(row.spec.label, refresh=False)
                        try:
                            self._measure(row, target)
                            bar.update()
                        except Busy as owner:
                            put_off.append((row, target))
                            busy = owner
                        except KeyboardInterrupt:
                            waiting = put_off + waiting[number:]
                            raise
                    if len(put_off) == len(waiting):
                        bar.set_postfix_str(f"waiting for {busy}")
                        time.sleep(WAIT_SECONDS)
                    waiting = put_off
            except KeyboardInterrupt:
                for _, target in waiting:
                    if isinstance(target, Measure) and not target.done(self.worker.store):
                        reason = "the run was interrupted; the same command goes on from here"
                        records.write(target.path, records.result(target.about, target.key, "interrupted", reason))
                raise
        return self.outcome

    def _say_what_is_measured_anew(self, targets: Iterable[tuple[Row, Job]]) -> None:
        """In one line, how many rows have records of another precision, which this run puts its own in place of."""
        rows: dict[str, str] = {}
        now: set[str] = set()
        for row, target in targets:
            there = records.read(target.path) if isinstance(target, Measure) else None
            before = None if there is None or there["status"] != "done" else there.get("precision")
            if before not in (None, row.about["precision"]):
                rows[row.spec.label] = str(before)
                now.add(row.about["precision"])
        if rows:
            self.worker.say(
                f"note: {len(rows)} rows were measured with precision {' and '.join(sorted(set(rows.values())))}: "
                f"they are measured anew with {' and '.join(sorted(now))}"
            )

    def _measure(self, row: Row, target: Job) -> None:
        cell = isinstance(target, Measure | Calibrate)
        if target.done(self.worker.store):
            self.outcome.reused += cell
            return
        if isinstance(target, Measure | MeasureSpeed | Calibrate) and (why := records.fault(target.path)):
            self.worker.say(f"note: {target.path} is not used, and measured again: {why}")
        stopped = self._ensure(target)
        if stopped is None:
            self.outcome.measured += cell
            return
        rows = self.outcome.skipped if stopped.status == "skipped" else self.outcome.failed
        rows.setdefault(row.spec.label, stopped.reason)
        if isinstance(target, Measure):
            records.write(target.path, records.result(target.about, target.key, stopped.status, stopped.reason))

    def _ensure(self, job: Job) -> _Stopped | None:
        """Carry a job out with all that it needs, unless that is done. Busy where another process is at it."""
        key, store = job.key, self.worker.store
        if key in self._finished:
            return None
        if key in self._stopped:
            return self._stopped[key]
        if job.done(store):
            self._finished.add(key)
            return None
        for need in job.needs:
            if (stopped := self._ensure(need)) is not None:
                self._stopped[key] = stopped
                return stopped
        try:
            with store.lock(key):
                if not job.done(store):  # another process may have finished it meanwhile
                    job.run(self.worker)
            self._finished.add(key)
        except Busy:
            raise
        except CannotRun as reason:
            self._stopped[key] = _Stopped("skipped", str(reason))
        except Exception as error:  # a row that fails does not stop the others
            if is_full(error):
                raise DiskFull(
                    f"no space left while doing: {job.title}; free some, or choose another --cache or --results"
                ) from None
            self._fail(job, error)
        return self._stopped.get(key)

    def _fail(self, job: Job, error: Exception) -> None:
        message = " ".join(str(error).split()) or type(error).__name__
        if not isinstance(error, ValueError | RuntimeError | OSError):
            frame = traceback.extract_tb(error.__traceback__)[-1]  # a fault of the code, and not of what it was given
            message = f"{type(error).__name__}: {message} ({Path(frame.filename).name}, line {frame.lineno})"
        self._stopped[job.key] = _Stopped("failed", f"{job.title}: {message}")
        self.worker.say(f"failed: {job.title}: {message}")
        if self.debug:
            self.worker.say("".join(traceback.format_exception(error)).rstrip())

    def _write_all(self, row: Row, status: str, reason: str) -> None:
        """The record of every selected cell of a row that has no jobs; what was measured before stays."""
        for column in self.plan.columns:
            path = names.path_of(self.plan.folder, row.spec.label, column.name, row.about["seed"])
            before = records.read(path)
            if column.selected and (before is None or before["status"] != "done"):
                about = {**row.about, "ood": column.about}
                records.write(path, records.result(about, "", status, reason))
