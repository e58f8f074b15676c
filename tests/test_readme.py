"""What the README shows works as shown."""

import re
import shlex
import sys
from pathlib import Path

import pytest

import methods
import run_all
from benchmark import publishing
from methods import base

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
ROOT = Path(__file__).parents[1]


@pytest.fixture
def margin(tmp_path, monkeypatch):
    """The README's method, in a file of its own beside the others; forgotten after the test."""
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    (tmp_path / "margin.py").write_text(code, encoding="utf-8")
    methods.names()  # the others are registered for good before the registry is put aside
    monkeypatch.setattr(methods, "__path__", [*methods.__path__, str(tmp_path)])
    monkeypatch.setattr(methods, "_imported", set(methods._imported))
    monkeypatch.setattr(base, "_METHODS", dict(base._METHODS))
    yield code
    sys.modules.pop("methods.margin", None)


def test_the_method_shown_is_short_and_runs_without_being_named_anywhere(margin, tmp_path, capsys):
    lines = [line for line in margin.splitlines() if line.strip()]
    assert len(lines) <= 16
    more = ["--results", str(tmp_path / "results"), "--limit", "30", "--quick", "--no-speed", "--device", "cpu"]
    assert run_all.main(["--methods", "margin", *more]) == 0
    assert "Logit margin" in capsys.readouterr().out


def test_its_score_is_what_its_docstring_says(margin):
    features = base.Features(logits=[[3.0, 1.0, 0.5], [2.0, 1.5, -1.0]])
    assert methods.create("margin").score(features).tolist() == [-2.0, -0.5]
    assert methods.create("margin", k=3).score(features).tolist() == [-2.5, -3.0]


def test_the_flags_in_the_readme_exist():
    shown = [line.partition("#")[0] for line in README.splitlines() if line.startswith("python run_all.py")]
    assert len(shown) >= 4
    for command in shown:
        arguments = shlex.split(command)[2:]
        if "--help" not in arguments:
            run_all.parser().parse_args(arguments)


def test_every_file_that_the_readme_names_is_there():
    (table,) = re.findall(r"## What is where\n(.*?)\nMIT", README, re.DOTALL)
    for line in table.splitlines():
        names = re.findall(r"`([^`]+)`", line.split("|")[1]) if line.count("|") > 2 else []
        folder = ""
        for name in names:
            if "/" in name:
                folder = name.rpartition("/")[0]
                assert (ROOT / name).exists(), name
            else:
                assert (ROOT / folder / name).exists(), name


@pytest.mark.parametrize("page", publishing.PAGES, ids=lambda page: page.name)
def test_the_tables_are_those_of_the_committed_records(page):
    """If this fails: `python -m benchmark.publishing`."""
    text = page.read_text(encoding="utf-8")
    assert "<!-- table: " in text
    assert publishing.filled(text) == text


def test_a_figure_of_a_table_is_rounded_once():
    (row,) = (line for line in publishing.dlsr().splitlines() if line.startswith("| DLSR (MFsim) "))
    cells = publishing._cells(publishing.SHORT)
    auroc, fpr95 = cells["dlsr-mfsim@imagenet", "cifar100"]
    assert row.split(" | ")[1] == f"{auroc:.1f} / {fpr95:.1f}"
    counted = [name for (name, _) in cells if name == "dlsr-mfsim@imagenet"]
    assert len(counted) - 2 == 11  # the two controls are in no average
    average = sum(auroc for (name, ood), (auroc, _) in cells.items() if name == "dlsr-mfsim@imagenet"
                  and ood not in ("blurred", "enlarged")) / 11  # fmt: skip
    assert row.split(" | ")[6].startswith(f"{average:.1f} / ")


def test_every_page_that_the_readme_links_to_is_there():
    for page in (ROOT / "README.md", ROOT / "results" / "DLSR.md", ROOT / "results" / "PAPERS.md"):
        for link in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert link.startswith("http") or (page.parent / link).exists(), f"{page.name}: {link}"
