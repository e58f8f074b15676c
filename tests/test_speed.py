"""results/SPEED.md is made of the performance scripts' own results; the scripts themselves are not run here."""

import contextlib
import io
import json
import runpy
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.performance import beyond, gpu_before, on_gpu, paired, report

RESULT = {
    "title": "Loading",
    "table": paired.table(("loader", "images/s"), [("PIL alone", 5831.0)]),
    "full": False,
    "device": "cpu",
    "machine": {"cpu": "A CPU", "threads": 2, "cores": 2, "memory_gib": 24, "gpu": "A GPU", "commit": "0123456789ab"},
    "versions": {"python": "3.11.7"},
    "date": "2026-11-21T10:00:00+00:00",
}


def test_a_table_is_one_in_markdown_with_numbers_to_the_right():
    assert RESULT["table"].splitlines() == [
        "| loader    | images/s |",
        "| --------- | -------: |",
        "| PIL alone |    5,831 |",
    ]


@pytest.fixture
def speed(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "SPEED", tmp_path / "SPEED.md")
    return report.SPEED


def test_every_script_is_reported():
    beside = {"__init__", "paired", "report", "coverage"}  # the last measures no speed
    beside |= {"on_gpu", "gpu_parts", "gpu_before"}  # one command for a GPU, its parts, and what they stand beside
    beside |= {"pack"}  # what travels there
    beside |= {"peer", "sliced", "table", "beyond"}  # what whole_table stands beside, and how
    scripts = {path.stem for path in Path(report.__file__).parent.glob("*.py")}
    assert scripts - beside == set(report.SCRIPTS)


def test_a_section_takes_the_place_of_its_own_script_size_and_device_alone(speed):
    report.add("loaders", RESULT, speed)
    report.add("encoders", RESULT | {"title": "Encoders"}, speed)
    report.add("loaders", RESULT | {"device": "cuda:0"}, speed)
    report.add("loaders", RESULT | {"full": True, "methods": ["knn"]}, speed)
    report.add("loaders", RESULT | {"title": "Loading anew"}, speed)
    page = speed.read_text()
    heads = ["## Encoders", "## Loading anew", "## Loading", "## Loading, whole"]
    assert [line for line in page.splitlines() if line.startswith("## ")] == heads
    assert "`python -m tests.performance.loaders` on cpu, 2026-11-21, commit 012345678: A CPU, 2 threads" in page
    assert "`python -m tests.performance.loaders` on cuda, 2026-11-21, commit 012345678: A GPU; A CPU" in page
    assert "`python -m tests.performance.loaders --full knn` on cpu" in page
    assert page.count("|    5,831 |") == 4


# on_gpu: first with its parts replaced


@pytest.fixture
def parts(monkeypatch, tmp_path, speed):
    """Which parts were carried out; "table" fails at the first call."""
    carried = []

    def carry_out(part, device, data):
        carried.append(part.name)
        if part.name == "table" and carried.count("table") == 1:
            raise RuntimeError("not done after 60 s")
        numbers = {"ratios": {}, "speeds": {}, "seconds": {}, "rates": {"job": 1.0, "end to end": 2.0}}
        return RESULT | numbers | {"title": part.about, "device": device, "beyond_seconds": 0.3, "peer_ratio_own": 4.0}

    monkeypatch.setattr(on_gpu, "carry_out", carry_out)
    monkeypatch.setattr("sys.argv", ["on_gpu", "--device", "cuda:0", "--keep", str(tmp_path / "kept")])
    return carried


def test_a_part_that_fails_stops_no_other_and_the_next_call_goes_on_with_it(parts, speed, capsys):
    with pytest.raises(SystemExit, match="not measured: table"):
        on_gpu.main()
    assert parts == on_gpu.NAMES
    on_gpu.main()
    assert parts == [*on_gpu.NAMES, "table"]
    sections = report.read(speed.read_text())
    assert {script for script, _, _ in sections} == {"on_gpu", *(f"on_gpu {name}" for name in on_gpu.NAMES)}
    report.add("loaders", RESULT, speed)
    assert sections.items() <= report.read(speed.read_text()).items()


def test_what_each_part_takes_is_said_without_measuring(parts, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--dry-run", "search", "auroc"])
    on_gpu.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["search", "auroc", "in all at most 160 s on cuda"]
    assert not parts


def test_a_part_is_a_process_with_its_limit(monkeypatch):
    asked = []
    monkeypatch.setattr(on_gpu, "ended", lambda command, limit: asked.append((command[3:], limit)) or (0, "{}", ""))
    for part in on_gpu.PARTS:
        on_gpu.carry_out(part, "cuda", None)
    assert asked == [([part.name, "cuda", "whole"], part.limit) for part in on_gpu.PARTS]


def test_a_part_ends_at_its_limit_with_all_that_it_started(monkeypatch, tmp_path):
    ended = on_gpu.ended
    child = f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    script = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-S', '-c', {child!r}]); time.sleep(600)"
    monkeypatch.setattr(on_gpu, "ended", lambda command, limit: ended([command[0], "-S", "-c", script], 1))
    with pytest.raises(RuntimeError, match=r"^not done after 1 s$"):  # though the child holds the part's pipes
        on_gpu.carry_out(on_gpu.PARTS[0], "cuda", None)
    line = Path("/proc", (tmp_path / "pid").read_text(), "cmdline")
    while line.exists() and line.read_bytes():  # a zombie has none
        time.sleep(0.01)


def test_a_part_that_fails_says_why_in_one_line(monkeypatch):
    ended = on_gpu.ended
    script = "print('half'); raise ValueError('why')"
    monkeypatch.setattr(on_gpu, "ended", lambda command, limit: ended([command[0], "-S", "-c", script], limit))
    with pytest.raises(RuntimeError, match=r"^ValueError: why$"):
        on_gpu.carry_out(on_gpu.PARTS[0], "cuda", None)


@pytest.fixture
def in_this_process(monkeypatch):
    """What is to be a process `python -m MODULE` runs here: the imports of nine would take a minute."""

    process = subprocess.run

    def run(command, *given, **how):
        if command[1] != "-m":
            return process(command, *given, **how)
        said = io.StringIO()
        with monkeypatch.context() as patched, contextlib.redirect_stdout(said):
            patched.setattr(sys, "argv", command[2:])
            runpy.run_module(command[2], run_name="__main__")
        return subprocess.CompletedProcess(command, 0, stdout=said.getvalue())

    monkeypatch.setattr(beyond.subprocess, "run", run)
    monkeypatch.setattr(on_gpu, "ended", lambda command, limit: (0, run(command).stdout, ""))


@pytest.mark.usefixtures("in_this_process")
def test_the_whole_of_it_is_rehearsed_on_the_cpu(monkeypatch, tmp_path, speed):
    """Every part runs to its end, is kept and gets its section, in a file of its own; what is there stays."""
    kept = tmp_path / "kept"
    (kept / "cpu").mkdir(parents=True)
    # another network, or more images, of a part that is carried out
    encoders = [name for name in on_gpu.NAMES if name.startswith("encoder_")]
    there = ("training", "table_whole", *encoders[1:])
    for name in there:
        (kept / "cpu" / f"{name}.json").write_text(json.dumps({"date": RESULT["date"]}))
    monkeypatch.setattr("sys.argv", ["on_gpu", "--device", "cpu", "--keep", str(kept)])
    on_gpu.main()
    results = {name: json.loads((kept / "cpu" / f"{name}.json").read_text()) for name in on_gpu.NAMES}
    assert [results.pop(name) for name in there] == [{"date": RESULT["date"]}] * len(there)
    sections = report.read((kept / "SPEED.md").read_text())
    assert {script for script, _, _ in sections} == {f"on_gpu {name}" for name in results}
    assert all(result["table"] in (kept / "SPEED.md").read_text() for result in results.values())
    assert set(results["auroc"]["differences"]) == {"msp@resnet8", "ebo@resnet8"}
    overview = report.read(speed.read_text())
    assert list(overview) == [("on_gpu", False, "cuda")]
    assert overview["on_gpu", False, "cuda"].count("| unmeasured |") == len(gpu_before.FIGURES)
    assert all(name in overview["on_gpu", False, "cuda"] for name in on_gpu.NAMES)
    # each figure finds its number where a part has it: with tiny sizes of those that are not of one network or size
    assert [f.part for f in gpu_before.FIGURES if f.part in results and f.now(results[f.part]) is not None]
    (kept / "cpu" / "training.json").unlink()
    on_gpu.main()
    assert "steps/s" in json.loads((kept / "cpu" / "training.json").read_text())["table"]
