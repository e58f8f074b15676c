"""Rows whose hyper-parameters are searched (`--searched`): the candidates of each, and the one that is chosen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from benchmark.jobs.searching import Search
from benchmark.planning.suite import RowSpec
from benchmark.records.searching import MARK
from benchmark.store.entries import Store

NAME = "searched"  # behind a row's name: the row with what was chosen for it


@dataclass(frozen=True)
class Candidates:
    """The combinations of a row's grid in its order, each with a search a seed."""

    row: RowSpec
    about: Mapping[str, Any]  # what records say of the row as it is
    searches: Sequence[tuple[Mapping[str, Any], Sequence[Search]]]

    def chosen(self, choice: Mapping[str, Any]) -> RowSpec:
        """The row with the values that were chosen in the place of its own, marked wherever its title stands."""
        name = f"{self.row.name or self.row.method}:{NAME}"
        settings = {**self.row.settings, **choice}
        return self.row.model_copy(update={"name": name, "title": f"{self.about['title']}{MARK}", "settings": settings})

    def todo(self, store: Store) -> tuple[Search, ...]:
        """What is not measured yet, or cannot be."""
        return tuple(one for _, searches in self.searches for one in searches if not one.done(store))

    def best(self, store: Store) -> tuple[RowSpec, Mapping[str, Any]] | None:
        """The row as it was chosen, and what its records say of the choice; of equals the first; None without any.

        A candidate that this data cannot give (a k above the number of images) is left out, and named.
        """
        found = {
            _said(choice): (choice, [one.found(store) for one in searches])
            for choice, searches in self.searches
            if all(one.done(store) for one in searches)
        }
        if not found:
            return None
        means = {name: fmean(one["auroc"] for one in figures) for name, (_, figures) in found.items()}
        best = max(means, key=lambda name: means[name])
        choice, figures = found[best]
        grid = {name: list(dict.fromkeys(one[name] for one, _ in self.searches)) for name in choice}
        left_out = [name for one, _ in self.searches if (name := _said(one)) not in found]
        of = {"auroc": means[best], "chosen": True, "values": means, "grid": grid, "choice": dict(choice)}
        return self.chosen(choice), {**figures[0], **of, "left_out": left_out}


def _said(choice: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in choice.items())
