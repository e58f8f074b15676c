"""Goes through a plan: what is missing, in order, with the records of what was measured and of what could not be."""

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from benchmark.jobs.base import Job
from benchmark.jobs.calibrating import Calibrate
from benchmark.jobs.measuring import Measure
from benchmark.jobs.mistaking import ShowMistakes
from benchmark.jobs.timing import MeasureSpeed
from benchmark.jobs.worker import Worker
from benchmark.planning.plan import Plan, Row
from benchmark.records import names, records
from benchmark.running.base import Beside, Carrier, Ended, Ready
from benchmark.running.base import DiskFull as DiskFull
from benchmark.running.here import Here
from benchmark.running.schedule import Schedule
from benchmark.store.files import flush, sweep

WAIT_SECONDS = 0.5


@dataclass
class Outcome:
    """How a run went: cells that were measured, or that were already; `failed`, `skipped`: rows, with the reason.

    `passes`: images that went through each encoder, over all workers.
    """

    measured: int = 0
    reused: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    passes: dict[str, int] = field(default_factory=dict)


def ordered(plan: Plan) -> list[tuple[Row, Job]]:
    """What a run is to measure, in order: all that tables show, speeds last, as each needs a machine for itself; then
    what rows erred on."""
    targets: list[tuple[Row, Job]] = list(plan.targets())
    return sorted(targets, key=lambda item: (isinstance(item[1], ShowMistakes), isinstance(item[1], MeasureSpeed)))


class Runner:
    """One way through a plan. A job that another process holds is put off; others come first.

    `carrier`: who carries the jobs out; None: this process. debug: the traceback of a job that fails is shown too.
    beside: what goes on meanwhile.
    """

    def __init__(
        self,
        plan: Plan,
        worker: Worker,
        *,
        carrier: Carrier | None = None,
        debug: bool = False,
        beside: Beside | None = None,
    ) -> None:
        self.plan, self.worker, self.debug, self.beside = plan, worker, debug, beside
        self.carrier: Carrier = carrier or Here(worker)
        self.targets = ordered(plan)
        self.outcome = Outcome()
        numbers = [(row, target) for row, target in self.targets if not isinstance(target, ShowMistakes)]
        self._numbers = len(numbers)  # that are left, of all that tables show
        self._cells = Counter(id(row) for row, target in numbers if isinstance(target, Measure))  # that are left
        self._anew: set[int] = set()  # rows of which some were measured
        self._unflushed: set[Path] = set()

    def run(self) -> Outcome:
        """Measure everything that is selected. Ctrl-C leaves the cells that were not measured as interrupted."""
        sweep(self.plan.folder)
        self.worker.store.welcome()
        for row in self.plan.rows:
            if row.selected and row.reason:
                self.outcome.skipped[row.spec.label] = row.reason
                self._write_all(row, "skipped", row.reason)
        self._say_what_is_measured_anew(self.targets)
        schedule = Schedule((target for _, target in self.targets), self._done)
        waiting = dict(enumerate(self.targets))
        bar = tqdm(total=len(waiting), desc="measure", unit="cell", delay=2, leave=False, dynamic_ncols=True)
        with bar:
            if self.beside and not self._numbers:
                self.beside.whole()
            try:
                ready = schedule.next()
                self._take_settled(schedule, waiting, bar)
                if ready is not None:  # a cluster takes seconds to start: not for nothing
                    with self.carrier:
                        self._give(ready)
                        self._go_through(schedule, waiting, bar)
            except KeyboardInterrupt:
                for _, target in waiting.values():
                    if isinstance(target, Measure) and not target.done(self.worker.store):
                        reason = "the run was interrupted; the same command goes on from here"
                        records.write(target.path, records.result(target.about, target.key, "interrupted", reason))
                raise
            finally:
                flush(self._unflushed)
                self.worker.store.flush()
        return self.outcome

    def _go_through(self, schedule: Schedule, waiting: dict[int, tuple[Row, Job]], bar: "tqdm[Any]") -> None:
        busy: list[Ended] = []  # what other processes hold: it is given again after everything else
        while waiting:
            while self.carrier.room > 0 and (ready := schedule.next()) is not None:
                self._give(ready)
            came = self.carrier.wait()
            for ended in came:
                for name, images in ended.passes.items():
                    self.outcome.passes[name] = self.outcome.passes.get(name, 0) + images
                if ended.status == "busy":
                    busy.append(ended)
                    continue
                if ended.status == "failed":
                    self._say_that_it_failed(ended)
                schedule.end(ended)
            self._take_settled(schedule, waiting, bar)
            if busy and not came:  # all that is left
                bar.set_postfix_str(f"waiting for {busy[0].reason}")
                time.sleep(WAIT_SECONDS)
                for ended in busy:
                    schedule.end(ended)
                busy.clear()

    def _give(self, ready: Ready) -> None:
        if self.beside and isinstance(ready.job, MeasureSpeed):
            self.beside.rest()
        self.carrier.give(ready)

    def _take_settled(self, schedule: Schedule, waiting: dict[int, tuple[Row, Job]], bar: "tqdm[Any]") -> None:
        settled = list(schedule.settled())
        for number, how in settled:
            row, target = waiting.pop(number)
            self._settle(row, target, how)
            self._tell_beside(row, target, how, bar)
        bar.set_postfix_str(self._doing(waiting), refresh=False)
        bar.update(len(settled))

    def _tell_beside(self, row: Row, target: Job, how: Ended | None, bar: "tqdm[Any]") -> None:
        """A target is settled: whether its row is measured now, and all that tables show."""
        if isinstance(target, ShowMistakes):
            return
        if isinstance(target, Measure):
            self._cells[id(row)] -= 1
            self._anew |= {id(row)} if how and how.status == "done" else set()
            if self.beside and not self._cells[id(row)] and id(row) in self._anew:
                self.beside.measured(row)
        self._numbers -= 1
        if self.beside and not self._numbers:
            bar.clear()
            self.beside.whole()

    def _doing(self, waiting: dict[int, tuple[Row, Job]]) -> str:
        return self.carrier.doing() or next((row.spec.label for row, _ in waiting.values()), "")

    def _done(self, job: Job) -> bool:
        if job.done(self.worker.store):
            return True
        if why := job.fault():
            self.worker.say(f"note: {why}")
        return False

    def _settle(self, row: Row, target: Job, how: Ended | None) -> None:
        """A target has come to its end. `how`: None where it was done before."""
        if how is None:
            self.outcome.reused += isinstance(target, Measure | Calibrate)
        elif how.status == "done":
            if isinstance(target, Measure | Calibrate):
                self.outcome.measured += 1
                self._unflushed.update(target.files)
        else:
            rows = self.outcome.skipped if how.status == "skipped" else self.outcome.failed
            rows.setdefault(row.spec.label, f"{how.reason} (log: {how.log})" if how.log else how.reason)
            if isinstance(target, Measure):
                records.write(target.path, records.result(target.about, target.key, how.status, how.reason))

    def _say_that_it_failed(self, ended: Ended) -> None:
        self.worker.say(f"failed: {ended.reason}")
        if self.debug and ended.trace:
            self.worker.say(ended.trace)

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

    def _write_all(self, row: Row, status: str, reason: str) -> None:
        """The record of every selected cell of a row that has no jobs; what was measured before stays."""
        for column in self.plan.columns:
            path = names.path_of(self.plan.folder, row.spec.label, column.name, row.about["seed"])
            before = records.read(path)
            if column.selected and (before is None or before["status"] != "done"):
                about = {**row.about, "ood": column.about}
                records.write(path, records.result(about, "", status, reason))
