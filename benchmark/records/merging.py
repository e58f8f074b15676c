"""Records of one suite from several machines in one folder: one a cell, and where two differ that should not."""

from collections.abc import Callable, Hashable, Iterable
from typing import Any

Record = dict[str, Any]


def merged(own: Iterable[Record], others: Iterable[Record], cell: Callable[[Record], Hashable]) -> list[Record]:
    """The others, then our own: one for each cell and key, ours where both are numbers or neither is.

    Of a cell under two keys both are there: whether a key is what the plan has now, is not known here.
    """
    own, others = list(own), list(others)
    finished = {cell(record) for record in others if record["status"] == "done"}
    own = [record for record in own if record["status"] == "done" or cell(record) not in finished]
    there = {(cell(record), record["key"]) for record in own}
    ended = {cell(record) for record in own}
    new = [
        record
        for record in others
        if (cell(record), record["key"]) not in there and (record["status"] == "done" or cell(record) not in ended)
    ]
    return [*new, *own]


def difference(one: Record, other: Record) -> str:
    """The metrics of two records of one cell in which they differ, the first of them in words; "" where none does."""
    here, there = one.get("metrics") or {}, other.get("metrics") or {}
    names = [name for name in here if here[name] != there.get(name)]
    if one["status"] != "done" or other["status"] != "done" or not names:
        return ""
    values = " and ".join(f"{values.get(names[0], float('nan')):.6f}" for values in (here, there))
    return f"{one['row']} on {one['ood']['name']}, seed {one['seed']}: {names[0]} {values}"
