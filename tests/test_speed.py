"""results/SPEED.md is made of the performance scripts' own results; the scripts themselves are not run here."""

from pathlib import Path

import pytest

from tests.performance import paired, report

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
