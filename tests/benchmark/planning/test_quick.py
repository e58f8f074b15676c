"""What a suite calls quick has to run: the embedded ones whole, of all others what needs no images."""

from pathlib import Path

import pytest

import methods
import run_all
from benchmark.planning import changing
from benchmark.planning import suite as suites
from methods.encoders import registry

EMBEDDED = ("digits", "digits-all", "digits-trained")


def run(suite: suites.Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Against one of its OOD sets: of the others it asks nothing else."""
    for drawing in ("benchmark.reporting.drawing.draw", "benchmark.reporting.page.report.write"):
        monkeypatch.setattr(drawing, lambda *what, **how: None)
    monkeypatch.setattr("methods.encoders.outliers.border.CANDIDATES", 100)
    monkeypatch.setattr("benchmark.reporting.ahead.Ahead.measured", lambda self, row: None)
    monkeypatch.setattr(suites, "read", lambda *_, **how: suite.model_copy(update={"ood": suite.ood[:1]}))
    where = ["--device", "cpu", "--no-speed", "--limit", "4", "--limit-train", "80", "--results", str(tmp_path)]
    return run_all.main(["--id", suite.name, "--quick", *where])


@pytest.mark.parametrize("name", EMBEDDED)
def test_the_quick_settings_of_an_embedded_suite_run(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first row of each method, and the last of each kind of encoder."""
    suite = suites.read(name)
    rows = {row.method: row for row in reversed(suite.rows)}
    rows |= {suite.encoders[row.encoder].kind: row for row in suite.rows}
    few = {row.label: row for row in rows.values()}
    assert run(suite.model_copy(update={"rows": tuple(few.values())}), tmp_path, monkeypatch) == 0


@pytest.mark.long
def test_the_quick_settings_of_every_row_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(suites.read("digits-trained"), tmp_path, monkeypatch) == 0


@pytest.mark.parametrize("name", sorted(set(suites.names()) - set(EMBEDDED)))
def test_the_quick_settings_of_every_other_suite_are_settings(name: str) -> None:
    quick = changing.quickened(suites.read(name))
    for encoder in quick.encoders.values():
        registry.create(encoder.kind, **encoder.settings)
    for row in quick.rows:
        methods.create(row.method, preset=row.preset, **row.settings)
