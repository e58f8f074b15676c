"""What a worker proves before its first job; files that are finished but not seen yet; where a job is placed."""

import errno
import fcntl
import os
import pickle
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmark.jobs.base import Job
from benchmark.jobs.worker import Worker
from benchmark.running import capacity, checking, packing, remote, sharing
from benchmark.running.base import Ended, Ready
from benchmark.running.capacity import Node
from benchmark.running.cluster import Cluster
from benchmark.running.dying import Try
from benchmark.running.resources import Needs
from benchmark.running.session import ClusterError
from benchmark.running.where import Place
from benchmark.store import locks
from benchmark.store.entries import Store

pytest.importorskip("ray")
GIB = 1 << 30


def run(folder, **changes):
    tokens = tuple(folder / name / "token" for name in ("cluster", "records"))
    same = {"source": remote.source(), "versions": remote.versions()}
    return remote.Run((), folder, tokens, "cpu", None, {}, 1, **{**same, **changes})


def test_a_worker_that_is_not_like_the_driver_says_so_in_one_line(tmp_path):
    one = run(tmp_path)
    for token, flag in zip(one.tokens, ("the store .*--cache", "the records .*--results"), strict=True):
        with pytest.raises(remote.NotAlike, match=f"does not see {flag}"):
            remote.prove(one, seconds=0)
        token.parent.mkdir()
        token.touch()
    remote.prove(one, seconds=0)
    with pytest.raises(remote.NotAlike, match="has other code"):
        remote.prove(replace(one, source="another"), seconds=0)
    with pytest.raises(remote.NotAlike, match=r"has torch .*, the driver 0\.1: install the same"):
        remote.prove(replace(one, versions={**remote.versions(), "torch": "0.1"}), seconds=0)
    with pytest.raises(remote.NotAlike, match="does not see /no/data: all machines must share it"):
        remote.prove(replace(one, folders=(Path("/no/data"),)), seconds=0)
    plugin = tmp_path / "plugin.py"
    plugin.write_text("pass")
    with pytest.raises(remote.NotAlike, match="has other code"):  # the source is that without a plugin
        remote.prove(replace(one, plugins=(plugin,)), seconds=0)


def test_tokens_are_there_for_the_time_of_a_run_and_those_of_the_dead_go(tmp_path):
    mine, dead = tmp_path / ".mine.tmp", tmp_path / ".dead.tmp"
    dead.touch()
    with sharing.tokens((mine,), lambda line: None):
        assert mine.is_file()
        assert not dead.exists()
        with sharing.tokens((tmp_path / ".other.tmp",), lambda line: None):
            assert mine.is_file()  # its run lives
    assert not list(tmp_path.iterdir())


def test_a_filesystem_without_locks_is_named_and_the_schedulers_word_is_taken(tmp_path, monkeypatch):
    def no_locks(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    said = []
    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", no_locks)
        with sharing.tokens((tmp_path / ".mine.tmp",), said.append):
            pass
        with Store(tmp_path).lock("a" * 64):
            assert Store(tmp_path).owner("a" * 64).pid == os.getpid()
    assert len(said) == 1
    assert said[0].endswith("which has no locks: start no second run")
    lock = tmp_path / "lock"
    with locks.held(lock), pytest.raises(locks.Busy, match=str(os.getpid())), locks.held(lock):
        pass


def test_files_of_the_code_are_found_again_in_the_code_of_the_worker(tmp_path, monkeypatch):
    shipped, data = remote.ROOT / "benchmark" / "suites" / "digits.yaml", remote.ROOT / "data" / "set"
    content = packing.packed(run(tmp_path, folders=(shipped, data, tmp_path)))
    monkeypatch.setattr(remote, "ROOT", Path("/elsewhere"))
    assert packing.unpacked(content).folders == (Path("/elsewhere/benchmark/suites/digits.yaml"), data, tmp_path)
    assert pickle.loads(content).store == tmp_path


@dataclass(frozen=True, eq=False)
class Step(Job):
    """A job of this test, which is done where a file says so."""

    kind = "fit"
    folder: Path
    key: str = "k" * 64
    title: str = "fit it"
    needs: tuple = ()
    seen: list = field(default_factory=list)

    def done(self, store):
        return (self.folder / "done").exists()

    def run(self, worker):
        (self.folder / "done").touch()


class FakeRay:
    """Ray, as far as what comes back goes."""

    def __init__(self):
        self.submitted, self.answers = [], {}

    def wait(self, references, num_returns, timeout):
        ready = [reference for reference in references if reference in self.answers]
        return ready[:num_returns], []

    def get(self, reference):
        answer = self.answers.pop(reference)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def cancel(self, reference, force):
        self.submitted.append((reference, "cancelled"))

    def options(self, **options):
        self.submitted.append(options)
        return self

    def remote(self, *_):
        return len(self.submitted)


NODES = Node("a", "alpha", 4, 0, 8 * GIB), Node("b", "beta", 2, 0, 2 * GIB)


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """A Cluster whose Ray is that above."""
    said = []
    worker = Worker(Store(tmp_path / "cache"), device="cpu")
    worker.say = said.append
    found = Cluster(Place(None, 1), worker, (), tmp_path / "records")
    found._ray = found._work = FakeRay()
    found._boxed, found._window = [], 8
    found._see(NODES)
    found.said = said
    monkeypatch.setattr(capacity, "alive", lambda ray: NODES)
    return found


def ended(step, **how):
    return "a", Ended(step.key, **{"status": "done", **how})


def test_a_finished_job_is_waited_for_while_others_go_on_then_the_filesystem_is_named(cluster, tmp_path, monkeypatch):
    late, never = Step(tmp_path / "late", "a" * 64), Step(tmp_path / "never", "b" * 64, "fit that")
    for step in (late, never):
        cluster.give(Ready(step, (0,)))
    cluster._ray.answers = {1: ended(late, passes={"net": 3}), 2: ended(never, log="its.log")}
    began = time.monotonic()
    assert cluster.wait() == []
    assert time.monotonic() - began < 1
    late.folder.mkdir()
    late.run(None)
    assert [each.key for each in cluster.wait()] == [late.key]
    monkeypatch.setattr(time, "monotonic", lambda: began + 61)
    (failed,) = cluster.wait()
    assert failed.status == "failed"
    kind = sharing.filesystem(tmp_path)
    assert failed.reason.startswith("fit that is finished, but after 60 s its files are not seen on ")
    assert f" lies on {kind}: all machines must see the same files" in failed.reason or "unknown" in failed.reason
    assert cluster.wait() == []


def test_a_node_without_space_takes_no_more_jobs_and_the_last_one_ends_the_run(cluster, tmp_path):
    step = Step(tmp_path)
    cluster.give(Ready(step, (0,)))
    cluster._ray.answers = {1: ended(step, status="failed", reason="full", full=True)}
    assert cluster.wait() == []
    assert cluster._ray.submitted[-1]["label_selector"] == {"ray.io/node-id": "!in(a)"}
    assert cluster.said == ["note: no space left on alpha: it takes no more jobs; fit it again"]
    cluster._ray.answers = {2: ("b", Ended(step.key, "failed", "full", full=True))}
    with pytest.raises(Exception, match="no space left while doing: fit it; free some, or choose another"):
        cluster.wait()


def test_what_only_the_lost_node_could_take_fails_and_does_not_wait(cluster, tmp_path, monkeypatch):
    step = Step(tmp_path)
    cluster._submit(Try(Ready(step, (0,)), Needs(1, 0, 4 * GIB)))
    monkeypatch.setattr(capacity, "alive", lambda ray: NODES[1:])
    cluster._look()
    (failed,) = cluster.wait()
    assert failed.reason == "fit it: it takes 4.0 GiB, no node has more than 2.0 GiB"
    assert cluster._ray.submitted[-1] == (1, "cancelled")


def test_rays_words_are_one_line(cluster, tmp_path):
    from ray import exceptions

    step = Step(tmp_path)
    cluster.give(Ready(step, (0,)))
    cluster._ray.answers = {1: exceptions.RuntimeEnvSetupError("cannot\n  unpack\n")}
    (failed,) = cluster.wait()
    assert failed.status == "failed"
    assert "\n" not in failed.reason
    assert "cannot unpack" in failed.reason


def test_memory_that_ran_out_is_doubled_then_a_whole_node_is_taken(cluster, tmp_path):
    from ray import exceptions

    step = Step(tmp_path)
    cluster._submit(Try(Ready(step, (0,)), Needs(1, 0, GIB)))
    for number in (1, 2):
        cluster._ray.answers = {number: exceptions.OutOfMemoryError("Task was killed\ndue to the node running low")}
        assert cluster.wait() == []
    assert [options["memory"] // GIB for options in cluster._ray.submitted] == [1, 2, 8]
    assert cluster.said == ["note: fit it: its worker ran out of memory; it is submitted again"] * 2
    cluster._ray.answers = {3: exceptions.OutOfMemoryError("again")}
    (failed,) = cluster.wait()
    assert failed.reason == "fit it: out of memory, with 8.0 GiB declared, which is all that a node has"


def test_a_job_may_lose_its_worker_once_and_its_node_four_times(tmp_path):
    attempt = Try(Ready(Step(tmp_path), (0,)), Needs(1, 0, GIB))
    assert attempt.again("worker", 8 * GIB).needs.memory == 2 * GIB
    assert attempt.again("worker", GIB).needs.memory == GIB
    assert attempt.again("worker", 8 * GIB).again("worker", 8 * GIB) == "its worker died twice"
    for _ in range(4):
        attempt = attempt.again("node", 8 * GIB)
    assert attempt.needs == Needs(1, 0, GIB)
    assert attempt.again("node", 8 * GIB) == "it lost 5 nodes"


def test_what_no_node_can_give_is_said_in_a_few_words():
    assert capacity.lacks(Needs(2, 0, 2 * GIB), NODES) == ""
    assert capacity.lacks(Needs(8, 0, GIB), NODES) == (
        "it takes 8 cores, the largest node has 4; set OMP_NUM_THREADS=4"
    )
    assert capacity.lacks(Needs(1, 1.0, GIB), NODES) == "it takes a GPU, no node has one: --device cpu"
    assert capacity.lacks(Needs(1, 0, 9 * GIB), NODES) == "it takes 9.0 GiB, no node has more than 8.0 GiB"
    gpu = Node("c", "gamma", 1, 1, GIB)
    assert capacity.lacks(Needs(4, 1.0, GIB), (*NODES, gpu)) == (
        "it takes 4 cores, 1 GPUs and 1.0 GiB; no node has all of it"
    )
    assert capacity.lacks(Needs(1, 0, GIB), ()) == "no node of the cluster is left"


def test_the_display_says_who_does_what(cluster, tmp_path, monkeypatch):
    step = Step(tmp_path)
    cluster.give(Ready(step, (0,)))
    assert cluster.doing() == "0 jobs, 0 images, 0/s"
    assert cluster.doing() is cluster.doing()  # it is looked up once a second
    monkeypatch.setattr(time, "monotonic", lambda began=cluster._began: began + 10)
    cluster._ray.answers = {1: ended(step, passes={"net": 30, "pixels": 20})}
    step.run(None)
    cluster.wait()
    cluster.give(Ready(step, (0,)))
    with cluster._worker.store.lock(step.key):
        assert cluster.doing() == f"1 jobs, 50 images, 5/s; {os.uname().nodename}:{os.getpid()} fit it"


def test_a_worker_uses_the_gpu_that_it_is_lent(tmp_path, monkeypatch):
    assert remote.gpu([], None) is None
    assert remote.gpu([3], None) == "cuda:3"
    assert remote.gpu(["5"], "4,5") == "cuda:1"
    used = []
    monkeypatch.setattr(remote.torch.cuda, "set_device", used.append)
    monkeypatch.setattr(remote, "_opened", {})
    monkeypatch.setattr(remote, "Worker", lambda store, **how: SimpleNamespace(**how))
    one = replace(run(tmp_path), device="cuda")
    remote._opened[one.tokens] = one, remote._worker(one, "cuda:0")
    first = remote._opened[one.tokens][1]
    assert remote.begin(one.tokens, None, "cuda:0")[1] is first
    assert remote.begin(one.tokens, None, None)[1] is first  # a job that computes on none
    assert remote.begin(one.tokens, None, "cuda:1")[1].device == "cuda:1"
    assert used == ["cuda:0", "cuda:1"]


class Answers:
    """A Ray whose workers answer the proof at once, each with what is given for its node."""

    def __init__(self, **of_nodes):
        self.of_nodes = of_nodes

    def remote(self, **_):
        return lambda proof: self

    def options(self, scheduling_strategy):
        return SimpleNamespace(remote=lambda *_: self.of_nodes[scheduling_strategy.node_id[:1]])

    def wait(self, asked, num_returns, timeout):
        return asked, []

    def get(self, answer):
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_a_node_that_is_lost_before_it_has_proved_itself_takes_no_job_and_ends_no_run():
    exceptions = pytest.importorskip("ray.exceptions")
    lost, gone = exceptions.NodeDiedError("died"), exceptions.TaskUnschedulableError("is not there")
    least = Needs(1, 0.0, 1)

    def check(**of_nodes):
        nodes = [replace(node, key=node.key * 56) for node in NODES]  # as long as Ray's are
        checking.check(Answers(**of_nodes), nodes, least, (), [])

    check(a=lost, b="")
    check(a="", b=gone)
    with pytest.raises(ClusterError, match="every node was lost before the first job"):
        check(a=lost, b=gone)
    with pytest.raises(ClusterError, match="has other code"):
        check(a=lost, b="beta has other code")
    with pytest.raises(ClusterError, match="a worker does not start"):
        check(a=exceptions.WorkerCrashedError(), b="")
