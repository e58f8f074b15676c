"""results/SPEED.md is made of the performance scripts' own results; the scripts themselves are not run here."""

from pathlib import Path

import pytest

from tests.performance import on_gpu, paired, report

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
    beside = {"__init__", "paired", "report", "coverage", "injuries"}  # the last two measure no speed
    beside |= {"on_gpu", "gpu_parts", "peer"}  # one command for a GPU, its parts, and what whole_table stands beside
    scripts = {path.stem for path in Path(report.__file__).parent.glob("*.py")}
    assert scripts - beside == set(report.SCRIPTS)


def test_a_section_takes_the_place_of_its_own_script_size_and_device_alone(speed):
    report.add("loaders", RESULT)
    report.add("encoders", RESULT | {"title": "Encoders"})
    report.add("loaders", RESULT | {"device": "cuda:0"})
    report.add("loaders", RESULT | {"full": True, "methods": ["knn"]})
    report.add("loaders", RESULT | {"title": "Loading anew"})
    page = speed.read_text()
    heads = ["## Encoders", "## Loading anew", "## Loading", "## Loading, whole"]
    assert [line for line in page.splitlines() if line.startswith("## ")] == heads
    assert "`python -m tests.performance.loaders` on cpu, 2026-11-21, commit 012345678: A CPU, 2 threads" in page
    assert "`python -m tests.performance.loaders` on cuda, 2026-11-21, commit 012345678: A GPU; A CPU" in page
    assert "`python -m tests.performance.loaders --full knn` on cpu" in page
    assert page.count("|    5,831 |") == 4


# on_gpu: its parts replaced, for they are rehearsed by `python -m tests.performance.on_gpu --device cpu`


@pytest.fixture
def parts(monkeypatch, tmp_path, speed):
    """Which parts were carried out; "table" fails at the first call."""
    carried = []

    def carry_out(part, device, data):
        carried.append(part.name)
        if part.name == "table" and carried.count("table") == 1:
            raise RuntimeError("not done after 60 s")
        return RESULT | {"title": part.about, "device": device}

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
    assert {script for script, _, _ in sections} == {f"on_gpu {name}" for name in on_gpu.NAMES}
    report.add("loaders", RESULT)
    assert sections.items() <= report.read(speed.read_text()).items()


def test_what_each_part_takes_is_said_without_measuring(parts, monkeypatch, capsys):
    import sys

    monkeypatch.setattr(sys, "argv", [*sys.argv, "--dry-run", "search", "auroc"])
    on_gpu.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["search", "auroc", "in all at most 110 s on cuda"]
    assert not parts


def test_a_rehearsal_on_the_cpu_writes_no_section(parts, monkeypatch, tmp_path, speed):
    monkeypatch.setattr("sys.argv", ["on_gpu", "--device", "cpu", "--keep", str(tmp_path / "kept"), "search"])
    on_gpu.main()
    assert parts == ["search"]
    assert not speed.exists()


@pytest.mark.parametrize(
    ("script", "reason"),
    [("import time; time.sleep(60)", "not done after 1 s"), ("raise ValueError('why')", "ValueError: why")],
)
def test_a_part_ends_at_its_limit_and_says_in_one_line_why_it_failed(monkeypatch, script, reason):
    run = on_gpu.subprocess.run
    monkeypatch.setattr(on_gpu.subprocess, "run", lambda command, **how: run([command[0], "-S", "-c", script], **how))
    with pytest.raises(RuntimeError, match=f"^{reason}$"):
        on_gpu.carry_out(on_gpu.Part("search", 1 if "sleep" in script else 60, ""), "cuda", None)


def test_parts_are_those_that_are_written():
    from tests.performance import gpu_parts

    assert all(callable(getattr(gpu_parts, name)) for name in on_gpu.NAMES)
