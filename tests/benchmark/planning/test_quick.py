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
    monkeypatch.setattr("benchmark.reporting.drawing.draw", lambda *what, **how: None)
    where = ["--device", "cpu", "--no-speed", "--limit", "10", "--results", str(tmp_path)]
    assert run_all.main(["--id", name, "--quick", *where]) == 0


@pytest.mark.parametrize("name", sorted(set(suites.names()) - set(EMBEDDED)))
def test_the_quick_settings_of_every_other_suite_are_settings(name: str) -> None:
    quick = changing.quickened(suites.read(name))
    for encoder in quick.encoders.values():
        registry.create(encoder.kind, **encoder.settings)
    for row in quick.rows:
        methods.create(row.method, preset=row.preset, **row.settings)
