"""Images per second: the one timer, used for every speed that is reported."""

import math
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

REPEATS = 5
SECONDS, BATCHES = 1.0, (4, 256)  # of all repeats together; of one: at least, and at most

clock = time.perf_counter  # a name of this module, so that a test can put another in its place


@dataclass(frozen=True)
class Speed:
    """Images per second of the median, slowest and fastest of `repeats` calls on `batch` images each."""

    images_per_second: float
    low: float
    high: float
    batch: int
    repeats: int
    seconds: tuple[float, ...]

    @classmethod
    def of(cls, batch: int, seconds: Iterable[float]) -> "Speed":
        """From the seconds of every repeat."""
        taken = tuple(seconds)
        median, slowest, fastest = statistics.median(taken), max(taken), min(taken)
        return cls(batch / median, batch / slowest, batch / fastest, batch, len(taken), taken)


def measure(work: Callable[[], object], images: int, *, device: str, repeats: int = REPEATS, warmup: int = 1) -> Speed:
    """Time `work`, which handles `images` images a call, `repeats` times, after `warmup` uncounted calls.

    On a CUDA device the clock is read only when the device has nothing left to do. ValueError for no images
    or repeats.
    """
    if images < 1 or repeats < 1 or warmup < 0:
        raise ValueError(f"a speed needs images >= 1, repeats >= 1, warmup >= 0, not {images}, {repeats}, {warmup}")
    for _ in range(warmup):
        work()
    seconds = []
    for _ in range(repeats):
        _wait(device)
        start = clock()
        work()
        _wait(device)
        seconds.append(max(clock() - start, 1e-9))  # a clock too coarse for the work must not end in 1 / 0
    return Speed.of(images, seconds)


def compared(works: Mapping[str, Callable[[], object]], images: int) -> dict[str, Speed]:
    """The speed of each on the CPU, timed in turn, so that what else the machine does hits all alike."""
    for work in works.values():
        work()
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(REPEATS):
        for name, work in works.items():
            seconds[name] += measure(work, images, device="cpu", repeats=1, warmup=0).seconds
    return {name: Speed.of(images, taken) for name, taken in seconds.items()}


def _wait(device: str) -> None:
    if device.startswith("cuda"):  # kernels run after the call that started them has returned
        torch.cuda.synchronize(device)


def combine(*speeds: Speed) -> Speed:
    """The speed of stages run one after the other on one batch: repeat by repeat, the sum of their seconds.

    Stages of other batches or numbers of repeats: ValueError.
    """
    if len({(speed.batch, speed.repeats) for speed in speeds}) != 1:
        stages = ", ".join(f"{speed.repeats} x {speed.batch} images" for speed in speeds) or "none"
        raise ValueError(f"stages to combine must be timed on one batch and as often as each other, not {stages}")
    return Speed.of(speeds[0].batch, map(sum, zip(*(speed.seconds for speed in speeds), strict=True)))


def batches_a_repeat(once: Speed) -> int:
    """How many batches like `once` a repeat takes on a GPU: four at least, and as many as make all repeats a second."""
    seconds = once.batch / once.images_per_second
    return min(BATCHES[1], max(BATCHES[0], math.ceil(SECONDS / (REPEATS * seconds))))


def overlap(beside: Speed, *stages: Speed) -> Speed:
    """The speed where `beside` goes on while the `stages` follow one another: per image, the slower of the two counts.

    They may be timed on other numbers of images; the batch is the first stage's. Other numbers of repeats: ValueError.
    """
    batch = stages[0].batch
    each = [[batch * seconds / speed.batch for seconds in speed.seconds] for speed in (beside, *stages)]
    return Speed.of(batch, (max(first, sum(rest)) for first, *rest in zip(*each, strict=True)))


def describe_device(device: str) -> str:
    """What a speed was measured on: the GPU's name, or the processor's and the number of threads."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{processor()}, {threads} thread{'s' if threads > 1 else ''}"


def processor() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
