"""Carries jobs out on a Ray cluster: keys go out, files come back. Ray places the jobs; its own retries are off."""

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch

import methods
from benchmark.jobs.base import Job
from benchmark.jobs.worker import Worker
from benchmark.planning.suite import UsageError
from benchmark.running import remote, resources
from benchmark.running.base import Ended, Ready
from benchmark.running.resources import Needs
from benchmark.store.files import clear, write_atomically

A_WORKER = 4  # jobs submitted for each worker: it never waits for the driver, and the driver holds few
EXCLUDED = ("results", "data", "weights", ".git", ".cache", "**/__pycache__", "*.safetensors.tmp")


class ClusterError(Exception):
    """The cluster cannot carry this run out; one line says why."""


@dataclass(frozen=True)
class Place:
    """Where a run goes. `workers`: of this machine; None: the cluster that runs here. `threads`: of each job."""

    workers: int | None
    threads: int


def place(text: str, device: str) -> Place:
    """What `--cluster` means. UsageError for another value, or where Ray is not installed."""
    found = re.fullmatch(r"auto|local(?::([1-9][0-9]{0,5}))?", text)
    if found is None:
        raise UsageError(f"--cluster {text[:40]}: valid are local, local:N (N workers, at least 1) and auto")
    if find_spec("ray") is None:
        raise UsageError("--cluster needs Ray: pip install 'ood-benchmark[cluster]'")
    if device.startswith("cuda:"):
        raise UsageError(f"--cluster with --device {device}: Ray chooses each job's GPU; use --device cuda")
    if text == "auto":
        return Place(None, resources.threads(None))
    most = torch.cuda.device_count() if device == "cuda" else max(1, (os.cpu_count() or 1) // resources.threads(None))
    workers = int(found[1] or most)
    return Place(min(workers, most) if device == "cuda" else workers, resources.threads(workers))


class Cluster:
    """A Ray cluster as a way to carry jobs out, for the time of one run."""

    def __init__(
        self,
        where: Place,
        worker: Worker,
        targets: tuple[Job, ...],
        plugins: tuple[Path, ...] = (),
        argv: tuple[str, ...] = (),
    ) -> None:
        self._where, self._worker = where, worker
        self._run = remote.Run(
            targets,
            worker.store.root,
            uuid.uuid4().hex,
            worker.device,
            worker.batch_size,
            worker.engines,
            where.threads,
            remote.source(),
            remote.versions(),
            argv,
        )
        self._plugins = plugins
        self._ray: Any = None  # once it is started
        self._folder: Path | None = None
        self._given: dict[Any, Ready] = {}
        self._refused: list[Ended] = []
        self._deaths: dict[str, int] = {}  # of workers, by the job that they were at
        self._window = 1
        self._images = 0

    def __enter__(self) -> Self:
        write_atomically(remote.token_path(self._run.store, self._run.token), "", within=self._run.store)
        try:
            self._start()
            self._check()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._stop()

    def _start(self) -> None:
        for name, value in {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}.items():
            os.environ.setdefault(name, value)
        if self._where.workers is not None:
            os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # so that it listens on the loopback alone
        import ray

        # what Ray says of workers that die goes to stdout, where the table belongs; we say it ourselves
        ray._private.worker.print_to_stdstream = lambda *_, **__: None
        environment: dict[str, Any] = {"env_vars": {"OMP_NUM_THREADS": str(self._where.threads)}}
        if self._where.workers is None:
            environment |= {"working_dir": str(remote.ROOT), "excludes": list(EXCLUDED)}
        else:
            environment["env_vars"]["PYTHONPATH"] = os.pathsep.join(
                [str(remote.ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
            )
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "runtime_env": environment}
        try:
            if self._where.workers is None:
                ray.init(address="auto", **quiet)
            else:
                self._folder = _own_folder()
                gpus = self._where.workers if self._worker.device == "cuda" else 0
                ray.init(
                    address="local",
                    num_cpus=self._where.workers * self._where.threads,
                    num_gpus=gpus,
                    include_dashboard=False,
                    object_store_memory=256 << 20,  # it holds the plan and nothing else
                    _temp_dir=str(self._folder),
                    **quiet,
                )
        except ConnectionError:
            raise ClusterError(
                "--cluster auto: no cluster runs on this machine: ray start --head, or --cluster local"
            ) from None
        except (OSError, RuntimeError, ValueError) as error:
            raise ClusterError(f"--cluster: Ray does not start: {' '.join(str(error).split())[:200]}") from None
        self._ray = ray
        # in a list, so that a worker fetches it once and not with every job
        self._boxed = [ray.put(self._run), *self._plugins]
        self._work = ray.remote(max_retries=0)(_work)

    def _check(self) -> None:
        """What can never be had, and what a worker on any node would do otherwise, is told before the first job."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        nodes = [node for node in self._ray.nodes() if node["Alive"]]
        have = [node["Resources"] for node in nodes]
        self._cores = int(max(each.get("CPU", 0) for each in have))
        self._memory = int(max(each.get("memory", 0) for each in have))
        if self._cores < self._where.threads:
            raise ClusterError(
                f"a job takes {self._where.threads} cores (OMP_NUM_THREADS), the largest node has {self._cores}"
            )
        if self._memory < resources.BASE_BYTES:
            least = _size(resources.BASE_BYTES)
            raise ClusterError(f"a job takes {least}, no node has more than {_size(self._memory)}")
        if self._worker.device == "cuda" and not any(each.get("GPU", 0) >= 1 for each in have):
            raise ClusterError("--device cuda: no node of the cluster has a GPU")
        self._window = A_WORKER * sum(int(each.get("CPU", 0)) // self._where.threads for each in have)
        proof = self._ray.remote(max_retries=0, num_cpus=0)(_proof)
        asked = [
            proof.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote(
                self._run.token, self._boxed
            )
            for node in nodes
        ]
        for why in self._ray.get(asked):
            if why:
                raise ClusterError(why)

    def _stop(self) -> None:
        if self._ray is not None:
            with contextlib.suppress(Exception):
                self._ray.shutdown()
        clear(remote.token_path(self._run.store, self._run.token))
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def room(self) -> int:
        return self._window - len(self._given)

    def give(self, ready: Ready) -> None:
        needs = self._needs(ready.job)
        if needs.memory > self._memory:
            wanted = f"{ready.job.title}: it takes {_size(needs.memory)}, no node has more than {_size(self._memory)}"
            self._refused.append(Ended(ready.job.key, "failed", wanted))
            return
        self._submit(ready, needs)

    def _needs(self, job: Job) -> Needs:
        gpus = 1.0 if self._worker.device == "cuda" else 0.0
        return resources.needs(job, self._worker.store, cpus=self._where.threads, whole=self._cores, gpus=gpus)

    def _submit(self, ready: Ready, needs: Needs) -> None:
        work = self._work.options(num_cpus=needs.cpus, num_gpus=needs.gpus, memory=needs.memory, name=ready.job.title)
        self._given[work.remote(self._run.token, self._boxed, ready.path, ready.job.key)] = ready

    def wait(self) -> list[Ended]:
        ended, self._refused = self._refused, []
        while self._given and not ended:
            came, _ = self._ray.wait(list(self._given), num_returns=1, timeout=1)
            for reference in came:
                ready = self._given.pop(reference)
                if (found := self._came(reference, ready)) is not None:
                    self._images += sum(found.passes.values())
                    ended.append(found)
        return ended

    def _came(self, reference: Any, ready: Ready) -> Ended | None:
        """How a job ended; None where it was submitted again."""
        from ray import exceptions

        try:
            ended: Ended = self._ray.get(reference)
        except exceptions.RayTaskError as error:
            return self._failed(ready, " ".join(str(error.cause or error).split())[:300])
        except exceptions.RayError as error:
            return self._died(ready, memory=isinstance(error, exceptions.OutOfMemoryError))
        if ended.status != "done":
            return ended
        if not remote.appears(lambda: self._seen(ready.job), self._at(ready.job), remote.SEEN_SECONDS):
            kind = _filesystem(self._run.store)
            return self._failed(
                ready,
                f"it is finished, but after {remote.SEEN_SECONDS:.0f} s its files are not seen here; "
                f"{self._run.store} lies on {kind}: all machines must see the same files",
            )
        return ended

    def _died(self, ready: Ready, *, memory: bool) -> Ended | None:
        """Its worker was killed, or crashed: once it is submitted again, where memory was short with twice of it."""
        deaths = self._deaths[ready.job.key] = self._deaths.get(ready.job.key, 0) + 1
        needs = self._needs(ready.job)
        needs = needs.doubled() if memory else needs
        if deaths == 1 and needs.memory <= self._memory:
            self._worker.say(f"note: {ready.job.title}: its worker died; it is submitted again")
            self._submit(ready, needs)
            return None
        short = f"out of memory, with {_size(needs.memory)} declared"
        return self._failed(ready, short if memory else "its worker died twice")

    def _failed(self, ready: Ready, why: str) -> Ended:
        return Ended(ready.job.key, "failed", f"{ready.job.title}: {why}", log=str(self._log_of(ready.job.key)))

    def _log_of(self, key: str) -> Path:
        """The log of the worker that began this job last."""
        folder = self._run.store / "logs"
        logs = sorted(folder.glob("*.log"), key=lambda path: path.stat().st_mtime, reverse=True)
        return next((path for path in logs if f"begin {key}" in path.read_text(errors="replace")), folder)

    def _seen(self, job: Job) -> bool:
        store = self._worker.store
        return job.done(store) if job.kind == "measure" else store.there(job.kind, job.key)

    def _at(self, job: Job) -> Path:
        return self._worker.store.folder(job.kind, job.key).parent

    def doing(self) -> str:
        first = next(iter(self._given.values()), None)
        return "" if first is None else f"{len(self._given)} submitted, {self._images:,} images; {first.job.title}"


def _work(token: str, boxed: list[Any], path: tuple[int, ...], key: str) -> Ended:
    return remote.work(token, _fetch(boxed), path, key)


def _proof(token: str, boxed: list[Any]) -> str:
    """ "" where this worker may take part, else why not."""
    try:
        remote.begin(token, _fetch(boxed))
    except remote.NotAlike as why:
        return str(why)
    return ""


def _fetch(boxed: list[Any]) -> Callable[[], remote.Run]:
    def fetch() -> remote.Run:
        import ray

        for file in boxed[1:]:  # the run holds methods of theirs
            methods.load(file)
        run: remote.Run = ray.get(boxed[0])
        return run

    return fetch


def _own_folder() -> Path:
    """A folder for Ray's sockets, whose paths must be short; those of drivers that were killed go."""
    root = Path("/tmp") if os.access("/tmp", os.W_OK) else Path(tempfile.gettempdir())
    for left in root.glob("ood-ray-*-*"):
        pid = left.name.split("-")[2]
        if pid.isdecimal() and not Path(f"/proc/{pid}").exists() and left.stat().st_uid == os.getuid():
            shutil.rmtree(left, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"ood-ray-{os.getpid()}-", dir=root))


def _filesystem(path: Path) -> str:
    """The kind of filesystem that a folder lies on."""
    done = subprocess.run(["stat", "-f", "-c", "%T", str(path)], capture_output=True, text=True)
    return done.stdout.strip() or "an unknown filesystem"


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"
