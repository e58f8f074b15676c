"""Every data set, one entry each: the data stands in `datasets.entries`.

A split is `train` or `test`; where a set's own splits are other ones, `mapping` says which is meant.
"""

import difflib

from datasets.entries import embedded, imagenet, natural, small
from datasets.entries.form import Archive, Entry, Torchvision

__all__ = ["CATALOGUE", "Archive", "Entry", "Torchvision", "get", "names"]

CATALOGUE: dict[str, Entry] = {
    entry.name: entry for room in (small, natural, imagenet, embedded) for entry in room.ENTRIES
}


def names() -> list[str]:
    """Every data set, in the order of the catalogue."""
    return list(CATALOGUE)


def get(name: str) -> Entry:
    """The entry of a data set; ValueError naming the nearest one where there is none."""
    if name not in CATALOGUE:
        close = difflib.get_close_matches(name, CATALOGUE, n=1, cutoff=0.5)
        hint = f"did you mean {close[0]!r}?" if close else f"valid: {', '.join(sorted(CATALOGUE))}"
        raise ValueError(f"no data set {name!r}; {hint}")
    return CATALOGUE[name]
