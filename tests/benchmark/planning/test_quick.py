"""What a suite calls quick has to run: the embedded ones whole, of all others what needs no images."""

from pathlib import Path

import pytest

import methods
import run_all
from benchmark.planning import changing
from benchmark.planning import suite as suites
from methods.encoders import registry

EMBEDDED = ("digits", "digits-all", "digits-trained")


@pytest.mark.parametrize("name", EMBEDDED)
def test_the_quick_settings_of_an_embedded_suite_run(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against one of its OOD sets: of the others it asks nothing else."""
    for drawing in ("benchmark.reporting.drawing.draw", "benchmark.reporting.page.report.write"):
        monkeypatch.setattr(drawing, lambda *what, **how: None)
    monkeypatch.setattr("benchmark.reporting.ahead.Ahead.measured", lambda self, row: None)
    whole = suites.read(name)
    monkeypatch.setattr(suites, "read", lambda _: whole.model_copy(update={"ood": whole.ood[:1]}))
    where = ["--device", "cpu", "--no-speed", "--limit", "10", "--results", str(tmp_path)]
    assert run_all.main(["--id", name, "--quick", *where]) == 0


@pytest.mark.parametrize("name", sorted(set(suites.names()) - set(EMBEDDED)))
def test_the_quick_settings_of_every_other_suite_are_settings(name: str) -> None:
    quick = changing.quickened(suites.read(name))
    for encoder in quick.encoders.values():
        registry.create(encoder.kind, **encoder.settings)
    for row in quick.rows:
        methods.create(row.method, preset=row.preset, **row.settings)
