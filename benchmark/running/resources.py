"""What each job needs of a machine, and how many threads it uses."""

import os
from dataclasses import dataclass, replace

import methods
from benchmark.jobs.base import Job
from benchmark.jobs.calibrating import Calibrate
from benchmark.jobs.encoding import Encode, TrainEncoder
from benchmark.jobs.fitting import FitMethod
from benchmark.jobs.measuring import Measure
from benchmark.jobs.mistaking import ShowMistakes
from benchmark.jobs.searching import Search
from benchmark.jobs.timing import MeasureSpeed
from benchmark.store.entries import Store

BASE_BYTES = 512 << 20  # a worker with what it has imported, a network, and a block
FIT_COPIES = 2  # of the training features: as they are read, and what a fit makes of them
_SMALL = Measure, Calibrate, Search, ShowMistakes  # they compute on scores, and pictures, on the CPU


@dataclass(frozen=True)
class Needs:
    """Cores, GPUs (a share of one, where several encoders share it) and bytes of memory."""

    cpus: int
    gpus: float
    memory: int

    def doubled(self) -> "Needs":
        """The same with twice the memory."""
        return replace(self, memory=2 * self.memory)


def threads(workers: int | None) -> int:
    """Threads of each job: OMP_NUM_THREADS where the user set it, else this machine's cores shared among `workers`.

    One for None, where the workers' machines are not known. A serial run with this number gives the same records.
    """
    said = os.environ.get("OMP_NUM_THREADS", "")
    if said.isdecimal() and int(said) > 0:
        return int(said)
    return 1 if workers is None else max(1, (os.cpu_count() or 1) // workers)


def needs(job: Job, store: Store, *, cpus: int, whole: int, gpus: float, share: int = 1) -> Needs:
    """What a job takes once its needs are there.

    cpus: threads a job. whole: the cores of a machine, all of which a measured speed needs. gpus: of a job that
    computes on one. share: how many passes of encoders run on one GPU at once.
    """
    if isinstance(job, _SMALL) or (isinstance(job, Encode) and job.shards):  # the latter only puts these together
        return Needs(cpus, 0, BASE_BYTES)
    if isinstance(job, MeasureSpeed):
        return Needs(whole, float(gpus > 0), BASE_BYTES)
    if isinstance(job, Encode):
        return Needs(cpus, gpus / share, BASE_BYTES)
    if isinstance(job, TrainEncoder) and job.use.train is not None and job.use.base is None:
        return Needs(cpus, gpus, BASE_BYTES + len(job.use.train.rows) * job.use.resolution**2 * 3)
    learned_from = _training_bytes(job, store) if isinstance(job, FitMethod) and not job.shards else 0
    return Needs(cpus, gpus, BASE_BYTES + FIT_COPIES * learned_from)


def _training_bytes(fit: FitMethod, store: Store) -> int:
    """Of the features that a fit reads, as they lie in the store; 0 where they are not there yet."""
    reads = methods.create(fit.method, **fit.settings).reads
    names = {"labels", *reads}
    there = [job for job in fit.train if store.there("encode", job.key)]
    return sum(values.nbytes for job in there for values in store.arrays("encode", job.key, names).values())
