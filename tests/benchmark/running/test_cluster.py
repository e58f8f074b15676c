"""On a cluster as in one process: the same records; what fails, fails alone; who dies takes nothing with it.

A Ray that starts costs seconds, so that each test asks as much of one as it can.
"""

import os
import signal
import subprocess
import sys
import textwrap
import time
from ipaddress import ip_address
from pathlib import Path
from threading import Thread

import pytest
import yaml

import methods
import run_all
from benchmark import arguments
from methods import base
from tests.benchmark.conftest import SUITE, Trial

ROOT = Path(__file__).parents[3]
UNRULY = """
    import os, signal, time
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

    def first(name, text=""):
        # whether this is the first time that a method of that name is fitted; it leaves a file that says so
        marker = Path(__file__).with_name(name)
        if marker.exists():
            return False
        marker.with_suffix(".new").write_text(text)
        marker.with_suffix(".new").rename(marker)
        return True

    def node():
        import ray
        return ray.get_runtime_context().get_node_id()

    @register("dies_once")
    @dataclass
    class DiesOnce(Unruly):
        def misbehave(self):
            if first("died"):
                die()

    @register("unplugs")
    @dataclass
    class Unplugs(Unruly):
        def misbehave(self):
            if first("unplug", node()):
                time.sleep(600)

    @register("overflows")
    @dataclass
    class Overflows(Unruly):
        def misbehave(self):
            import errno
            first("full", node())
            if Path(__file__).with_name("full").read_text() == node():
                raise OSError(errno.ENOSPC, "No space left on device")
"""


@pytest.fixture
def unruly(tmp_path, monkeypatch):
    """A file of methods that misbehave while they are fitted."""
    methods.names()
    monkeypatch.setattr(base, "_METHODS", dict(base._METHODS))
    path = tmp_path / "unruly.py"
    path.write_text(textwrap.dedent(UNRULY))
    before = set(sys.modules)
    yield str(path)
    for module in set(sys.modules) - before:
        if "unruly" in module:
            del sys.modules[module]


@pytest.fixture(scope="module")
def alone(measured):
    return measured.records()


ORDERLY = ["msp", "knn", "mse", "sim", "lowlevel"]


FAILING = ["exits@net", "raises@net", "swells@net", "fills@net"]


def check_that_what_fails_fails_alone(trial, alone, printed):
    records = trial.records()
    assert {path: record for path, record in records.items() if path in alone} == alone
    reasons = {record["row"]: record["reason"] for path, record in records.items() if path not in alone}
    assert "enough" in reasons["exits@net"]
    assert reasons["raises@net"] == "fit raises on net: no good"
    assert "cannot have it" in reasons["swells@net"]
    assert "File too large" in reasons["fills@net"]
    assert not any("\n" in reason for reason in reasons.values())
    assert "Traceback" not in printed.err + printed.out
    assert "raylet" not in printed.err + printed.out
    assert "net: 150 images encoded" in printed.err  # once over all workers
    assert "pixels: 150 images encoded" in printed.err
    return reasons


def test_what_fails_fails_alone_in_one_process(trial, alone, unruly, capfd):
    assert trial.run("--plugin", unruly, "--methods", *ORDERLY, *FAILING) == 1
    check_that_what_fails_fails_alone(trial, alone, capfd.readouterr())


@pytest.fixture
def nodes(monkeypatch):
    """A running cluster: a head that takes no jobs, and two nodes with a core each."""
    from ray.cluster_utils import Cluster

    small = {"object_store_memory": 80 << 20, "include_log_monitor": False}
    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **small})
    try:
        for _ in range(2):
            found.add_node(num_cpus=1, **small)
        monkeypatch.setenv("RAY_ADDRESS", found.address)
        yield found
    finally:
        found.shutdown()


def unplug(nodes, marker, seconds=120):
    """Take the node away that a method names in a file."""
    deadline = time.monotonic() + seconds
    while not marker.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    for node in nodes.worker_nodes:
        if node.node_id == marker.read_text():
            nodes.remove_node(node, allow_graceful=False)
            return


def test_a_cluster_that_runs_here_gives_the_same_records_though_workers_die_and_a_node_goes(
    trial, alone, unruly, nodes, capfd
):
    rows = [*ORDERLY, *FAILING, "dies_once@net", "unplugs@net"]
    away = Thread(target=unplug, args=(nodes, Path(unruly).with_name("unplug")))
    away.start()
    assert trial.run("--plugin", unruly, "--methods", *rows, "--cluster", "auto") == 1
    away.join()
    printed = capfd.readouterr()
    reasons = check_that_what_fails_fails_alone(trial, alone, printed)
    assert reasons["dies_once@net"] == reasons["unplugs@net"] == ""
    assert "fit dies_once on net: its worker died; it is submitted again" in printed.err
    assert "fit unplugs on net: its node is gone; it is submitted again" in printed.err
    assert "logs/" in printed.err  # where a failed row's worker says more
    cache = trial.results / ".cache"
    assert not [*(cache / "locks").glob("*.json"), *trial.results.rglob("*.tmp")]


@pytest.mark.long
def test_a_disk_that_is_full_on_one_node_takes_no_row_with_it(trial, alone, unruly, nodes, capfd):
    rows = [*ORDERLY, *FAILING, "overflows@net", "dies@net"]
    assert trial.run("--plugin", unruly, "--methods", *rows, "--cluster", "auto") == 1
    printed = capfd.readouterr()
    reasons = check_that_what_fails_fails_alone(trial, alone, printed)
    assert reasons["overflows@net"] == ""
    assert reasons["dies@net"] == "fit dies on net: its worker died twice"
    assert "it takes no more jobs; fit overflows on net again" in printed.err


@pytest.mark.long
def test_the_whole_of_reduced_digits_is_that_of_a_serial_run(tmp_path, nodes, capfd):
    small = ["--limit", "60", "--limit-train", "200", "--quick", "--no-speed", "--device", "cpu"]
    found = {}
    for name, on in {"serial": (), "cluster": ("--cluster", "auto")}.items():
        trial = Trial(tmp_path / name)
        where = ["--results", str(trial.results), "--data", str(tmp_path / "data"), "--weights", str(tmp_path / "w")]
        assert run_all.main(["--id", "digits", *where, *small, *on]) == 0
        (folder,) = (path.parent.name for path in trial.results.glob("digits*/records"))
        passes = sorted(line for line in capfd.readouterr().err.splitlines() if line.endswith("images encoded"))
        found[name] = trial.records(folder), passes
    assert len(found["serial"][0]) > 50
    assert found["cluster"] == found["serial"]


@pytest.mark.parametrize("how", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.long)])
def test_a_driver_that_ends_takes_all_with_it_and_the_same_command_goes_on(trial, alone, how):
    command = [sys.executable, str(ROOT / "run_all.py"), *trial.arguments("--cluster", "local:1")]
    driver = subprocess.Popen(
        command, cwd=trial.folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    )
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
    assert listening({driver.pid, *own, *workers}) == {"127.0.0.1"}
    os.killpg(driver.pid, how) if how == signal.SIGINT else driver.kill()  # Ctrl-C goes to all of a terminal
    deadline = time.monotonic() + 20
    assert driver.wait(20) == (130 if how == signal.SIGINT else -how)
    while any(pid in (*own, *workers) for pid, _ in processes()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    if how == signal.SIGINT:
        assert b"interrupted: what was finished is kept" in driver.stderr.read()
    assert trial.run() == 0
    assert trial.records() == alone


def listening(pids):
    """The addresses that these processes listen on."""
    sockets = {os.readlink(link) for pid in pids for link in Path(f"/proc/{pid}/fd").glob("*") if link.is_symlink()}
    found = set()
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            _, local, _, state, *_, inode = line.split()[:10]
            if state == "0A" and f"socket:[{inode}]" in sockets:
                found.add(address(local.partition(":")[0]))
    return found


def address(text):
    """As the kernel writes it: words of 32 bits, each in the order of this machine's bytes."""
    words = b"".join(bytes.fromhex(text[at : at + 8])[::-1] for at in range(0, len(text), 8))
    found = ip_address(words)
    return str(getattr(found, "ipv4_mapped", None) or found)


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


def test_the_suite_of_this_test_names_the_rows_that_it_runs():
    assert [row.get("name", row["method"]) for row in yaml.safe_load(yaml.safe_dump(SUITE))["rows"]] == ORDERLY
    assert arguments.parser().parse_args(["--cluster", "local:2"]).cluster == "local:2"
