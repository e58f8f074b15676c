"""Arguments that cannot be: one line, status 2, before anything is loaded."""

import os
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

import run_all
from benchmark import arguments
from benchmark.planning import planner


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--limit", "0"], "'0' is no whole number from 1 to 1,000,000,000"),
        (["--limit", "9" * 22], "is no whole number"),
        (["--limit", "9" * 5000], "is no whole number"),
        (["--limit-train", "1.5"], "'1.5' is no whole number"),
        (["--batch-size", "-1"], "'-1' is no whole number"),
        (["--seeds", "0", "0"], "a seed stands there twice"),
        (["--seeds", "-1"], "'-1' is no whole number from 0"),
        (["--seeds", str(2**63)], "is no whole number from 0 to 9,223,372,036,854,775,807"),
        (["--seeds", "٣"], "is no whole number"),
        (["--ood", ""], "--ood: an empty name"),
        (["--methods", " "], "--methods: an empty name"),
        (["--id", ""], "--id: an empty name"),
        (["--pretrained", ""], "--pretrained: an empty name"),
        (["--data", ""], "--data: an empty name"),
        (["--data", "FILE"], "FILE is no folder"),
        (["--weights", "FILE"], "FILE is no folder"),
        (["--results", "FILE"], "FILE is no folder"),
        (["--results", "FILE/below"], "FILE is no folder"),
        (["--cache", "FILE"], "FILE is no folder"),
        (["--id", "digits", "--paper", "table3"], "--id beside --paper"),
        (["--id", "FIFO.yaml"], "FIFO.yaml is a fifo, not a regular file"),
        (["--id", "/dev/stdin"], "a file that ends in .yaml"),
        (["--device", "cuda:²"], "--device cuda:²: valid are"),
        (["--device", "cuda:" + "9" * 5000], "valid are"),
        (["--id", "x\x1b[31m"], r"no suite 'x\x1b[31m'"),
    ],
)
def test_one_line_and_status_2(tmp_path, monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "FILE").touch()
    os.mkfifo(tmp_path / "FIFO.yaml")
    try:
        status = run_all.main(arguments)
    except SystemExit as end:
        status = end.code
    shown = capsys.readouterr()
    assert status == 2
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert shown.err.startswith("error: ")
    assert said in shown.err
    assert "\x1b" not in shown.err


def test_a_folder_from_the_environment_is_held_to_the_same(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    monkeypatch.setenv("OOD_DATA", str(tmp_path / "file"))
    with pytest.raises(SystemExit) as end:
        run_all.main(["--plan"])
    assert end.value.code == 2
    assert "file is no folder" in capsys.readouterr().err


def test_folders_are_absolute_and_no_word_of_a_message_is_taken_for_one():
    """`--weights w` made "no netWEIGHTSork" of "no network"."""
    given = arguments.parser().parse_args(["--weights", "w", "--data", "data"])
    assert (given.weights, given.data) == (Path.cwd() / "w", Path.cwd() / "data")
    where = SimpleNamespace(options=SimpleNamespace(data=Path("/d"), weights=Path("/w")))
    told = planner.Planner._portable(where, "no word in /w: put /w/a there, or /d/w/b, not /data/w or /w.old")
    assert told == "no word in WEIGHTS: put WEIGHTS/a there, or DATA/w/b, not /data/w or /w.old"


def test_a_command_looks_for_no_garbage_among_what_it_imports_and_a_notebook_is_left_alone(monkeypatch, capsys):
    """With torch these searches took 0.3 s at its start, and the interpreter's last one 0.5 s at its end."""
    called = []
    steps = {name: partial(called.append, name) for name in ("disable", "enable", "freeze")}
    monkeypatch.setattr(run_all, "gc", SimpleNamespace(**steps))
    asked = ["--device", "cuda:²"]
    assert run_all.main(asked) == 2
    assert called == []
    monkeypatch.setattr("sys.argv", ["run_all.py", *asked])
    assert run_all.main() == 2
    assert called == ["disable", "freeze", "enable", "freeze"]
    capsys.readouterr()
