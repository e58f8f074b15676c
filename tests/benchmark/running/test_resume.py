"""Killed at any point and started again; two runs at once: the same records, and nothing is done twice."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

# Runs the command in a process that kills itself, with SIGKILL, at the n-th call of one function.
KILLED = """
import os, signal, sys
sys.path.insert(0, {root!r})
import importlib
module, name, at = {module!r}, {name!r}, {at}
holder = importlib.import_module(module)
*path, last = name.split(".")
for part in path:
    holder = getattr(holder, part)
before, calls = getattr(holder, last), 0

def counted(*args, **more):
    global calls
    calls += 1
    if calls == at:
        os.kill(os.getpid(), signal.SIGKILL)
    return before(*args, **more)

setattr(holder, last, counted)
from benchmark.jobs import writing
writing.CHUNK_IMAGES = 10
from benchmark.reporting import drawing
drawing.draw = lambda *what, **how: None
import run_all
sys.exit(run_all.main(sys.argv[1:]))
"""


def start(trial, *more, module="os", name="getpid", at=-1):
    script = KILLED.format(root=str(ROOT), module=module, name=name, at=at)
    command = [sys.executable, "-c", script, *trial.arguments("--batch-size", "10", *more)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    from tests.benchmark.conftest import Trial

    trial = Trial(tmp_path_factory.mktemp("undisturbed"))
    assert trial.run("--batch-size", "10") == 0
    return trial.records()


@pytest.mark.parametrize(
    ("module", "name", "at"),
    [
        ("benchmark.store.chunks", "ChunkWriter.append", 3),  # between two chunks of the training set
        ("benchmark.store.chunks", "ChunkWriter.finish", 2),  # all chunks written, no marker
        ("benchmark.store.entries", "Store.seal", 4),
        ("benchmark.records.records", "write", 3),  # scores written, the record not
    ],
)
def test_a_killed_run_goes_on_to_the_same_records(trial, undisturbed, capsys, module, name, at):
    process = start(trial, module=module, name=name, at=at)
    process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL
    assert trial.run("--batch-size", "10") == 0
    assert trial.records() == undisturbed
    if name == "ChunkWriter.append":  # two chunks of ten or more were safe: net saw that many images less than in all
        assert encoded(capsys.readouterr().err)["net"] <= 60 + 3 * 30 - 20


def encoded(error):
    return {name: int(count.replace(",", "")) for name, count in re.findall(r"(\w+): ([\d,]+) images encoded", error)}


def test_two_runs_at_once_share_the_work(trial, undisturbed):
    processes = [start(trial) for _ in range(2)]
    errors = [process.communicate(timeout=200)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    assert trial.records() == undisturbed
    for name in ("net", "pixels"):
        assert sum(encoded(error).get(name, 0) for error in errors) == 60 + 3 * 30
