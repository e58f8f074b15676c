"""Figures as tests look at them: before they are pixels."""

import pytest


@pytest.fixture
def drawn(monkeypatch):
    """The matplotlib figures that were to be written, laid out; no pixel of them is drawn."""
    from matplotlib.figure import Figure

    kept = []

    def keep(figure, *args, **kwargs):
        figure.draw_without_rendering()
        kept.append(figure)

    monkeypatch.setattr(Figure, "savefig", keep)
    return kept


@pytest.fixture
def written(monkeypatch):
    """The same, written."""
    from matplotlib.figure import Figure

    kept, save = [], Figure.savefig

    def keep(figure, *args, **kwargs):
        save(figure, *args, **kwargs)
        kept.append(figure)

    monkeypatch.setattr(Figure, "savefig", keep)
    return kept
