"""The scores of a results folder, held against the records that are made from them."""

import contextlib
import hashlib
import math
import os
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmark.records.names import elsewhere, scores_path
from benchmark.store import arrays, files
from benchmark.store.arrays import Array
from datasets.files import read_regular

LEVELS = np.linspace(0, 1, 200)
Side = Literal["id", "ood"]
SIDES: tuple[Side, ...] = ("id", "ood")
KNOWN = 10_000  # files of which it is kept in memory that they were sound
Expected = tuple[int, str | None]  # number of scores, and the file's SHA-256 where the record says it


def path_of(folder: Path, record: Mapping[str, Any], side: Side) -> Path:
    return scores_path(folder, record["row"], record[side]["name"], record["seed"])


def save(path: Path, scores: Array) -> str:
    """Write the scores (N,) of one set, unless they are there; their file's SHA-256, which goes into the record.

    Not flushed, as the record is not: the runner flushes all of a run at once.
    """
    buffer = BytesIO()
    arrays.write(buffer, scores)
    content = buffer.getvalue()
    if _content(path, len(content)) != content:  # all cells of a row have the same of its ID set
        with files.replacing(path, within=path.parents[2], durable=False) as file:
            file.write(content)
    return hashlib.sha256(content).hexdigest()


def _content(path: Path, limit: int) -> bytes | None:
    try:
        return read_regular(path, limit)
    except (OSError, ValueError):
        return None


def read(folder: Path, record: Mapping[str, Any], side: Side) -> Array:
    """The scores (n,) that a record was made from, float32 or float64; of a record from elsewhere those there.

    ValueError, in one line, where they are not there, or are not those.
    """
    try:
        return _read(path_of(folder, record, side), record, side)
    except ValueError:
        for other in elsewhere(folder):
            with contextlib.suppress(ValueError):
                return _read(path_of(other, record, side), record, side)
        raise


def _read(path: Path, record: Mapping[str, Any], side: Side) -> Array:
    n, digest = expected = _expected(record, side)
    try:
        stamp, content = files.stamp(path), read_regular(path, 16 * n + 4096)
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None
    if digest and hashlib.sha256(content).hexdigest() != digest:
        raise ValueError(f"{path}: not the scores that its record was made from")
    found = arrays.parse(content, str(path))
    if wrong := misfit(found, n):
        raise ValueError(f"{path}: {wrong}")
    if stamp is not None:
        if len(_sound) >= KNOWN:
            _sound.clear()
        _sound[path] = stamp, expected
    return found


def fit(folder: Path, record: Mapping[str, Any]) -> bool:
    """Whether both files of scores are there, as the record knows them; what has not changed is read once."""
    try:
        for side in SIDES:
            if not _is_known(path_of(folder, record, side), record, side):
                read(folder, record, side)
    except ValueError:
        return False
    return True


_sound: dict[Path, tuple[files.Stamp, Expected]] = {}  # files as they were when they were read last, and what fitted


def _is_known(path: Path, record: Mapping[str, Any], side: Side) -> bool:
    try:
        return _sound.get(path) == (files.stamp(path), _expected(record, side))
    except OSError:
        return False


def _expected(record: Mapping[str, Any], side: Side) -> Expected:
    return record[side]["n"], (record.get("scores") or {}).get(side)


def fault(folder: Path, record: Mapping[str, Any]) -> str:
    """The files of a record's scores that are there and are not those, in words; "" where there are none."""
    for path, side in ((path_of(folder, record, side), side) for side in SIDES):
        try:
            _read(path, record, side)
        except ValueError as why:
            if os.path.lexists(path):
                return f"{why}; they are written again"
    return ""


def misfit(scores: Array, n: int) -> str:
    """What keeps an array from being the scores of n images; "" where nothing does."""
    if scores.shape != (n,) or scores.dtype not in (np.float32, np.float64):
        return f"{scores.dtype} of shape {scores.shape} are not the scores of {n:,} images"
    return f"{int(np.isnan(scores).sum())} of its scores are NaN" if np.isnan(scores).any() else ""


def quantiles(scores: Array) -> list[float]:
    """The scores' quantiles at `LEVELS`, each to four significant digits of its own, and of their range."""
    ordered = np.sort(np.asarray(scores, dtype=np.float64))
    places = LEVELS * (len(ordered) - 1)
    low = places.astype(np.int64)
    below, above, share = ordered[low], ordered[np.minimum(low + 1, len(ordered) - 1)], places - low
    with np.errstate(invalid="ignore"):
        between = np.where(share < 0.5, below + (above - below) * share, above - (above - below) * (1 - share))
    found = np.where(np.isnan(between), below, between)  # between infinities
    finite = found[np.isfinite(found)]
    spread = float(np.ptp(finite)) if len(finite) else 0.0
    return [_rounded(value, spread) for value in found.tolist()]


def _rounded(value: float, spread: float) -> float:
    """Four digits of the value, or as many as show a 10,000th of the spread: far from 0 these are more."""
    size = min(abs(value), spread) or abs(value) or spread
    if not math.isfinite(value) or size == 0:
        return value
    return round(value, 3 - math.floor(math.log10(size)))
