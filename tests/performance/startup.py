"""Seconds from the command to its end: the help, the list, the suite `digits` from nothing and with nothing changed.

Each in a process of its own, imports included. The second run must redraw nothing: no figure is written again.
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
    started = time.perf_counter()
    subprocess.run([sys.executable, RUN_ALL, *arguments], capture_output=True, check=True)
    return time.perf_counter() - started


def main() -> None:
    given = paired.arguments(__doc__)
    with tempfile.TemporaryDirectory() as folder:
        there = ["--data", folder, "--weights", folder]
        digits = [*there, "--results", f"{folder}/results", "--cache", f"{folder}/cache", "--device", given.device]
        first = seconds(digits)
        drawn = {path: path.stat().st_mtime_ns for path in Path(folder, "results").rglob("figures/**/*.p*")}
        taken = {
            "`--help`": median(seconds(["--help"]) for _ in range(ROUNDS)),
            "`--list`": median(seconds([*there, "--list"]) for _ in range(ROUNDS)),
            "the suite `digits`, from nothing": first,
            "the suite `digits`, nothing changed": median(seconds(digits) for _ in range(ROUNDS)),
        }
        redrawn = sum(path.stat().st_mtime_ns != before for path, before in drawn.items())
    targets = {"`--help`": "0.5", "`--list`": "3", "the suite `digits`, nothing changed": "5"}
    rows = [(name, took, targets.get(name, "-")) for name, took in taken.items()]
    title = f"From the command to its end ({redrawn} of {len(drawn)} figures redrawn when nothing has changed)"
    heads = ("python run_all.py", "seconds", "target, below")
    paired.finish(title, heads, rows, given.device, full=given.full, seconds=taken, redrawn=redrawn)


if __name__ == "__main__":
    main()
