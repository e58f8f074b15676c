"""Killed at any point and started again; two runs at once: the same records, and nothing is done twice."""

import json
import os
import re
import signal

import pytest

from benchmark.jobs import writing
from benchmark.records import records
from benchmark.store.chunks import ChunkWriter
from benchmark.store.entries import Store
from tests.apart import Apart
from tests.benchmark.conftest import Trial, undrawn


def start(trial, folder, holder=None, name="", at=-1):
    """The command in a process that kills itself, with SIGKILL, at the `at`-th call of one function."""

    def command():
        writing.WritingThread._is_a_chunk = lambda self: True  # each batch, however slow the disk is
        if holder is not None:
            before, calls = getattr(holder, name), iter(range(1, 1_000_000))

            def counted(*args, **more):
                if next(calls) == at:
                    os.kill(os.getpid(), signal.SIGKILL)
                return before(*args, **more)

            setattr(holder, name, counted)
        return trial.run("--batch-size", "10")

    folder.mkdir()
    return Apart(command, folder)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    trial = Trial(tmp_path_factory.mktemp("undisturbed"))
    with undrawn():
        assert trial.run("--batch-size", "10") == 0
    return trial.records()


@pytest.mark.parametrize(
    ("holder", "name", "at"),
    [
        (ChunkWriter, "append", 3),  # between two chunks of the training set
        (ChunkWriter, "finish", 2),  # all chunks written, no marker
        (Store, "seal", 4),
        (records, "write", 3),  # scores written, the record not
    ],
)
def test_a_killed_run_goes_on_to_the_same_records(trial, undisturbed, capsys, tmp_path, holder, name, at):
    assert start(trial, tmp_path / "apart", holder, name, at).wait()[0] == -signal.SIGKILL
    assert trial.run("--batch-size", "10") == 0
    assert trial.records() == undisturbed
    if name == "append":  # two chunks of ten or more were safe: net saw that many images less than in all
        assert encoded(capsys.readouterr().err)["net"] <= 60 + 3 * 30 - 20


def test_when_a_run_ends_all_that_it_made_is_on_the_disk(trial, monkeypatch):
    flushed, wait = set(), os.fsync

    def noted(descriptor):
        flushed.add(os.fstat(descriptor).st_ino)
        wait(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    assert trial.run() == 0
    least = {"*/records/*/*.json": 6, "*/scores/*/*.npy": 6, ".cache/encode/*/*/*": 6, ".cache/fit/*/*/*": 4}
    for kind, count in least.items():
        there = [*trial.results.glob(kind)]
        assert len(there) >= count
        assert {path.stat().st_ino for path in there} <= flushed


def test_a_pass_that_went_on_has_no_seconds(trial, tmp_path):
    """Those of its last part would be too few, and nobody measured the others."""
    assert start(trial, tmp_path / "apart", ChunkWriter, "append", 8).wait()[0] == -signal.SIGKILL
    assert trial.run("--batch-size", "10") == 0
    markers = [json.loads(path.read_text()) for path in trial.folder.rglob("encode/*/*/done.json")]
    assert len(markers) == 8  # of two encoders and four sets
    assert sorted(marker["meta"]["seconds"] is None for marker in markers) == [False] * 7 + [True]


def encoded(error):
    return {name: int(count.replace(",", "")) for name, count in re.findall(r"(\w+): ([\d,]+) images encoded", error)}


def test_two_runs_at_once_share_the_work(trial, undisturbed, tmp_path):
    processes = [start(trial, tmp_path / name) for name in ("one", "two")]
    statuses, _, errors = zip(*(process.wait() for process in processes), strict=True)
    assert statuses == (0, 0), errors
    assert trial.records() == undisturbed
    for name in ("net", "pixels"):
        assert sum(encoded(error).get(name, 0) for error in errors) == 60 + 3 * 30
