"""Figures that another process draws; what happens to that process is none of the figures' business."""

import os
import signal
from concurrent.futures import Future
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from benchmark.records.scores import Cell
from benchmark.reporting import drawing, figures
from benchmark.reporting.drawers import Drawers, Gone
from benchmark.reporting.drawing import Figure

CELL = Cell(np.arange(50.0), np.arange(50.0) + 9, 0.7, 0.8)


@pytest.mark.usefixtures("drawers")
def test_a_figure_from_another_process_is_the_one_drawn_here(tmp_path, monkeypatch):
    draw = partial(figures.histograms, "a row", {"a set": CELL})
    draw(tmp_path / "here.png")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "benchmark").mkdir()  # no module of theirs
    (tmp_path / "pickle.py").write_text("raise SystemExit")
    with Drawers(1) as drawers:
        drawers.give(draw, Path("there.png")).result()
        assert Path("there.png").read_bytes() == Path("here.png").read_bytes()
        with pytest.raises(ValueError, match="no OOD scores to draw for a row"):
            drawers.give(partial(figures.histograms, "a row", {}), Path("x.png")).result()
        (process,) = drawers._processes
        os.kill(process.pid, signal.SIGINT)  # Ctrl-C is for the run alone
        drawers.give(draw, Path("again.png")).result()
        process.kill()
        lost = drawers.give(draw, Path("lost.png"))
        drawers.rest()
        assert isinstance(lost.exception(), Gone)
    assert process.returncode == -signal.SIGKILL


class Lent:
    """In the place of `Drawers`: draws at once, or is gone."""

    def __init__(self, *gone):
        self.gone, self.given = gone, []

    def give(self, draw, path):
        self.given.append(path.name)
        future = Future()
        if path.name in self.gone:
            future.set_exception(Gone("killed"))
        else:
            draw(path)
            future.set_result(None)
        return future


@pytest.mark.parametrize(("count", "given"), [(2, []), (3, ["2.png", "1.png", "0.png"])])
def test_many_figures_are_given_to_others_and_those_that_are_lost_are_drawn_here(tmp_path, monkeypatch, count, given):
    made = [Figure(f"figures/{name}", f"key {name}", lambda path: path.write_text("drawn")) for name in range(count)]
    monkeypatch.setattr(drawing, "measured", lambda *given: iter(made))
    monkeypatch.setattr(drawing, "comparing", lambda *given: iter(()))
    monkeypatch.setattr(drawing, "Ranking", lambda *given: None)
    drawers = Lent("1.png")
    drawing.draw(tmp_path, [], None, None, {}, redraw=False, drawers=drawers)
    assert drawers.given == given
    assert [(tmp_path / f"figures/{name}.png").read_text() for name in range(count)] == ["drawn"] * count
    known = {f"figures/{name}.png": f"key {name}" for name in range(count)}
    assert drawing.read(tmp_path) == known
    drawers.given.clear()
    (tmp_path / drawing.DRAWN).unlink()
    drawing.draw(tmp_path, [], None, None, {}, redraw=False, drawers=drawers, ahead=known)
    assert drawers.given == []
    assert drawing.read(tmp_path) == known


def test_what_fails_to_be_drawn_is_told_and_what_was_drawn_is_known(tmp_path, monkeypatch):
    def fail(path):
        raise OSError("no space left")

    made = [Figure("a", "1", lambda path: path.touch()), Figure("b", "2", fail)]
    monkeypatch.setattr(drawing, "measured", lambda *given: iter(made))
    monkeypatch.setattr(drawing, "comparing", lambda *given: iter(()))
    monkeypatch.setattr(drawing, "Ranking", lambda *given: None)
    with pytest.raises(OSError, match="no space left"):
        drawing.draw(tmp_path, [], None, None, {}, redraw=False)
    assert drawing.read(tmp_path) == {"a.png": "1"}
