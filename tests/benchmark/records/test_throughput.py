import itertools
from dataclasses import asdict

import pytest
import torch

from benchmark.records import throughput
from benchmark.records.throughput import Speed, combine, describe_device, measure


class Clock:
    """A clock that stands still unless work moves it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(throughput, "clock", clock)
    return clock


def working(clock, seconds):
    """Work that takes these seconds, call by call."""
    turns = iter(seconds)

    def work():
        clock.now += next(turns)

    return work


def test_median_and_range_leave_the_warmup_out(clock):
    speed = measure(working(clock, [100, 2, 1, 4, 2, 8]), 64, device="cpu")
    assert speed.seconds == (2, 1, 4, 2, 8)
    assert (speed.images_per_second, speed.low, speed.high) == (32, 8, 64)
    assert (speed.batch, speed.repeats) == (64, 5)


def test_median_of_an_even_number_of_repeats_is_the_mean_of_the_middle_seconds(clock):
    assert measure(working(clock, [1, 3]), 10, device="cpu", repeats=2, warmup=0).images_per_second == 5


def test_work_is_called_once_a_repeat(clock):
    calls = itertools.count()
    measure(lambda: next(calls), 1, device="cpu", repeats=3, warmup=2)
    assert next(calls) == 5


def test_speeds_are_compared_in_turn_after_one_call_each(clock):
    calls = []

    def work(name, seconds):
        timed = working(clock, seconds)
        return lambda: calls.append(name) or timed()

    found = throughput.compared({"a": work("a", [9, 1, 2, 3, 4, 5]), "b": work("b", [9, 2, 2, 2, 8, 8])}, 12)
    assert calls == ["a", "b"] * 6
    assert {name: (speed.images_per_second, speed.batch) for name, speed in found.items()} == {
        "a": (4, 12),
        "b": (6, 12),
    }


def test_a_coarse_clock_does_not_divide_by_zero(clock):
    assert measure(lambda: None, 1, device="cpu").images_per_second > 0


def test_the_real_clock_counts_seconds():
    import time

    speed = measure(lambda: time.sleep(0.02), 10, device="cpu", repeats=3)
    assert 10 / 0.5 < speed.images_per_second <= 10 / 0.02


def test_cuda_is_synchronised_before_and_after_every_repeat(monkeypatch, clock):
    pending = 0.0

    def launch():  # an asynchronous call: the clock moves only when someone waits
        nonlocal pending
        pending += 3.0

    def synchronize(device):
        nonlocal pending
        assert device == "cuda:1"
        clock.now += pending
        pending = 0.0

    monkeypatch.setattr(torch.cuda, "synchronize", synchronize)
    speed = measure(launch, 6, device="cuda:1", repeats=4, warmup=2)
    assert speed.seconds == (3.0,) * 4  # the six seconds of warm-up were waited for before the first repeat


@pytest.mark.parametrize("bad", [{"images": 0}, {"repeats": 0}, {"warmup": -1}])
def test_bad_numbers(bad):
    with pytest.raises(ValueError, match="images >= 1, repeats >= 1, warmup >= 0"):
        measure(lambda: None, **{"images": 1, "device": "cpu"} | bad)


def test_combine_adds_repeat_by_repeat():
    both = combine(Speed.of(12, (1.0, 2.0, 3.0)), Speed.of(12, (5.0, 1.0, 1.0)))
    assert both == Speed.of(12, (6.0, 3.0, 4.0))
    assert both.images_per_second == 3  # the median of the sums, not of the parts: 12 / (2 + 1) would be 4


@pytest.mark.parametrize(
    "speeds", [(), (Speed.of(1, (1.0,)), Speed.of(2, (1.0,))), (Speed.of(1, (1.0,)), Speed.of(1, (1.0, 1.0)))]
)
def test_combine_refuses_what_was_not_timed_alike(speeds):
    with pytest.raises(ValueError, match="one batch"):
        combine(*speeds)


def test_a_record_holds_its_fields():
    assert asdict(Speed.of(64, [2.0, 1.0, 4.0])) == {
        "images_per_second": 32.0,
        "low": 16.0,
        "high": 64.0,
        "batch": 64,
        "repeats": 3,
        "seconds": (2.0, 1.0, 4.0),
    }


def test_device_names(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(throughput, "processor", lambda: "Some CPU @ 3 GHz")
    assert describe_device("cpu") == "Some CPU @ 3 GHz, 2 threads"
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert describe_device("cpu") == "Some CPU @ 3 GHz, 1 thread"
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU of {device}")
    assert describe_device("cuda:1") == "GPU of cuda:1"


def test_the_processor_here_has_a_name():
    assert throughput.processor().strip()
