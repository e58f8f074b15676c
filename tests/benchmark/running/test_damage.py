"""Damaged, deleted or swapped files between two runs: the same records again, in silence nothing."""

import ctypes
import json
import os
import resource
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import run_all
from tests.apart import Apart
from tests.benchmark.conftest import Trial, undrawn

ROOT = Path(__file__).parents[3]
FOLDER = "mini+limit=30+limit-train=60"
ROWS = ("--methods", "lowlevel", "knn")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that was left alone; tests work on copies of it."""
    trial = Trial(tmp_path_factory.mktemp("whole"))
    with undrawn():
        assert trial.run(*ROWS) == 0
    return trial


@pytest.fixture
def copied(whole, tmp_path):
    shutil.copytree(whole.folder, tmp_path / "copy")
    trial = Trial(tmp_path / "copy")
    trial.before = whole.records()
    return trial


@pytest.mark.parametrize("kinds", [("encode",), ("fit",), ("encode", "fit"), ("score",), ("accuracy",)])
def test_entries_that_were_deleted_are_made_again_where_they_are_needed(copied, capsys, kinds):
    for kind in kinds:
        shutil.rmtree(copied.results / ".cache" / kind)
    shutil.rmtree(copied.results / FOLDER)
    assert copied.run(*ROWS) == 0
    assert copied.records() == copied.before
    if len(kinds) == 2:  # whoever measures speed needs both
        assert run_all.main([word for word in copied.arguments(*ROWS) if word != "--no-speed"]) == 0
    assert "failed" not in capsys.readouterr().err


@pytest.mark.parametrize("pattern", ["records/knn@net/letters*", "scores/knn@net/digits*"])
@pytest.mark.parametrize("injury", ["flip", "cut", "fifo", "swap", "folder", "file for folder"])
def test_a_damaged_result_is_made_again_from_the_store(copied, counted, capsys, pattern, injury):
    (path,) = (copied.results / FOLDER).glob(pattern)
    content = path.read_bytes()
    path.unlink()
    if injury == "flip":
        path.write_bytes(content[:-9] + bytes([content[-9] ^ 4]) + content[-8:])
    elif injury == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif injury == "fifo":
        os.mkfifo(path)
    elif injury == "swap":
        shutil.copy(next(other for other in path.parent.iterdir() if "halves" in other.name), path)
    elif injury == "folder":
        path.mkdir()
    else:
        shutil.rmtree(path.parent)
        path.parent.write_text("in the way")
    assert copied.run(*ROWS, "--redraw") == 0
    assert "Traceback" not in capsys.readouterr().err
    counted.clear()
    assert copied.run(*ROWS) == 0
    told = capsys.readouterr().err
    assert injury == "file for folder" or f"note: {path}" in told, told
    assert set(counted) == {"Measure"}
    assert copied.records() == copied.before
    assert path.suffix == ".json" or path.read_bytes() == content


def test_scores_that_do_not_fit_and_cannot_be_restored_are_named(copied, capsys):
    shutil.rmtree(copied.results / ".cache")
    np.save(copied.results / FOLDER / "scores" / "knn@net" / "letters.seed0.npy", np.zeros(3))
    assert copied.run(*ROWS, "--redraw") == 0
    table = (copied.results / FOLDER / "table.md").read_text()
    assert "Scores that do not fit their records, in no figure (run again): knn@net." in table


def test_a_record_says_what_it_depends_on_and_where_its_training_was_done(whole):
    path = whole.results / FOLDER / "records" / "knn@net" / "letters.seed0.json"
    record = json.loads(path.read_text())
    assert record["depends"]["id"]["limit"] == 30
    assert record["depends"]["encoder"]["training"]["seed"] == 0
    for training in (record["training"]["encoder"], record["training"]["fit"]):
        assert training["threads"] == 1
        assert {"cpu", "cores", "date", "device"} <= set(training)
    assert [len(record["quantiles"][side]) for side in ("id", "ood")] == [200, 200]
    lowlevel = json.loads((path.parents[1] / "lowlevel@pixels" / path.name).read_text())
    assert lowlevel["training"]["encoder"] is None


def photos(folder, start):
    folder.mkdir(parents=True)
    for number in range(8):
        pixels = np.random.default_rng(start + number).integers(0, 256, (20, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return str(folder)


def test_sets_of_one_name_have_columns_of_their_own(trial):
    names = ("a/my photos", "b/my photos", "my_photos", "x/digits", "x/My Photos")
    sets = [photos(trial.folder / name, 10 * place) for place, name in enumerate(names)]
    assert trial.run("--methods", "lowlevel", "--ood", *sets) == 0
    records = trial.records()
    assert {record["ood"]["name"] for record in records.values()} == {
        "my photos", "b/my photos", "my_photos", "x/digits", "My Photos",
    }  # fmt: skip
    assert len(list((trial.results / FOLDER / "scores" / "lowlevel@pixels").iterdir())) == 6
    assert len({record["depends"]["ood"]["data"] for record in records.values()}) == 5


def test_two_runs_on_two_folders_of_one_name_do_not_share_a_column(trial):
    a, b = photos(trial.folder / "a" / "images", 0), photos(trial.folder / "b" / "images", 50)
    trial.run("--methods", "lowlevel", "--ood", a)
    trial.run("--methods", "constant", "--ood", b)
    trial.run("--methods", "lowlevel", "--redraw")
    table = (trial.results / FOLDER / "table.md").read_text()
    assert "have changed since (run again)" in table or "has changed since (run again): lowlevel@pixels" in table


def test_a_suite_writes_nowhere_else(trial):
    trial.write(name="../../x")
    assert trial.run("--methods", "constant") == 2
    assert not list(trial.folder.parent.glob("x*"))
    assert not trial.results.exists()


def test_a_run_that_had_nothing_to_measure_ends_with_1(trial):
    trial.write(ood=[{"set": "places365"}])
    assert trial.run("--methods", "lowlevel") == 1
    assert trial.run("--methods", "lowlevel", "--plan") == 0
    assert trial.run("--methods", "lowlevel", "--redraw") == 0


@pytest.mark.parametrize(("gone", "status"), [("the reader", 0), ("the space", 1)])
def test_whoever_reads_it_the_status_is_the_runs(copied, tmp_path, gone, status):
    """`| head -c 0`, and a disk that is full."""

    def command():
        reader, writer = os.pipe()
        os.close(reader)
        sys.stdout = open(writer if gone == "the reader" else "/dev/full", "w")  # noqa: SIM115
        return copied.run(*ROWS, "--plan")

    found, _, said = Apart(command, tmp_path).wait()
    assert found == status, said
    assert len(said.splitlines()) == status


@pytest.mark.parametrize("closed", [("stdout",), ("stdout", "stderr")])
def test_a_closed_output_is_one_that_nobody_reads(copied, tmp_path, closed):
    """As Python starts on `>&-`: without the stream, and with its number free for the next file."""

    def command():
        for name in closed:
            os.close(getattr(sys, name).fileno())
            setattr(sys, name, None)
        return copied.run(*ROWS, "--plan")

    assert Apart(command, tmp_path).wait() == (0, "", "")


UNDRAWN = """
import sys, run_all
from benchmark.reporting import drawing
from benchmark.reporting.page import report
drawing.draw = report.write = lambda *what, **how: None
sys.exit(run_all.main())
"""


def test_a_terminal_without_the_tables_characters_gets_a_table(copied, tmp_path):
    """Its streams as Python opens them there."""

    def command():
        sys.stdout.reconfigure(encoding="ascii", errors="strict")
        sys.stderr.reconfigure(encoding="ascii", errors="backslashreplace")
        return copied.run(*ROWS, "--redraw")

    status, out, err = Apart(command, tmp_path).wait()
    assert status == 0
    assert "AUROC" in out
    assert "Traceback" not in err


@pytest.mark.long
def test_python_that_starts_without_the_tables_characters_gives_a_table(copied):
    ascii = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        [sys.executable, "-c", UNDRAWN, *copied.arguments(*ROWS, "--redraw")],
        cwd=copied.folder,
        env={**os.environ, **ascii, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        errors="surrogateescape",
    )
    assert done.returncode == 0
    assert "AUROC" in done.stdout
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_what_cannot_be_written_is_one_line_and_loses_nothing(copied, tmp_path, capsys):
    for kind in ("encode", "score"):
        shutil.rmtree(copied.results / ".cache" / kind)
    shutil.rmtree(copied.results / FOLDER)

    def limited():
        resource.setrlimit(resource.RLIMIT_FSIZE, (8 << 10,) * 2)  # no file above 8 kB
        return copied.run(*ROWS)

    status, _, said = Apart(limited, tmp_path).wait()
    assert status == 1
    assert "File too large" in said
    assert "Traceback" not in said
    assert copied.run(*ROWS, "--results", "/proc/sys/nowhere") == 1  # nothing can be made there, by root neither
    assert [line.startswith("error: [Errno") for line in capsys.readouterr().err.splitlines()] == [True]
    assert copied.run(*ROWS) == 0
    assert copied.records() == copied.before


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="only root gives files to another user")
@pytest.mark.parametrize(("flags", "status"), [(("--plan",), 0), (("--redraw",), 1), ((), 1), (("--ood", "scans"), 1)])
def test_results_that_belong_to_another_user_are_a_table_or_one_line(copied, tmp_path, flags, status):
    """As whoever may read them and not write, which is root without its capabilities."""
    for path in (copied.folder, *copied.folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
        os.chown(path, 65534, 65534)

    def command():
        libc = ctypes.CDLL(None)
        assert libc.capset(struct.pack("Ii", 0x20080522, 0), bytes(24)) == 0
        with pytest.raises(PermissionError):
            (copied.results / "new").touch()
        return copied.run(*ROWS, *flags)

    found, out, said = Apart(command, tmp_path).wait()
    assert found == status, said
    assert "Traceback" not in said
    assert said.count("error: [Errno 13] Permission denied") == status, said
    assert status or "knn@net" in out
    assert copied.records() == copied.before
