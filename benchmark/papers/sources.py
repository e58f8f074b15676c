"""Where the records of a view are: in results of the same flags, else in committed ones; and what to run for them."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path

from benchmark.planning import suite as suites
from benchmark.planning.options import Options, results_folder
from benchmark.records import records, reference
from benchmark.records.frames import Record
from benchmark.records.names import folder_parts

PUBLISHED = reference.REFERENCE.parent / "published"


def folder_of(suite: str, options: Options, pretrained: str | None, rows: Iterable[str]) -> Path:
    """Where a suite's results are; `pretrained` goes before the options', and means nothing to some suites.

    Where nothing is measured with these flags: committed results of the suite, of whatever flags, if there are any;
    those with the most cells of `rows`, each named `suite/row`.
    """
    own = _own_folder(suite, options, pretrained)
    return own if _measured_there(own) else _committed(suite, options, pretrained, set(rows)) or own


def _own_folder(suite: str, options: Options, pretrained: str | None) -> Path:
    return results_folder(suite, replace(options, pretrained=_stand_in(suite, options, pretrained)))


def _stand_in(suite: str, options: Options, pretrained: str | None) -> str | None:
    return (pretrained or options.pretrained) if _stands_on_timm(suite) else None


@cache
def _stands_on_timm(suite: str) -> bool:
    return any(spec.kind == "pretrained" for spec in suites.read(suite).encoders.values())


def _measured_there(folder: Path) -> bool:
    return (folder / records.PACKED).is_file() or any(folder.glob("records/*/*.json"))


def _committed(suite: str, options: Options, pretrained: str | None, rows: set[str]) -> Path | None:
    """The committed folder with the most cells of these rows, then with the fewest flags.

    At this resolution and, where one is asked for, of this network.
    """
    model = _stand_in(suite, options, pretrained)
    fitting = []
    for folder in PUBLISHED.glob("*/*"):
        name, flags = folder_parts(folder)
        at_id = "resolution=id" in flags
        of_model = model is None or f"pretrained={model}" in flags
        if name == suite and of_model and at_id == (options.resolution == "id") and _measured_there(folder):
            cells = sum(count for row, count in _done(folder).items() if f"{suite}/{row}" in rows)
            fitting.append((-cells, len(flags), folder.name, folder))
    return min(fitting)[-1] if fitting else None


@cache
def _done(folder: Path) -> Counter[str]:
    """How many cells of each row a committed folder has: every view asks, and its records take a while to read."""
    return Counter(record["row"] for record in records.read_all(folder) if record["status"] == "done")


def measured(options: Options, rows: Iterable[str], pretrained: str | None) -> list[Record]:
    """The records of rows named `suite/row`, from the folders of `folder_of`, under these names."""
    found: list[Record] = []
    rows = list(rows)
    wanted = set(rows)
    for suite in _suites(rows):
        for record in records.read_all(folder_of(suite, options, pretrained, rows)):
            name = f"{suite}/{record['row']}"
            if name in wanted or record.get("method") == "lowlevel":  # what marks a set as separable
                found.append({**record, "row": name})
    return found


def borrowed(options: Options, rows: Iterable[str], pretrained: str | None) -> list[str]:
    """A note for each suite whose committed results are shown, because nothing is measured with these flags."""
    rows, notes = list(rows), []
    for suite in _suites(rows):
        folder = folder_of(suite, options, pretrained, rows)
        if folder != _own_folder(suite, options, pretrained):
            where = folder.relative_to(PUBLISHED.parent.parent)
            notes.append(f"Nothing of {suite} is measured with these flags: shown is what is committed in {where}.")
    return notes


def command(options: Options, rows: Iterable[str], pretrained: str | None = None) -> str:
    """What to run for rows named `suite/row`, with the flags of these options."""
    rows = list(rows)
    lines = []
    for suite in _suites(rows):
        labels = [row.partition("/")[2] for row in dict.fromkeys(rows) if row.partition("/")[0] == suite]
        words = ["run_all.py", "--id", suite, "--methods", *labels]
        for flag, value, default in (
            ("--pretrained", _stand_in(suite, options, pretrained), None),
            ("--resolution", options.resolution, "native"),
            ("--precision", options.asked, None),
            ("--limit", options.limit, None),
            ("--limit-train", options.limit_train, None),
        ):
            words += [flag, str(value)] if value != default else []
        lines.append(" ".join(words + ["--quick"] * options.quick))
    return "; ".join(lines)


def _suites(rows: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(row.partition("/")[0] for row in rows))
