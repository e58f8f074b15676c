"""Rows whose hyper-parameters are searched (`--searched`): the candidates of each, and the one that is chosen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from benchmark.jobs.searching import Search
from benchmark.planning.grids import Choice, choices
from benchmark.planning.parts import RowSpec
from benchmark.planning.suite import Suite
from benchmark.records.searching import MARK, NAME
from benchmark.store.entries import Store


def of_row(row: RowSpec, suite: Suite) -> list[tuple[Choice, RowSpec]]:
    """Each combination of a row's grid, and the row with it."""
    found = []
    for choice in choices(row.grid, row.method, suite.encoders[row.encoder].kind):
        with_it = {"settings": {**row.settings, **choice.of_method}, "encoder": choice.encoder(row.encoder)}
        found.append((choice, row.model_copy(update=with_it)))
    return found


def with_encoders(suite: Suite, rows: Sequence[RowSpec]) -> Suite:
    """The suite with the encoders that the rows' grids ask for."""
    encoders = dict(suite.encoders)
    for row in rows:
        spec = suite.encoders[row.encoder]
        for choice, one in of_row(row, suite):
            settings = {**spec.settings, **choice.of_encoder}
            encoders.setdefault(one.encoder, spec.model_copy(update={"settings": settings}))
    return suite.model_copy(update={"encoders": encoders})


@dataclass(frozen=True)
class Candidates:
    """The combinations of a row's grid in its order: the row with each, and its searches, one a seed."""

    row: RowSpec
    about: Mapping[str, Any]  # what records say of the row as it is
    searches: Sequence[tuple[Choice, RowSpec, Sequence[Search]]]

    def chosen(self, row: RowSpec) -> RowSpec:
        """The row as one of the combinations, or itself, marked wherever its title stands."""
        name = f"{self.row.name or self.row.method}:{NAME}"
        return row.model_copy(update={"name": name, "title": f"{self.about['title']}{MARK}"})

    def todo(self, store: Store) -> tuple[Search, ...]:
        """What is not measured yet, or cannot be."""
        return tuple(one for *_, searches in self.searches for one in searches if not one.done(store))

    def best(self, store: Store) -> tuple[RowSpec, Mapping[str, Any]] | None:
        """The row as it was chosen, and what its records say of the choice; of equals the first; None without any.

        A candidate that this data cannot give (a k above the number of images) is left out, and named.
        """
        found = {
            f"{choice}": (choice, row, [one.found(store) for one in searches])
            for choice, row, searches in self.searches
            if all(one.done(store) for one in searches)
        }
        if not found:
            return None
        means = {name: fmean(one["auroc"] for one in figures) for name, (_, _, figures) in found.items()}
        best = max(means, key=lambda name: means[name])
        choice, row, figures = found[best]
        grid = {name: list(dict.fromkeys(one.values[name] for one, *_ in self.searches)) for name in choice.values}
        left_out = [f"{one}" for one, *_ in self.searches if f"{one}" not in found]
        of = {"auroc": means[best], "chosen": True, "values": means, "grid": grid, "choice": dict(choice.values)}
        return self.chosen(row), {**figures[0], **of, "left_out": left_out}
