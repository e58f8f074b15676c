"""Kills at random moments: a worker (SIGKILL), a node, the driver; then the same command ends the run.

    python -m tests.cluster.kills [--times 20] [--seed 0]

Two nodes on this machine, with a core each. Counts go to stdout; status 1 where a run did not come to the records of a
serial one, something finished was done again, or a lock stayed.
"""

import argparse
import fcntl
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.benchmark.conftest import Trial

ROOT = Path(__file__).parents[2]
SMALL = {"object_store_memory": 80 << 20, "include_log_monitor": False}
DRIVER = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from benchmark.reporting import drawing
from benchmark.reporting.ahead import Ahead
from benchmark.reporting.page import report
drawing.draw = report.write = Ahead.measured = lambda *what, **how: None
import run_all
sys.exit(run_all.main(sys.argv[1:]))
"""


class Nodes:
    """The cluster: a head that takes no jobs, and two nodes."""

    def __init__(self):
        from ray.cluster_utils import Cluster

        head = {"num_cpus": 0, "include_dashboard": False, **SMALL}
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        for _ in range(2):
            self.cluster.add_node(num_cpus=1, **SMALL)
        os.environ["RAY_ADDRESS"] = self.cluster.address

    def take_one_away(self, chance):
        self.cluster.remove_node(chance.choice(list(self.cluster.worker_nodes)), allow_graceful=False)

    def bring_one_back(self):
        self.cluster.add_node(num_cpus=1, **SMALL)


def start(trial, log):
    command = [sys.executable, "-c", DRIVER, *trial.arguments("--cluster", "auto", small=True)]
    return subprocess.Popen(command, cwd=trial.folder, stdout=log, stderr=log, start_new_session=True)


def workers(trial):
    """Those of this run that live."""
    pids = (int(path.stem.rpartition("-")[2]) for path in (trial.results / ".cache" / "logs").glob("*.log"))
    return [pid for pid in pids if command_line(pid).startswith("ray::")]


def command_line(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""


def finished(trial):
    """What is finished, and when it was written."""
    markers = (trial.results / ".cache").glob("*/??/*/done.json")
    return {path: path.stat().st_mtime_ns for path in markers}


def locks_that_stay(trial):
    folder = trial.results / ".cache" / "locks"
    held = []
    for path in folder.glob("*.lock"):
        with path.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                held.append(path)
    return [*held, *folder.glob("*.json"), *trial.results.rglob("*.tmp")]


def disturbed(trial, nodes, chance, lengths, counts, log):
    """One run with its three kills, each at a random moment: of all of it, or of the time that its workers work.

    lengths: of an undisturbed run, in seconds: all of it, and from its first worker on. Its faults.
    """
    driver, faults = start(trial, log), []
    whole = chance.random() < 0.5
    moments = sorted(chance.uniform(0, lengths[0 if whole else 1]) for _ in range(3))
    if not whole:
        first_worker(trial, driver)
    began = time.monotonic()

    def until(moment):
        while driver.poll() is None and time.monotonic() < began + moment:
            time.sleep(0.02)
        return driver.poll() is None

    if until(moments[0]):
        there = workers(trial)
        counts["workers killed" if there else "no worker was there yet"] += 1
        if there:
            os.kill(chance.choice(there), signal.SIGKILL)
    if until(moments[1]):
        counts["nodes removed"] += 1
        nodes.take_one_away(chance)
    if until(moments[2]):
        counts["drivers killed"] += 1
        driver.kill()
        end = time.monotonic() + 20
        while workers(trial) and time.monotonic() < end:
            time.sleep(0.1)
        faults += [f"workers live 20 s after their driver: {workers(trial)}"] if workers(trial) else []
    else:
        counts["ended before all kills"] += 1
    driver.wait()
    return faults


def first_worker(trial, driver):
    """Wait for it, or for the end; the moment."""
    while driver.poll() is None and not workers(trial):
        time.sleep(0.02)
    return time.monotonic()


def ends(trial, nodes, alone, counts, log):
    """The same command again, to the end; its faults."""
    if len(nodes.cluster.worker_nodes) < 2:
        nodes.bring_one_back()
    before = finished(trial)
    counts["finished before the last command"] += len(before)
    status = start(trial, log).wait()
    after = finished(trial)
    counts["done by the last command"] += len(after) - len(before)
    again = [path for path, written in before.items() if after.get(path) != written]
    faults = [f"status {status}"] if status else []
    faults += ["other records"] if trial.records() != alone else []
    faults += [f"done again: {again}"] if again else []
    faults += [f"these stay: {stay}"] if (stay := locks_that_stay(trial)) else []
    return faults


def main():
    parse = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parse.add_argument("--times", type=int, default=20)
    parse.add_argument("--seed", type=int, default=0)
    given = parse.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # who stops it stops its cluster
    chance, counts, faults = random.Random(given.seed), Counter(), []
    with tempfile.TemporaryDirectory() as folder, Path(folder, "log").open("ab") as log:
        serial = Trial(Path(folder, "serial"))
        command = [sys.executable, "-c", DRIVER, *serial.arguments()]
        subprocess.run(command, cwd=serial.folder, stdout=log, stderr=log, check=True)
        alone = serial.records()
        nodes = Nodes()
        try:
            began = time.monotonic()
            trial = Trial(Path(folder, "whole"))
            first = first_worker(trial, driver := start(trial, log))
            driver.wait()
            lengths = time.monotonic() - began, time.monotonic() - first
            faults += ends(trial, nodes, alone, Counter(), log)
            print(f"undisturbed: {lengths[0]:.0f} s, {lengths[1]:.0f} s with workers, {len(alone)} records", flush=True)
            for number in range(given.times):
                trial = Trial(Path(folder, str(number)))
                found = disturbed(trial, nodes, chance, lengths, counts, log) + ends(trial, nodes, alone, counts, log)
                faults += [f"run {number}: {fault}" for fault in found]
                print(f"run {number}: {'; '.join(found) or 'ended, with identical records'}", flush=True)
        finally:
            nodes.cluster.shutdown()
        if faults:
            print(Path(folder, "log").read_text(errors="replace")[-20_000:], file=sys.stderr)
    print(*(f"{count} {what}" for what, count in counts.items()), f"{len(faults)} faults", sep="\n")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
