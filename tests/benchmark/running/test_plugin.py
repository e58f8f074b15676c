"""A method from a file outside of the project, and what is shown of its faults."""

import sys
import textwrap
from pathlib import Path

import pytest

import methods
from methods import base

NORM = """
    from dataclasses import dataclass
    from methods.base import Method, register

    @register("norm_of_mine")
    @dataclass
    class Norm(Method):
        title, paper, reads = "Norm", "none", ("embedding",)
        power: float = 1.0

        def score(self, x):
            {body}
"""


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    methods.names()  # the others are registered for good before the registry is put aside
    monkeypatch.setattr(base, "_METHODS", dict(base._METHODS))
    modules = set(sys.modules)

    def write(body="return -x.embedding.norm(dim=1) ** self.power", text=NORM, name="mine.py"):
        path = tmp_path / name
        path.write_text(textwrap.dedent(text).replace("{body}", body))
        return str(path)

    yield write
    for module in set(sys.modules) - modules:
        if module.startswith("methods.mine"):
            del sys.modules[module]


def test_a_file_from_outside_is_a_row_like_any_other(trial, plugin):
    assert trial.run("--plugin", plugin(), "--methods", "norm_of_mine:power=2", "msp") == 0
    rows = {record["row"].partition("@")[0] for record in trial.records().values()}
    assert rows == {"norm_of_mine:power=2", "msp"}
    assert all(record["status"] == "done" for record in trial.records().values())


def test_an_edited_file_is_measured_anew(trial, plugin, counted):
    assert trial.run("--plugin", plugin(), "--methods", "norm_of_mine") == 0
    before = {record["ood"]["name"]: record["metrics"]["auroc"] for record in trial.records().values()}
    base._METHODS.pop("norm_of_mine")
    assert trial.run("--plugin", plugin("return x.embedding.norm(dim=1)"), "--methods", "norm_of_mine") == 0
    after = {record["ood"]["name"]: record["metrics"]["auroc"] for record in trial.records().values()}
    assert after == pytest.approx({name: 1 - value for name, value in before.items()})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1", "registers nothing"),
        ("def broken(:", "line 1: SyntaxError"),
        ("import nowhere_at_all", "line 1: ModuleNotFoundError"),
        (NORM.replace("norm_of_mine", "knn"), "the method name 'knn' is taken"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_line(trial, plugin, capsys, text, said):
    assert trial.run("--plugin", plugin("pass", text=text)) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


def test_a_file_that_is_not_there_is_one_line(trial, capsys, tmp_path):
    assert trial.run("--plugin", str(tmp_path / "absent.py")) == 2
    assert capsys.readouterr().err == f"error: --plugin: {tmp_path}/absent.py is no Python file\n"


def test_a_fault_of_the_code_says_its_line_and_debug_the_way_there(trial, plugin, capsys):
    path = plugin("return x.embedding.nrm()")
    assert trial.run("--plugin", path, "--methods", "norm_of_mine") == 1
    err = capsys.readouterr().err
    assert "AttributeError: 'Tensor' object has no attribute 'nrm' (mine.py, line 12)" in err
    assert "Traceback" not in err
    assert trial.run("--plugin", path, "--methods", "norm_of_mine", "--debug") == 1
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert "return x.embedding.nrm()" in err


def test_only_what_is_named_on_the_command_line_is_loaded(plugin):
    with pytest.raises(ValueError, match="no method 'norm_of_mine'"):
        methods.create("norm_of_mine")
    methods.load(Path(plugin()))
    assert methods.create("norm_of_mine", power=2).power == 2
