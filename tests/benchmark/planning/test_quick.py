"""What a suite calls quick has to run: the embedded ones whole, of all others what needs no images."""

from pathlib import Path

import pytest

import methods
import run_all
from benchmark.planning import changing
from benchmark.planning import suite as suites
from methods.encoders import registry
from tests.benchmark.conftest import undrawn

EMBEDDED = ("digits", "digits-all", "digits-trained")
# Trainings of seconds each even so, on which the whole suite is spent: that they train is tested where they are, and
# with a suite's quick settings by `test_the_quick_settings_of_every_row_run`.
SECONDS = ("ddpm", "glow", "pixelcnn", "oal")


def run(suite: suites.Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Against one of its OOD sets: of the others it asks nothing else."""
    monkeypatch.setattr("methods.encoders.outliers.border.CANDIDATES", 100)
    monkeypatch.setattr(suites, "read", lambda *_, **how: suite.model_copy(update={"ood": suite.ood[:1]}))
    where = ["--device", "cpu", "--no-speed", "--limit", "4", "--limit-train", "80", "--results", str(tmp_path)]
    with undrawn():
        return run_all.main(["--id", suite.name, "--quick", *where])


@pytest.mark.parametrize("name", ["digits-all", "digits-trained"])  # the first has all methods of digits
def test_the_quick_settings_of_an_embedded_suite_run(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first row of each method, and the last of each kind of encoder, but those of `SECONDS`."""
    suite = suites.read(name)
    kinds = [(row, suite.encoders[row.encoder].kind) for row in suite.rows]
    quick = [(row, kind) for row, kind in kinds if not {row.method, kind} & set(SECONDS)]
    rows = {row.method: row for row, _ in reversed(quick)} | {kind: row for row, kind in quick}
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
