"""Carries jobs out on a Ray cluster: keys go out, files come back. Ray places the jobs; its own retries are off."""

import contextlib
import time
import uuid
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmark.jobs.base import Job
from benchmark.jobs.worker import Worker
from benchmark.running import capacity, checking, packing, remote, resources, sharing, tasks
from benchmark.running.base import DiskFull, Ended, Ready
from benchmark.running.dying import Death, Try
from benchmark.running.session import line, session
from benchmark.running.where import Place

A_WORKER = 4  # jobs submitted for each worker: it never waits for the driver, and the driver holds few
SAY_SECONDS = 1.0  # the display reads small files
LOOK_SECONDS = 10.0  # after so long without news the nodes are looked at


class Cluster:
    """A Ray cluster as a way to carry jobs out, for the time of one run.

    folders: of data and weights, which all machines must see. argv: the command, for records.
    """

    def __init__(
        self,
        where: Place,
        worker: Worker,
        targets: tuple[Job, ...],
        records: Path,
        *,
        folders: tuple[Path, ...] = (),
        plugins: tuple[Path, ...] = (),
        argv: tuple[str, ...] = (),
    ) -> None:
        self._where, self._worker = where, worker
        plugins = tuple(path.resolve() for path in plugins)
        name = f".{uuid.uuid4().hex}.tmp"
        self._run = remote.Run(
            targets,
            worker.store.root,
            (worker.store.root / "cluster" / name, records / name),
            worker.device,
            worker.batch_size,
            worker.engines,
            where.threads,
            remote.source(plugins),
            remote.versions(),
            tuple(path for path in folders if path.exists()),
            plugins,
            argv,
        )
        self._open = contextlib.ExitStack()
        self._given: dict[Any, Try] = {}
        self._unseen: list[tuple[float, Ready, Ended]] = []  # finished, but not seen here; until when it is waited for
        self._ended: list[Ended] = []
        self._full: set[str] = set()  # nodes without space
        self._began = self._looked = time.monotonic()
        self._jobs = self._images = 0
        self._said = (0.0, "")  # by the display, and when

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            stack.enter_context(sharing.tokens(self._run.tokens, self._worker.say))
            gpus = self._worker.device == "cuda"
            self._ray = stack.enter_context(session(self._where, gpus=gpus))
            stack.callback(self._cancel)
            # in a list, so that a worker fetches it once and not with every job
            self._boxed = [self._ray.put(packing.packed(self._run)), *self._run.plugins]
            self._work = self._ray.remote(max_retries=0)(tasks.work)
            self._see(capacity.alive(self._ray))
            self._window = A_WORKER * max(1, sum(node.cpus // self._where.threads for node in self._nodes))
            least = resources.Needs(self._where.threads, float(gpus), resources.BASE_BYTES)
            at_once = min(self._where.workers or 1, len(self._run.targets))  # else the second starts when it is wanted
            checking.check(self._ray, self._nodes, least, self._run.tokens, self._boxed, at_once)
            checking.foresee(self._run.targets, self._worker, self._needs, self._nodes)
            self._open = stack.pop_all()
        self._began = time.monotonic()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._open.close()

    def _cancel(self) -> None:
        """What still runs on a cluster that is not ours goes with us."""
        for reference in self._given:
            with contextlib.suppress(Exception):
                self._ray.cancel(reference, force=True)

    def _see(self, nodes: tuple[capacity.Node, ...]) -> None:
        self._nodes = nodes
        self._cores = max((node.cpus for node in nodes), default=0)

    @property
    def _usable(self) -> tuple[capacity.Node, ...]:
        return tuple(node for node in self._nodes if node.key not in self._full)

    @property
    def room(self) -> int:
        return self._window - len(self._given) - len(self._unseen)

    def give(self, ready: Ready) -> None:
        needs = self._needs(ready.job)
        if why := capacity.lacks(needs, self._usable):
            self._ended.append(self._failed(ready.job, why))
        else:
            self._submit(Try(ready, needs))

    def _needs(self, job: Job) -> resources.Needs:
        gpus = 1.0 if self._worker.device == "cuda" else 0.0
        store, where = self._worker.store, self._where
        return resources.needs(job, store, cpus=where.threads, whole=self._cores, gpus=gpus, share=where.share)

    def _submit(self, attempt: Try) -> None:
        needs, job = attempt.needs, attempt.ready.job
        options: dict[str, Any] = {"num_cpus": needs.cpus, "num_gpus": needs.gpus, "memory": needs.memory}
        if self._full:
            options["label_selector"] = {"ray.io/node-id": f"!in({','.join(sorted(self._full))})"}
        work = self._work.options(name=job.title, **options)
        self._given[work.remote(self._run.tokens, self._boxed, attempt.ready.path, job.key)] = attempt

    def wait(self) -> list[Ended]:
        if self._given and not self._ended:
            came, _ = self._ray.wait(list(self._given), num_returns=len(self._given), timeout=0)
            if not came:
                came, _ = self._ray.wait(list(self._given), num_returns=1, timeout=0.1 if self._unseen else 1)
            for reference in came:
                self._came(reference, self._given.pop(reference))
            if came:
                self._looked = time.monotonic()
            elif time.monotonic() - self._looked > LOOK_SECONDS:
                self._look()
        elif self._unseen and not self._ended:
            time.sleep(0.1)
        self._look_for_files()
        ended, self._ended = self._ended, []
        self._jobs += len(ended)
        self._images += sum(sum(each.passes.values()) for each in ended)
        return ended

    def _came(self, reference: Any, attempt: Try) -> None:
        """A job came back: it ended, it is submitted again, or its files are waited for."""
        from ray import exceptions

        job = attempt.ready.job
        try:
            node, ended = self._ray.get(reference)
        except exceptions.OutOfMemoryError:
            return self._died(attempt, "memory")
        except exceptions.NodeDiedError:
            self._look()
            return self._died(attempt, "node")
        except (exceptions.WorkerCrashedError, exceptions.LocalRayletDiedError):
            return self._died(attempt, "worker")
        except exceptions.RayTaskError as error:
            return self._ended.append(self._failed(job, line(error.cause or error)))
        except exceptions.RayError as error:
            return self._ended.append(self._failed(job, line(error)))
        if ended.full:
            return self._leave_out(node, attempt)
        if ended.status == "done":
            return self._unseen.append((time.monotonic() + sharing.SEEN_SECONDS, attempt.ready, ended))
        return self._ended.append(ended)

    def _look_for_files(self) -> None:
        waiting, self._unseen = self._unseen, []
        for until, ready, ended in waiting:
            if remote.seen(ready.job, self._worker.store):
                self._ended.append(ended)
            elif time.monotonic() < until:
                self._unseen.append((until, ready, ended))
            else:
                self._ended.append(Ended(ended.key, "failed", remote.unseen(ready.job, self._run), log=ended.log))

    def _leave_out(self, key: str, attempt: Try) -> None:
        """A node without space takes no more jobs; DiskFull where all are so, as it would be for all that follows."""
        self._full.add(key)
        job = attempt.ready.job
        hosts = {node.key: node.host for node in self._nodes}
        if capacity.lacks(attempt.needs, self._usable):
            raise DiskFull(job)
        self._worker.say(f"note: no space left on {hosts.get(key, 'a node')}: it takes no more jobs; {job.title} again")
        self._submit(attempt)

    def _died(self, attempt: Try, death: Death) -> None:
        job, most = attempt.ready.job, max((node.memory for node in self._nodes), default=0)
        self._worker.store.forget_owner(job.key)
        again = attempt.again(death, most)
        if isinstance(again, str):
            return self._ended.append(self._failed(job, again))
        if why := capacity.lacks(again.needs, self._usable):
            return self._ended.append(self._failed(job, why))
        what = {"worker": "its worker died", "memory": "its worker ran out of memory", "node": "its node is gone"}
        self._worker.say(f"note: {job.title}: {what[death]}; it is submitted again")
        return self._submit(again)

    def _look(self) -> None:
        """Look at the nodes: what none that is left can take would wait for ever."""
        self._looked = time.monotonic()
        nodes = capacity.alive(self._ray)
        if nodes == self._nodes:
            return
        self._see(nodes)
        for reference, attempt in list(self._given.items()):
            if why := capacity.lacks(attempt.needs, self._usable):
                del self._given[reference]
                with contextlib.suppress(Exception):
                    self._ray.cancel(reference, force=True)
                self._ended.append(self._failed(attempt.ready.job, why))

    def _failed(self, job: Job, why: str) -> Ended:
        return Ended(job.key, "failed", f"{job.title}: {why}", log=str(self._log_of(job.key)))

    def _log_of(self, key: str) -> str:
        """The log of the worker that began this job last; "" where none did."""
        folder = self._run.store / "logs"
        logs = sorted(folder.glob("*.log"), key=lambda path: path.stat().st_mtime, reverse=True)
        return next((str(path) for path in logs if f"begin {key}" in path.read_text(errors="replace")), "")

    def doing(self) -> str:
        """Jobs and images done, images a second, and who does what: those that hold a lock."""
        now = time.monotonic()
        if now - self._said[0] < SAY_SECONDS:
            return self._said[1]
        store, jobs = self._worker.store, [attempt.ready.job for attempt in self._given.values()]
        busy = [(job, store.owner(job.key)) for job in jobs]
        who = [f"{owner.host}:{owner.pid} {job.title}" for job, owner in busy if owner is not None]
        more = [f"and {len(who) - 3} more"] if len(who) > 3 else []
        rate = self._images / max(1.0, now - self._began)
        self._said = now, "; ".join([f"{self._jobs:,} jobs, {self._images:,} images, {rate:,.0f}/s", *who[:3], *more])
        return self._said[1]
