"""What the performance scripts share: runs in turn, ratios of pairs, and what they were measured on.

Each script prints a table for people and, as its last line, one JSON object. Other work on the machine makes all of
them slower alike, so what counts are the ratios, each the median over pairs of runs that followed one another.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from benchmark.records import provenance
from methods.encoders.networks import cifar

MEAN, STD = [0.49, 0.48, 0.45], [0.25, 0.24, 0.26]
Seconds = dict[str, list[float]]


def parser(description: str | None) -> argparse.ArgumentParser:
    """The flags of every script."""
    parse = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--full", action="store_true", help="whole sizes (default: reduced, minutes)")
    parse.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ... (default: auto)")
    parse.add_argument(
        "--data",
        type=Path,
        default=os.environ.get("OOD_DATA"),
        help="the folder of data sets (default: $OOD_DATA; without it, embedded images)",
    )
    return parse


def arguments(
    description: str | None, *, methods: Sequence[str] = (), numbers: Sequence[tuple[str, int | None]] = ()
) -> argparse.Namespace:
    """`full`, `device` and `data` of the command line, and the `methods` named, by default all of them.

    numbers: (flag, default) of a script's own.
    """
    parse = parser(description)
    for flag, default in numbers:
        parse.add_argument(flag, type=int, default=default, metavar="N")
    if methods:
        parse.add_argument("methods", nargs="*", metavar="METHOD", help="only these (default: all)")
    given = parse.parse_args()
    if methods and (unknown := set(given.methods) - set(methods)):
        parse.error(f"no method {', '.join(sorted(unknown))} here; there are {', '.join(methods)}")
    if methods and not given.methods:
        given.methods = list(methods)
    if given.device == "auto":
        given.device = "cuda" if torch.cuda.is_available() else "cpu"
    return given


def interleaved(rounds: int, work: Mapping[str, Callable[[], object]], *, device: str = "cpu") -> Seconds:
    """Seconds of each piece of work, `rounds` times, in turn, so that what else the machine does hits all alike."""
    seconds: Seconds = {name: [] for name in work}
    for name in turns(rounds, list(work)):
        _wait(device)
        start = time.perf_counter()
        work[name]()
        _wait(device)
        seconds[name].append(time.perf_counter() - start)
    return seconds


def turns(rounds: int, names: Sequence[str]) -> Iterator[str]:
    """Each name `rounds` times, in turn, every second round backwards."""
    for number in range(rounds):
        yield from names if number % 2 == 0 else reversed(names)


def save_classifier(path: Path, architecture: str = "resnet18") -> Path:
    """A checkpoint of one of the project's networks with random weights."""
    torch.manual_seed(0)
    network = cifar.build(architecture, 10)
    save_file(network.state_dict(), path, metadata={"mean": str(MEAN), "std": str(STD)})
    return path


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """The median ratio of pairs of runs."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Columns that line up: the first to the left, numbers to the right; also a table in Markdown."""
    cells = [[_text(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in (heads, *cells)) for column in range(len(heads))]

    def line(row: Sequence[str]) -> str:
        padded = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
        return f"| {' | '.join([row[0].ljust(widths[0]), *padded[1:]])} |"

    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join([line(heads), f"| {' | '.join(rule)} |", *map(line, cells)])


def _text(cell: object) -> str:
    if not isinstance(cell, float):
        return str(cell)
    return f"{cell:,.3g}" if abs(cell) < 100 else f"{cell:,.0f}"


def finish(title: str, heads: Sequence[str], rows: Sequence[Sequence[object]], device: str, **result: Any) -> None:
    """Print the table, and as the last line `result` with title, table, machine, versions and date as JSON."""
    machine = provenance.machine(device if device.startswith("cuda") else "cpu")
    versions = machine.pop("versions")
    shown = table(heads, rows)
    print(f"{title}\n\n{shown}\n")
    line = {"title": title, "table": shown, **result, "device": device, "machine": machine, "versions": versions}
    print(json.dumps(line | {"date": datetime.now(UTC).isoformat(timespec="seconds")}))
