"""What a run would take: images, bytes, seconds a job, and hours on so many workers, by the schedule that it follows.

Seconds come from this machine's records, else from 64 images, else they are said to be unknown. The sums hold for as
many machines like this one as there are workers: nothing waits for a disk or for the network.
"""

import heapq
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmark.jobs import depending
from benchmark.jobs.base import Job
from benchmark.jobs.encoding import Encode, along
from benchmark.jobs.fitting import FitMethod, SumShard
from benchmark.jobs.inputs import EncoderUse, Selection
from benchmark.jobs.measuring import Measure
from benchmark.jobs.scoring import Score
from benchmark.jobs.timing import MeasureSpeed
from benchmark.jobs.worker import Worker
from benchmark.planning.plan import Plan
from benchmark.records import costs, records
from benchmark.records.names import folder_parts
from benchmark.running.base import Ended
from benchmark.running.runner import ordered
from benchmark.running.schedule import Schedule
from benchmark.shown import human_size
from datasets.loading import batches
from methods.base import CannotRun

WORKERS = (1, 2, 8, 64)
IMAGES = 64
SECONDS, LAPS = 1.0, 3  # of a timing: it is repeated while it is shorter, and the fastest counts
ROW_BYTES = 16  # an image's label and index


@dataclass(frozen=True)
class Estimate:
    """What is to do: `missing`. `seconds` of each by its key, None: unknown; `bytes` the same, of features and fits."""

    jobs: tuple[Job, ...]  # of the whole plan
    done: frozenset[str]
    missing: tuple[Job, ...]  # what is not done, and is needed
    seconds: Mapping[str, float | None]
    bytes: Mapping[str, int | None]
    measured: tuple[str, ...]  # encoders that were timed here, on 64 images


def describe(plan: Plan, worker: Worker) -> str:
    """The jobs as text: kind, key, whether it is done or how long it takes, what it is; then what all of it takes."""
    found = estimate(plan, worker)
    states = {job.key: "to do" for job in found.missing} | dict.fromkeys(found.done, "done")
    lines = [
        f"{job.kind:8} {job.key[:12]}  {states.get(job.key, '-'):6} {_short(found.seconds.get(job.key)):>8} {job.title}"
        for job in found.jobs
    ]
    lines += [f"skipped  {row.spec.label}: {row.reason}" for row in plan.rows if row.selected and row.reason]
    lines += [f"absent   {title}: {how}" for title, how in plan.absent]
    lines += [f"broken   {title}: {why}" for title, why in plan.broken]
    lines += _summed(plan, found)
    lines.append(f"{len(found.jobs)} jobs, {len(found.done)} done; results in {plan.folder}")
    return "\n".join(lines)


def estimate(plan: Plan, worker: Worker) -> Estimate:
    jobs = plan.jobs()
    done = frozenset(job.key for job in jobs if job.done(worker.store))
    found = [record for folder in _folders(plan.folder) for record in records.load(folder)[0]]
    clock = _Clock(worker, costs.costs(found, costs.of_machine(worker.device)))
    needed: dict[str, float] = {}
    wall(
        (target for _, target in plan.targets()),
        lambda job: job.key in done,
        lambda job: needed.setdefault(job.key, 0),
        1,
    )
    missing = tuple(job for job in jobs if job.key in needed)
    seconds = {job.key: clock.seconds(job) for job in missing}
    sizes = {job.key: clock.bytes(job) for job in missing}
    return Estimate(tuple(jobs), done, missing, seconds, sizes, tuple(clock.measured))


def wall(targets: Iterable[Job], done: Callable[[Job], bool], seconds: Callable[[Job], float], workers: int) -> float:
    """The seconds until the last job ends: each worker takes the schedule's next job as soon as it has none."""
    schedule = Schedule(targets, done)
    busy: list[tuple[float, int, str]] = []
    now, given = 0.0, 0
    while True:
        while len(busy) < workers and (ready := schedule.next()) is not None:
            given += 1
            heapq.heappush(busy, (now + seconds(ready.job), given, ready.job.key))
        if not busy:
            return now
        now, _, key = heapq.heappop(busy)
        schedule.end(Ended(key, "done"))
        for _ in schedule.settled():
            pass


class _Clock:
    """Seconds and bytes of jobs. `measured`: the encoders that it had to time."""

    def __init__(self, worker: Worker, known: costs.Costs) -> None:
        self._worker, self._known = worker, known
        self._timed: dict[str, tuple[float, float] | None] = {}  # an encoder takes as long with every seed
        self.measured: dict[str, None] = {}

    def seconds(self, job: Job) -> float | None:
        if isinstance(job, Encode):
            if job.shards:
                return 0.0
            each = self._known.encode.get(costs.network(depending.of_encoder(job.use)))
            return _times(len(job.images.rows), each if each is not None else self._time(job)[0])
        if isinstance(job, FitMethod):
            return 0.0 if job.shards else _times(job.n, self._known.fit.get(self._row(job)))
        if isinstance(job, SumShard):
            return _times(job.span[1] - job.span[0], self._known.fit.get(self._row(job.fit)))
        if isinstance(job, Score):
            return _times(len(job.images[-1].images.rows), self._known.score.get(self._row(job)))
        if isinstance(job, Measure):
            return self._known.measure
        return self._known.timing if isinstance(job, MeasureSpeed) else None

    def bytes(self, job: Job) -> int | None:
        if isinstance(job, Encode):
            if job.shards:
                return 0
            each = self._known.features.get(costs.network(depending.of_encoder(job.use)))
            size = _times(len(job.images.rows), each if each is not None else self._time(job)[1])
            return None if size is None else round(size)
        if isinstance(job, FitMethod):
            return self._known.fitted.get((self._row(job), len(job.train[-1].images.rows)))
        return 0

    def _row(self, job: FitMethod | Score) -> str:
        use = (job.train if isinstance(job, FitMethod) else job.images)[-1].use
        return costs.row(job.method, job.settings, depending.of_encoder(use))

    def _time(self, job: Encode) -> tuple[float, float] | tuple[None, None]:
        """Seconds and bytes an image of a pass, on the first images of its set; None where it cannot be had here."""
        trained_here = any(link.trained_here for below in job.use.chain for link in below.made_of)
        if job.use.name not in self._timed and not trained_here:
            self._timed |= dict.fromkeys(link.name for link in job.use.chain)
            try:
                timed = _timed(self._worker, job.use, job.images)
                self._timed |= {link.name: found for link, found in timed.items()}
            except (CannotRun, ValueError, RuntimeError, OSError) as error:
                self._worker.say(f"note: {job.use.name} cannot be timed: {' '.join(str(error).split())[:200]}")
        if (found := self._timed.get(job.use.name)) is None:
            return None, None
        self.measured[job.use.name] = None
        return found


def _timed(worker: Worker, use: EncoderUse, images: Selection) -> dict[EncoderUse, tuple[float, float]]:
    """Seconds and bytes an image of every pass that an encoder stands on, from stored bytes to features."""
    if images.images.features is not None:
        return {}
    _lap(worker, use, images, 2)  # opens the networks, and warms up
    laps = [_lap(worker, use, images, IMAGES)]
    while sum(seconds for lap in laps for seconds, _ in lap.values()) < SECONDS and len(laps) < LAPS:
        laps.append(_lap(worker, use, images, IMAGES))
    count = min(IMAGES, len(images.rows))
    fastest = min(laps, key=lambda lap: sum(seconds for seconds, _ in lap.values()))
    return {link: (seconds / count, size / count + ROW_BYTES) for link, (seconds, size) in fastest.items()}


def _lap(worker: Worker, use: EncoderUse, images: Selection, count: int) -> dict[EncoderUse, tuple[float, int]]:
    """Seconds and bytes of the first images in each pass, one after the other."""
    taken, sizes = dict.fromkeys(use.chain, 0.0), dict.fromkeys(use.chain, 0)
    started = time.perf_counter()
    size = worker.batch_size_of(use.chain[0])
    for batch in batches(images.images, images.rows[:count], size, shrink=use.shrink):
        for link, features in along(worker, use, batch.images):
            sizes[link] += sum(values.cpu().nbytes for values in features.values())
            now = time.perf_counter()
            taken[link] += now - started
            started = now
    return {link: (taken[link], sizes[link]) for link in use.chain}


def _folders(folder: Path) -> list[Path]:
    """The results of the same suite, whole and with flags."""
    suite, _ = folder_parts(folder)
    return sorted(path for path in folder.parent.glob(f"{suite}*") if folder_parts(path)[0] == suite)


def _summed(plan: Plan, found: Estimate) -> Iterator[str]:
    missing = found.missing
    if not missing:
        return
    passes = [job for job in missing if isinstance(job, Encode) and not job.shards]
    images: Counter[str] = Counter()
    for job in passes:
        images[job.use.name] += len(job.images.rows)
    if passes:
        each = ", ".join(f"{name} {count:,}" for name, count in images.items())
        yield f"to encode: {sum(images.values()):,} images in {len(passes)} jobs ({each})"
    fits = [job for job in missing if isinstance(job, FitMethod)]
    for what, of in (("features", passes), ("fits", fits)):
        if of:
            yield f"on the disk: {what} {_size([found.bytes[job.key] for job in of])}"
    if found.measured:
        yield f"timed here, on {IMAGES} images: {', '.join(found.measured)}; other seconds are those of records"
    unknown = Counter(job.title.split()[0] for job in missing if found.seconds[job.key] is None)
    if unknown:
        kinds = ", ".join(f"{count} x {name}" for name, count in unknown.items())
        yield f"unknown, and in no sum: the seconds of {kinds}"
    if len(missing) > sum(unknown.values()):
        times = [
            wall(
                (target for _, target in ordered(plan)),
                lambda job: job.key in found.done,
                lambda job: found.seconds[job.key] or 0.0,
                workers,
            )
            for workers in WORKERS
        ]
        yield "at least, on so many workers: " + ", ".join(
            f"{workers}: {_short(seconds)}" for workers, seconds in zip(WORKERS, times, strict=True)
        )


def _times(count: int, each: float | None) -> float | None:
    return None if each is None else count * each


def _size(sizes: list[int | None]) -> str:
    known = [size for size in sizes if size is not None]
    unknown = len(sizes) - len(known)
    more = f", and {unknown} of which nothing is known" if known and unknown else ""
    return (human_size(sum(known)) if known else "unknown") + more


def _short(seconds: float | None) -> str:
    if seconds is None:
        return ""
    if seconds < 100:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:,.1f} h"
