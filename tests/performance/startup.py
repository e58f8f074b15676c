"""Seconds from the command to its end: the help, the list, the suite `digits` from nothing and with nothing changed.

Each in a process of its own, imports included; of `digits` from nothing also until its table is shown. The second run
must redraw nothing: no figure is written again. Below what they stand on: python and its largest imports alone.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from tests.performance import paired

RUN_ALL = Path(__file__).parents[2] / "run_all.py"
ROUNDS = 5


def seconds(arguments: Sequence[str]) -> float:
    """Of a run."""
    return until([str(RUN_ALL), *arguments])[1]


def until(arguments: Sequence[str]) -> tuple[float, float]:
    """Seconds to the first words on stdout, and to the end."""
    started = time.perf_counter()
    command = [sys.executable, "-u", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        process.stdout.read(1)
        first = time.perf_counter() - started
        process.stdout.read()
        if process.wait() != 0:
            raise SystemExit(f"{' '.join(command)} failed")
    return first, time.perf_counter() - started


def main() -> None:
    given = paired.arguments(__doc__)
    with tempfile.TemporaryDirectory() as folder:
        there = ["--data", folder, "--weights", folder]
        digits = [*there, "--results", f"{folder}/results", "--cache", f"{folder}/cache", "--device", given.device]
        table, first = until([str(RUN_ALL), *digits])
        drawn = {path: path.stat().st_mtime_ns for path in Path(folder, "results").rglob("figures/**/*.p*")}
        taken = {
            "`--help`": median(seconds(["--help"]) for _ in range(ROUNDS)),
            "`--list`": median(seconds([*there, "--list"]) for _ in range(ROUNDS)),
            "the suite `digits`, from nothing, its table": table,
            "the suite `digits`, from nothing": first,
            "the suite `digits`, nothing changed": median(seconds(digits) for _ in range(ROUNDS)),
        }
        for name, code in {"python": "", "torch": "import torch", "torch and pandas": "import torch, pandas"}.items():
            taken[f"{name} alone"] = median(until(["-c", code])[1] for _ in range(ROUNDS))
        redrawn = sum(path.stat().st_mtime_ns != before for path, before in drawn.items())
    targets = {"`--help`": "0.5", "`--list`": "1.5", "the suite `digits`, nothing changed": "3"}
    targets |= {"the suite `digits`, from nothing, its table": "20", "the suite `digits`, from nothing": "30"}
    rows = [(name, took, targets.get(name, "-")) for name, took in taken.items()]
    title = f"From the command to its end ({redrawn} of {len(drawn)} figures redrawn when nothing has changed)"
    heads = ("python run_all.py", "seconds", "target, below")
    paired.finish(title, heads, rows, given.device, full=given.full, seconds=taken, redrawn=redrawn)


if __name__ == "__main__":
    main()
