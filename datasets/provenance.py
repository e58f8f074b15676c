"""What data files say of themselves, as JSON values for records and as short phrases for footnotes."""

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from datasets.catalogue import CATALOGUE, Entry

_JSON = ("classes", "subset", "wnids")
_ROWS = ("reencoded_rows", "lossy_rows")
_NUMBERS = ("rows", "subset_of", "seed", "split_rows", "first_row")
_FOR_OTHERS = ("huggingface", "ARROW:schema", "pandas")
_OF_ONE_FILE = ("rows", "first_row", "split_rows")


def merged(files: Iterable[tuple[Mapping[bytes, bytes] | None, int]], label: str | None) -> dict[str, Any]:
    """Key-value metadata of a split's files, each with its number of rows, as one mapping of JSON values.

    `label`: the column with the labels, whose names are the classes. Row numbers that a file gives count from its own
    first row; here they count from the split's first.
    """
    whole: dict[str, Any] = {}
    start = 0
    for raw, rows in files:
        said = _parsed(raw or {}, label)
        for key, value in said.items():
            if key in _ROWS:
                given = value if isinstance(value, list) else []
                whole.setdefault(key, []).extend(start + row for row in given if isinstance(row, int))
            elif key not in _OF_ONE_FILE:
                whole.setdefault(key, value)
        start += rows
    return {**whole, "rows": start}


def _parsed(raw: Mapping[bytes, bytes], label: str | None) -> dict[str, Any]:
    said: dict[str, Any] = {}
    for raw_key, raw_value in raw.items():
        key, value = raw_key.decode(errors="replace"), raw_value.decode(errors="replace")
        if key == "huggingface":
            said.setdefault("classes", _names(_features(value).get(label)))
        if key in _FOR_OTHERS:
            continue
        said[key] = value
        if key in (*_JSON, *_ROWS, *_NUMBERS):
            with suppress(ValueError, RecursionError):  # else it stays text
                said[key] = json.loads(value)
    return said


def label_column(raw: Mapping[bytes, bytes] | None) -> str | None:
    """The one column that Hugging Face's metadata says holds classes; None where there are none, or several."""
    features = _features((raw or {}).get(b"huggingface", b"").decode(errors="replace"))
    found = [name for name, feature in features.items() if _names(feature)]
    return found[0] if len(found) == 1 else None


def _features(value: str) -> Mapping[str, Any]:
    try:
        features = json.loads(value)["info"]["features"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    return features if isinstance(features, dict) else {}


def _names(feature: Any) -> list[str]:
    """The names of a ClassLabel."""
    names = feature.get("names") if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" else None
    return list(map(str, names)) if isinstance(names, list) else []


def class_names(metadata: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of the classes, index = label; none where the metadata has no list of them.

    ImageNet's are its wnids: the English names repeat.
    """
    for key in ("wnids", "classes"):
        if isinstance(names := metadata.get(key), list) and names:
            return tuple(map(str, names))
    return ()


def phrases(metadata: Mapping[str, Any], rows: int, entry: Entry | None, split: str) -> tuple[str, ...]:
    """What a reader of a table must know of a set of `rows` images: subset, re-encoded, stand-in, not exact."""
    said = []
    if entry is not None and entry.stands_in_for is not None:
        title = CATALOGUE[entry.stands_in_for].title
        said.append(f"stands in for {title} (is not {title})")
    subset = metadata.get("subset")
    whole = metadata.get("subset_of", subset.get("subset_of") if isinstance(subset, dict) else None)
    if isinstance(whole, int):
        said.append(f"subset: {rows:,} of {whole:,}")
    elif "trimmed" in metadata:
        said.append(f"trimmed: {metadata['trimmed']}")
    official = None if entry is None else entry.splits.get(split)
    if official is not None and official not in (rows, whole):
        said.append(f"{rows:,} images; officially {official:,}")
    if "reencoded" in metadata:
        which = metadata.get("reencoded_rows")
        count = f" ({len(which):,} of {rows:,} images)" if isinstance(which, list) else ""
        said.append(f"re-encoded: {metadata['reencoded']}{count}")
    if metadata.get("lossy_rows"):
        said.append(f"{len(metadata['lossy_rows']):,} images not exact")
    if "note" in metadata and (said or entry is None):  # not where all is as it should be
        said.append(str(metadata["note"]).partition(";")[0])
    return tuple(" ".join(phrase.split())[:200] for phrase in said)
