"""What a row may be searched over: each combination of its grid, as settings of its method and of its encoder."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import methods
from methods.base import combinations, nearest
from methods.encoders.base import registered


@dataclass(frozen=True)
class Choice:
    """One combination: the values by name, and what of them the method and the encoder take."""

    values: Mapping[str, Any]
    of_method: Mapping[str, Any]
    of_encoder: Mapping[str, Any]

    def __str__(self) -> str:
        return _said(self.values)

    def encoder(self, name: str) -> str:
        """What the encoder `name` is called with these settings."""
        return f"{name}:{_said(self.of_encoder)}" if self.of_encoder else name


def choices(grid: Mapping[str, Iterable[Any]], method: str, kind: str) -> list[Choice]:
    """Every combination of a suite's grid for a row, or of the method's own where it has none.

    ValueError for a name that neither the method nor an encoder of this kind has.
    """
    if not grid:
        return [Choice(values, values, {}) for values in methods.get(method).grid]
    takes = [{one.name for one in fields(cls)} for cls in (methods.get(method), registered()[kind])]
    for name in grid:
        if not any(name in known for known in takes):
            raise ValueError(f"neither {method} nor {kind} has {name!r}; {nearest(name, set.union(*takes))}")
    return [
        Choice(values, *({name: value for name, value in values.items() if name in known} for known in takes))
        for values in combinations(**grid)
    ]


def _said(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())
