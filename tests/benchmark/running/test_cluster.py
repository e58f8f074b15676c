"""On a cluster as in one process: the same records; what fails, fails alone; who dies takes nothing with it.

A Ray that starts costs seconds, so that each test asks as much of one as it can.
"""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import yaml

import methods
from benchmark import arguments
from benchmark.planning.suite import UsageError
from benchmark.running import cluster, remote
from methods import base
from tests.benchmark.conftest import SUITE, Trial

ROOT = Path(__file__).parents[3]
UNRULY = """
    import os, signal
    from dataclasses import dataclass
    from pathlib import Path
    from methods.base import Method, register

    def die():
        os.kill(os.getpid(), signal.SIGKILL)

    class Unruly(Method):
        title, paper, reads = "Unruly", "none", ("embedding",)

        def fit(self, train, *, seed=0, device="cpu", workdir=None):
            self.misbehave()
            return self

        def score(self, x):
            return x.embedding.sum(dim=1)

        def state(self):
            return {}

        def load_state(self, state, device="cpu"):
            pass

    @register("exits")
    @dataclass
    class Exits(Unruly):
        def misbehave(self):
            raise SystemExit("enough")

    @register("raises")
    @dataclass
    class Raises(Unruly):
        def misbehave(self):
            raise ValueError("no good")

    @register("swells")
    @dataclass
    class Swells(Unruly):
        def misbehave(self):
            raise MemoryError("cannot have it")

    @register("fills")
    @dataclass
    class Fills(Unruly):
        def misbehave(self):
            import errno
            raise OSError(errno.EFBIG, "File too large")

    @register("dies")
    @dataclass
    class Dies(Unruly):
        def misbehave(self):
            die()

    @register("dies_once")
    @dataclass
    class DiesOnce(Unruly):
        def misbehave(self):
            marker = Path(os.environ["DIED"])
            if not marker.exists():
                marker.touch()
                die()
"""


@pytest.fixture
def unruly(tmp_path, monkeypatch):
    """A file of methods that misbehave while they are fitted."""
    methods.names()
    monkeypatch.setattr(base, "_METHODS", dict(base._METHODS))
    monkeypatch.setenv("DIED", str(tmp_path / "died"))
    path = tmp_path / "unruly.py"
    path.write_text(textwrap.dedent(UNRULY))
    before = set(sys.modules)
    yield str(path)
    for module in set(sys.modules) - before:
        if "unruly" in module:
            del sys.modules[module]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    trial = Trial(tmp_path_factory.mktemp("alone"))
    assert trial.run() == 0
    return trial.records()


ORDERLY = ["msp", "knn", "mse", "sim", "lowlevel"]


@pytest.mark.parametrize("on", [(), ("--cluster", "local:2")], ids=["here", "cluster"])
class TestBoth:
    def test_records_are_those_of_a_serial_run_and_what_fails_fails_alone(self, trial, alone, unruly, capfd, on):
        killed = ["dies_once@net", "dies@net"] if on else []
        rows = [*ORDERLY, *killed, "exits@net", "raises@net", "swells@net", "fills@net"]
        assert trial.run("--plugin", unruly, "--methods", *rows, *on) == 1
        records, printed = trial.records(), capfd.readouterr()
        assert {path: record for path, record in records.items() if path in alone} == alone
        reasons = {record["row"]: record["reason"] for path, record in records.items() if path not in alone}
        assert reasons["exits@net"].endswith(": enough (unruly.py, line 32)") or "enough" in reasons["exits@net"]
        assert reasons["raises@net"] == "fit raises on net: no good"
        assert "cannot have it" in reasons["swells@net"]
        assert "File too large" in reasons["fills@net"]
        if on:
            assert reasons["dies_once@net"] == ""
            assert reasons["dies@net"] == "fit dies on net: its worker died twice"
            assert "logs/" in printed.err  # where a failed row's worker says more
        assert not any("\n" in reason for reason in reasons.values())
        assert "Traceback" not in printed.err + printed.out
        assert "raylet" not in printed.err + printed.out
        assert "net: 150 images encoded" in printed.err  # once over all workers
        assert "pixels: 150 images encoded" in printed.err


def test_a_driver_that_dies_takes_all_with_it_and_the_same_command_ends_it(trial, alone):
    command = [sys.executable, str(ROOT / "run_all.py"), *trial.arguments("--cluster", "local:1")]
    driver = subprocess.Popen(command, cwd=trial.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    cache = trial.results / ".cache"
    deadline = time.monotonic() + 120
    while not list(cache.glob("fit/??/*/done.json")):
        assert driver.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    own = [pid for pid, line in processes() if f"ood-ray-{driver.pid}-" in line or parent(pid) == driver.pid]
    workers = [int(path.stem.rpartition("-")[2]) for path in (cache / "logs").glob("*.log")]
    assert own
    assert workers
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    deadline = time.monotonic() + 20
    while any(pid in (*own, *workers) for pid, _ in processes()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert trial.run() == 0
    assert trial.records() == alone


def processes():
    """Each process that is no zombie, with its command line."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            line = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if line:
            yield int(path.name), line


def parent(pid):
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None


@pytest.mark.parametrize("value", ["ray://head:10001", "local:0", "local:", "local:-1", "2", "LOCAL"])
def test_any_other_place_is_status_2_and_one_line(trial, capsys, value):
    assert trial.run("--cluster", value) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: --cluster")
    assert error.count("\n") == 1


def test_without_ray_the_extra_is_named(trial, capsys, monkeypatch):
    monkeypatch.setattr(cluster, "find_spec", lambda name: None)
    assert trial.run("--cluster", "local") == 2
    assert capsys.readouterr().err == "error: --cluster needs Ray: pip install 'ood-benchmark[cluster]'\n"


def test_threads_are_the_users_number_else_the_cores_shared(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert cluster.place("local", "cpu") == cluster.Place(8, 1)
    assert cluster.place("local:2", "cpu") == cluster.Place(2, 4)
    assert cluster.place("auto", "cpu") == cluster.Place(None, 1)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert cluster.place("local", "cpu") == cluster.Place(4, 2)
    assert cluster.place("local:3", "cpu") == cluster.Place(3, 2)
    with pytest.raises(UsageError, match="chooses each job's GPU"):
        cluster.place("local", "cuda:1")


def test_a_worker_that_is_not_like_the_driver_says_so_in_one_line(tmp_path):
    def run(**changes):
        same = {"source": remote.source(), "versions": remote.versions()}
        return remote.Run((), tmp_path, "token", "cpu", None, {}, 1, argv=(), **{**same, **changes})

    with pytest.raises(remote.NotAlike, match=r"does not see the store .*--cache"):
        remote.prove(run(), seconds=0)
    remote.token_path(tmp_path, "token").parent.mkdir()
    remote.token_path(tmp_path, "token").touch()
    remote.prove(run(), seconds=0)
    with pytest.raises(remote.NotAlike, match="has other code"):
        remote.prove(run(source="another"), seconds=0)
    with pytest.raises(remote.NotAlike, match=r"has torch .*, the driver 0\.1: install the same"):
        remote.prove(run(versions={**remote.versions(), "torch": "0.1"}), seconds=0)


def test_the_suite_of_this_test_names_the_rows_that_it_runs():
    assert [row.get("name", row["method"]) for row in yaml.safe_load(yaml.safe_dump(SUITE))["rows"]] == ORDERLY
    assert arguments.parser().parse_args(["--cluster", "local:2"]).cluster == "local:2"
