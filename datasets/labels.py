"""From a column of parquet to labels: whole numbers, or the names of the classes."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from datasets.images import CLASSES, Labels


def from_column(batches: Iterable[Any], names: Sequence[str]) -> tuple[Labels, tuple[str, ...], str]:
    """Labels (N,), the names of the classes, and why the labels cannot be used, where they cannot (then all are -1).

    `batches`: arrow arrays, of all files. `names`: the classes that the files' metadata lists, if any. Whole numbers
    are the places in `names`; texts are class names themselves, in the order of `names`, else sorted. Null, NaN and ""
    are none.
    """
    parts: list[Labels | list[str | None]] = []
    fault = ""
    for batch in batches:
        try:
            parts.append(_values(batch))
        except ValueError as error:  # pyarrow's are ValueErrors as well
            fault = fault or " ".join(str(error).split())[:200]
            parts.append(np.full(len(batch), -1))
    texts = [isinstance(part, list) for part in parts if len(part)]
    if any(texts) and not all(texts):
        fault = fault or "texts in one file, numbers in another"
    if fault or not any(texts):
        numbers = [np.full(len(part), -1) if isinstance(part, list) else part for part in parts]
        labels = np.concatenate([np.empty(0, dtype=np.int64), *numbers])
        return labels, () if fault else tuple(names), fault
    there = {text for part in parts for text in part if text}
    if len(there) > CLASSES:
        fault, there = f"{len(there):,} different texts are no class names", set()
    known = tuple(names) if there <= set(names) else tuple(sorted(there))
    place = {name: number for number, name in enumerate(known)}
    return np.array([place.get(text, -1) for part in parts for text in part], dtype=np.int64), known, fault


def _values(values: Any) -> Labels | list[str | None]:
    """Whole numbers with -1 for none, or texts. ValueError for anything else."""
    import pyarrow
    import pyarrow.types as kinds

    kind = values.type
    if kinds.is_dictionary(kind):
        here = _values(values.dictionary)
        places = values.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        if isinstance(here, list):
            return [here[place] if place >= 0 else None for place in places.tolist()]
        return np.where(places >= 0, np.append(here, -1)[places], -1)
    if kinds.is_string(kind) or kinds.is_large_string(kind):
        return list(values.to_pylist())
    if kinds.is_boolean(kind):
        values = values.cast(pyarrow.int64())
    elif kinds.is_floating(kind):
        numbers = values.fill_null(float("nan")).to_numpy(zero_copy_only=False).astype(np.float64)
        whole = np.where(np.isnan(numbers), -1.0, numbers)
        if (np.abs(whole) > 2**53).any() or (whole != np.rint(whole)).any():
            raise ValueError("they are fractions, not whole numbers")
        return whole.astype(np.int64)
    elif not (kinds.is_integer(kind) or kinds.is_null(kind)):
        raise ValueError(f"they are {str(kind)[:60]}, not whole numbers or texts")
    return np.asarray(values.cast(pyarrow.int64()).fill_null(-1).to_numpy(zero_copy_only=False), dtype=np.int64)
