"""Which precision a run takes, where it stands, and what becomes of records of another one."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmark.planning import options as opt
from benchmark.planning import planner, suite
from benchmark.planning.options import Options
from benchmark.planning.plan import Plan
from benchmark.planning.suite import UsageError
from benchmark.records import records
from benchmark.reporting import report
from benchmark.store.files import sealed
from methods.device import precision


def options(tmp_path: Path, **more: Any) -> Options:
    return Options(tmp_path, tmp_path, tmp_path / "results", tmp_path / "cache", **more)


def planned(tmp_path: Path, **more: Any) -> Plan:
    chosen = ("msp", "lowlevel", "dlsr-mse")
    return planner.make(suite.read("digits"), options(tmp_path, limit=20, methods=chosen, **more), download=False)


def test_auto_is_what_the_device_has(monkeypatch: pytest.MonkeyPatch) -> None:
    assert opt.resolved(None, "cpu", runs=True) == "32"
    monkeypatch.setattr(precision, "_has", lambda asked, device: asked == "tf32" and device == "cuda:1")
    assert opt.resolved(None, "cuda:1", runs=True) == "tf32"
    assert opt.resolved(None, "cuda:0", runs=True) == "32"


def test_what_a_device_does_not_have_is_a_fault_of_the_command_line() -> None:
    with pytest.raises(UsageError, match=r"^--precision tf32: only a GPU has it; take 32, or bf16$"):
        opt.resolved("tf32", "cpu", runs=True)
    assert opt.resolved("tf32", "cpu", runs=False) == "tf32"  # a table of a GPU, redrawn on a laptop


def test_only_what_was_typed_is_in_the_name_of_the_folder(tmp_path: Path) -> None:
    assert opt.results_folder("digits", options(tmp_path, precision="tf32")).name == "digits"
    assert opt.results_folder("digits", options(tmp_path, asked="32")).name == "digits+precision=32"


def test_keys_hold_it_where_a_network_runs(tmp_path: Path) -> None:
    exact, fast = planned(tmp_path), planned(tmp_path, precision="tf32")
    for one, other in zip(exact.rows, fast.rows, strict=True):
        networks = one.spec.encoder == "resnet8"
        assert (one.about["precision"], other.about["precision"]) == (("32", "tf32") if networks else ("32", "32"))
        for name in one.measures:
            assert (one.measures[name].key != other.measures[name].key) == networks
            assert (one.measures[name].id.images[-1].key != other.measures[name].id.images[-1].key) == networks


def _recorded(made: Plan, at: str) -> Path:
    """A record of the first cell, as a run at another precision would have left it."""
    published = Path(__file__).parents[3] / "results" / "published" / "cpu" / "digits"
    measure = next(iter(made.rows[0].measures.values()))
    like = next(r for r in records.load(published)[0] if r["kind"] == "result" and r["status"] == "done")
    record = {**like, **measure.about, "key": measure.key, "depends": measure.depends, "precision": at}
    measure.path.parent.mkdir(parents=True, exist_ok=True)
    measure.path.write_text(json.dumps(sealed(record)))
    return measure.path


def test_a_table_of_a_gpu_is_redrawn_with_its_own_precision(tmp_path: Path) -> None:
    there = planned(tmp_path, precision="tf32")
    _recorded(there, "tf32")
    assert (
        opt.as_recorded(opt.results_folder("digits", options(tmp_path, limit=20)), options(tmp_path)).precision
        == "tf32"
    )
    here = planned(tmp_path)
    found, notes = report._current(here)
    assert [record["precision"] for record in found] == ["tf32"]
    assert notes == []
    shown = report.text(here)
    assert "Precision tf32: TF32 in matrix products" in " ".join(shown.split())
