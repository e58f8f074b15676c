"""Results with their provenance: one JSON file for one row, one OOD set and one seed; one for a row's speed."""

import gzip
import json
import pickle
import sys
import zlib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from benchmark.metrics import METRICS
from benchmark.records import fitting, form, merging, score_files
from benchmark.records.names import elsewhere, path_of, speed_path, thresholds_path
from benchmark.records.provenance import without_folders
from benchmark.store import files
from benchmark.store.files import write_atomically
from datasets.files import open_regular

SCHEMA = 1
PACKED = "records.jsonl.gz"
PACKED_BYTES = 64 << 20  # of a packed file's lines, unpacked
SHORTEST = 512  # bytes of a record: a shorter line takes as much, so that there are not millions of them
KNOWN = 5_000  # records that stay in memory
TOLD = 20  # damaged lines of it that are named; others are counted
Record = dict[str, Any]


def result(about: Mapping[str, Any], key: str, status: str, reason: str = "", **more: Any) -> Record:
    """The record of one cell: what it is about, how it ended, and `more`: its numbers, where it has any.

    `status`: done, failed, skipped or interrupted; only `done` is ever reused.
    """
    empty = dict.fromkeys(("metrics", "intervals", "accuracy", "knn_accuracy", "bits_per_dimension", "provenance"))
    head = {"schema": SCHEMA, "kind": "result", "key": key, "status": status, "reason": reason}
    return {**head, **about, **empty, **more}


def write(path: Path, record: Record, *, durable: bool = True) -> None:
    """Write a record with its checksum, each of its fields a line; `durable`: it is worth a wait for the disk."""
    fields = sorted(files.sealed(record).items())
    lines = (f"{json.dumps(name)}: {json.dumps(value, sort_keys=True)}" for name, value in fields)
    write_atomically(path, "{\n" + ",\n".join(lines) + "\n}\n", within=path.parents[2], durable=durable)


def place(folder: Path, record: Record) -> Path:
    """The file of a record below a results folder."""
    if record["kind"] == "speed":
        return speed_path(folder, record["row"])
    if record["kind"] == "thresholds":
        return thresholds_path(folder, record["row"], record["seed"])
    return path_of(folder, record["row"], record["ood"]["name"], record["seed"])


def read(path: Path) -> Record | None:
    """A record; None where there is none, or it is damaged, or that of another cell."""
    try:
        return _read(path)
    except (OSError, ValueError):
        return None


def fault(path: Path) -> str:
    """The record there, and what is wrong with it, in words; "" where nothing is, or there is none."""
    return files.fault(path, _read, "measured")


_known: dict[Path, tuple[files.Stamp, bytes]] = {}  # records as they were read last, pickled: each reader has its own


def _read(path: Path) -> Record:
    stamp, known = files.stamp(path), _known.get(path)
    if known is not None and known[0] == stamp:
        again: Record = pickle.loads(known[1])
        return again
    record = _checked(files.read_sealed(path))
    if place(path.parents[2], record) != path:
        raise ValueError("it is the record of another cell")
    if stamp is not None:
        if len(_known) >= KNOWN:
            _known.clear()
        _known[path] = stamp, pickle.dumps(record)
    return record


def _checked(record: Record) -> Record:
    """The record, if it has the form that tables and figures read; ValueError, in a few words, where it has not."""
    try:
        form.check(record)
    except ValidationError as error:
        fault = error.errors()[0]
        raise ValueError(f"it has another form: {'.'.join(map(str, fault['loc']))[:60]}") from None
    if record.get("schema") != SCHEMA:
        raise ValueError("it is of another version")
    return record


def done(path: Path, key: str) -> Record | None:
    """The record there, if it is the result of the job with this key."""
    record = read(path)
    return record if record is not None and record["status"] == "done" and record["key"] == key else None


def read_all(folder: Path) -> list[Record]:
    """The records below a results folder that may stand beside each other; stderr is told which are left out."""
    read, damaged = load(folder)
    found, others = fitting.split(read, {})
    if damaged:
        _say(f"note: {folder}: left out, because they are damaged: {'; '.join(damaged)}")
    if others:
        rows = ", ".join(sorted({record["row"] for record in others}))
        _say(f"note: {folder}: left out, because newer records are of other images or weights: {rows}")
    return found


@cache
def _say(line: str) -> None:
    print(line, file=sys.stderr)


def load(folder: Path) -> tuple[list[Record], list[str]]:
    """Every sound record, by their names, or of a published folder; and what was left out, and why.

    Those of other machines (`names.elsewhere`) come first, one a cell: this one's own stands behind, or in its place.
    """
    found, left_out = _load(folder)
    for other in reversed(elsewhere(folder)):
        more, why = _load(other)
        found = merging.merged(found, more, lambda record: place(folder, record))
        left_out += [f"{other.relative_to(folder)}/{line}" for line in why]
    return found, left_out


def differing(folder: Path) -> list[str]:
    """The cells that another machine has under the same key with other numbers, and those of either, in words."""
    others = elsewhere(folder)
    own = {(place(folder, record), record["key"]): record for record in (_load(folder)[0] if others else ())}
    return [
        f"{words} in {other.relative_to(folder)}"
        for other in others
        for record in _load(other)[0]
        if (mine := own.get((place(folder, record), record["key"]))) and (words := merging.difference(mine, record))
    ]


def _load(folder: Path) -> tuple[list[Record], list[str]]:
    found: list[Record] = []
    left_out: list[str] = []
    for path in sorted((folder / "records").glob("*/*.json")):
        try:
            found.append(_completed(_read(path), folder))
        except (OSError, ValueError) as why:
            left_out.append(f"{path.relative_to(folder)}: {why}")
    number = damaged = 0
    try:
        for number, line in enumerate(_lines(folder / PACKED), start=1):
            try:
                found.append(_checked(files.parse(line)))
            except ValueError as why:
                damaged += 1
                if damaged <= TOLD:
                    left_out.append(f"{PACKED}, line {number}: {why}")
    except FileNotFoundError:
        pass
    except (OSError, ValueError, EOFError, zlib.error) as why:
        left_out.append(f"{PACKED}, after line {number}: {' '.join(str(why).split())}")
    if damaged > TOLD:
        left_out.append(f"{PACKED}: {damaged - TOLD:,} other lines")
    return found, left_out


def _completed(record: Record, folder: Path) -> Record:
    """An old record with the metrics that it lacks, where the scores that it was made from are at hand."""
    lacking = [one for one in METRICS if record.get("metrics") and one.name not in record["metrics"]]
    if not lacking:
        return record
    try:
        scores = [score_files.read(folder, record, side) for side in score_files.SIDES]
    except ValueError:
        return record
    return {**record, "metrics": record["metrics"] | {one.name: one.function(*scores) for one in lacking}}


def _lines(path: Path) -> Iterator[bytes]:
    """The lines of a packed file. ValueError where they, or one of them, are too long to be records."""
    left = PACKED_BYTES
    with open_regular(path, PACKED_BYTES) as packed, gzip.open(packed) as file:
        while line := file.readline(files.SMALL + 1):
            left -= max(len(line), SHORTEST)
            if len(line) > files.SMALL or left < 0:
                raise ValueError("it is too long")
            yield line


def pack(folder: Path, path: Path) -> None:
    """All records of a results folder as one compressed file, a line each: what is committed, without this machine."""
    found = load(folder)[0]
    for record in found:
        record |= {"reason": without_folders(record["reason"])} if "reason" in record else {}
    lines = "".join(files.text(files.sealed(record)) for record in found)
    with files.replacing(path) as file:
        file.write(gzip.compress(lines.encode(), mtime=0))
