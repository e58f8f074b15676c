"""On a cluster as in one process: the same records; what fails, fails alone; who dies takes nothing with it.

A Ray that starts costs seconds, so that each test asks as much of one as it can.
"""

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from ipaddress import ip_address
from pathlib import Path
from threading import Thread

import pytest
import yaml

import methods
import run_all
from benchmark import arguments
from benchmark.records.provenance import portable
from benchmark.running.session import twice
from methods import base
from tests.benchmark.conftest import SUITE, Trial

ROOT = Path(__file__).parents[3]
UNRULY = ROOT / "tests" / "cluster" / "unruly.py"


@pytest.fixture
def unruly(tmp_path, monkeypatch):
    """A file of methods that misbehave while they are fitted, of this test alone: they leave marks beside it."""
    methods.names()
    monkeypatch.setattr(base, "_METHODS", dict(base._METHODS))
    path = tmp_path / "unruly.py"
    shutil.copy(UNRULY, path)
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
    assert "can't allocate memory" in reasons["swells@net"]
    assert "File too large" in reasons["fills@net"]
    assert not any("\n" in reason for reason in reasons.values())
    assert "Traceback" not in printed.err + printed.out
    assert "raylet" not in printed.err + printed.out
    assert "net: 150 images encoded" in printed.err  # once over all workers
    assert "pixels: 150 images encoded" in printed.err
    return reasons


def commands(trial):
    """What the records of a trial say of how they were made."""
    found = (json.loads(path.read_text()) for path in trial.results.rglob("records/*/*.json"))
    return {record["provenance"]["command"] for record in found if record["status"] == "done"}


def test_a_record_says_with_what_it_was_made_also_where_main_is_called(measured):
    assert commands(measured) == {portable(["run_all.py", *measured.arguments()])}


def test_where_all_is_there_no_cluster_is_started(measured, monkeypatch, capfd):
    monkeypatch.setattr("ray.init", lambda *_, **__: pytest.fail("a cluster was started"))
    assert measured.run("--cluster", "local:1") == 0
    assert "0 measured" in capfd.readouterr().err


def test_what_fails_fails_alone_in_one_process(trial, alone, unruly, capfd):
    assert trial.run("--plugin", unruly, "--methods", *ORDERLY, *FAILING) == 1
    check_that_what_fails_fails_alone(trial, alone, capfd.readouterr())


SMALL = {"object_store_memory": 80 << 20, "include_log_monitor": False, "no_monitor": True}


@pytest.fixture(scope="module")
def cluster():
    """A running cluster: a head that takes no jobs."""
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 0, "include_dashboard": False, **SMALL}
    found = twice(lambda: Cluster(initialize_head=True, head_node_args=head))
    yield found
    found.shutdown()


@pytest.fixture
def nodes(cluster, monkeypatch):
    """The same with two nodes of a core each."""
    while len(cluster.worker_nodes) < 2:
        twice(lambda: cluster.add_node(num_cpus=1, **SMALL))
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    return cluster


def unplug(nodes, marker, seconds=600):
    """Take the node away that a method names in a file."""
    deadline = time.monotonic() + seconds
    while not marker.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    for node in nodes.worker_nodes:
        if node.node_id == marker.read_text():
            nodes.remove_node(node, allow_graceful=False)
            return


@pytest.mark.timeout(900)  # half a minute; Ray's processes each import torch, and others run beside them
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
    assert all(command.endswith("--cluster auto") for command in commands(trial))  # not Ray's own for its workers
    cache = trial.results / ".cache"
    assert not [*(lock for lock in (cache / "locks").iterdir() if lock.read_text()), *trial.results.rglob("*.tmp")]


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
def test_on_a_node_whose_files_are_limited_rows_fail_with_the_true_reason_and_elsewhere_do_not(trial, alone, nodes):
    limited = nodes.add_node(num_cpus=1, **SMALL)
    (raylet,) = (of.process.pid for of in limited.all_processes["raylet"])
    resource.prlimit(
        raylet, resource.RLIMIT_FSIZE, (200_000, 200_000)
    )  # its workers have it of it; networks are larger
    for other in list(nodes.worker_nodes):
        if other is not limited:
            nodes.remove_node(other, allow_graceful=False)
    assert trial.run("--cluster", "auto") == 1
    for path, record in trial.records().items():
        if record["row"] == "lowlevel@pixels":
            assert record == alone[path]
        else:
            assert record["status"] == "failed"
            assert record["reason"].startswith("train net: ")
            assert "File too large" in record["reason"]
    nodes.add_node(num_cpus=1, **SMALL)
    nodes.remove_node(limited, allow_graceful=False)
    assert trial.run("--cluster", "auto") == 0
    assert trial.records() == alone


@pytest.mark.long
def test_what_ray_kills_for_memory_is_tried_with_more_and_then_fails_alone(trial, alone, unruly, monkeypatch, capfd):
    from ray.cluster_utils import Cluster

    free, whole = memory()
    most = 1 - (free - (3 << 30)) / whole  # what all that runs here now takes, and 3 GiB
    config = {"memory_usage_threshold": most, "memory_monitor_refresh_ms": 50}
    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "_system_config": config, **SMALL})
    try:
        monkeypatch.setenv("RAY_ADDRESS", found.address)
        rows = [*ORDERLY, *FAILING, "hogs_once@net", "hogs@net"]
        assert trial.run("--plugin", unruly, "--methods", *rows, "--cluster", "auto") == 1
    finally:
        found.shutdown()
    printed = capfd.readouterr()
    reasons = check_that_what_fails_fails_alone(trial, alone, printed)
    assert reasons["hogs_once@net"] == ""
    assert "fit hogs_once on net: its worker ran out of memory; it is submitted again" in printed.err
    assert re.fullmatch(r"fit hogs on net: out of memory, with .* GiB declared, .*", reasons["hogs@net"])


def memory():
    """Bytes of this machine that are free, and all."""
    lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    return tuple(int(lines[name].split()[0]) << 10 for name in ("MemAvailable", "MemTotal"))


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
    elsewhere = {**os.environ, "RAY_ADDRESS": "127.0.0.1:1"}  # `local` joins none
    driver = subprocess.Popen(
        command,
        cwd=trial.folder,
        env=elsewhere,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
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
