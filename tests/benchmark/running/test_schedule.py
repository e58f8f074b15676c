"""Which job comes next: the plan's order, what falls out with a job that stops, what is put off."""

from dataclasses import dataclass

from benchmark.running.base import Ended
from benchmark.running.schedule import Schedule


@dataclass(frozen=True)
class Step:
    key: str
    needs: tuple["Step", ...] = ()


TRAIN, TEST, OOD = Step("train"), Step("test"), Step("ood")
FIT = Step("fit", (TRAIN,))
FIRST = Step("first", (Step("score", (FIT, TEST)), Step("score ood", (FIT, OOD))))
SECOND = Step("second", (Step("plain", (TEST,)), Step("plain ood", (OOD,))))


def all_of(schedule, ends=lambda key: "done"):
    """Keys in the order in which one worker carries them out."""
    order = []
    while (ready := schedule.next()) is not None:
        order.append(ready.job.key)
        schedule.end(Ended(ready.job.key, ends(ready.job.key)))
    return order


def test_one_worker_goes_down_to_what_a_target_needs_before_it_looks_at_the_next():
    order = all_of(Schedule([FIRST, SECOND], lambda job: False))
    assert order == ["train", "fit", "test", "score", "ood", "score ood", "first", "plain", "plain ood", "second"]


def test_what_a_finished_job_needed_is_not_looked_at():
    assert all_of(Schedule([FIRST], lambda job: job.key in ("fit", "score ood"))) == ["test", "score", "first"]
    schedule = Schedule([FIRST], lambda job: job.key == "first")
    assert all_of(schedule) == []
    assert list(schedule.settled()) == [(0, None)]


def test_with_a_job_that_stops_go_those_that_wait_for_it_and_what_these_alone_wanted():
    schedule = Schedule([FIRST, SECOND], lambda job: False)
    assert all_of(schedule, lambda key: "failed" if key == "fit" else "done") == [
        "train",
        "fit",
        "test",
        "plain",
        "ood",
        "plain ood",
        "second",
    ]
    settled = dict(schedule.settled())
    assert (settled[0].key, settled[0].status, settled[1].status) == ("fit", "failed", "done")


def test_what_does_not_wait_for_another_is_ready_at_once():
    schedule = Schedule([FIRST, SECOND], lambda job: False)
    ready = [schedule.next() for _ in range(5)]
    assert [each and each.job.key for each in ready] == ["train", "test", "ood", "plain", "plain ood"][:3] + [None] * 2
    schedule.end(Ended("test", "done"))
    assert schedule.next().job.key == "plain"


def test_a_job_says_by_which_way_it_is_found():
    schedule = Schedule([SECOND, FIRST], lambda job: job.key in ("test", "ood", "second"))
    ready = schedule.next()
    job = [SECOND, FIRST][ready.path[0]]
    for place in ready.path[1:]:
        job = job.needs[place]
    assert job is TRAIN is ready.job


def test_what_another_process_holds_is_given_again():
    schedule = Schedule([SECOND], lambda job: False)
    assert schedule.next().job.key == "test"
    schedule.end(Ended("test", "busy"))
    assert all_of(schedule) == ["test", "plain", "ood", "plain ood", "second"]
