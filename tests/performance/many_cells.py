"""A suite of 60 rows x 20 sets: seconds of its jobs, by kind, and of its figures, drawn on all cores.

kNN with 60 values of k on the ResNet-8 that `digits` ships, against 20 folders of noise; without speeds. Reduced: 12 x
20. Beside the whole command: what its jobs took, and a --redraw, of which the figures alone are counted.
"""

import contextlib
import io
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import yaml
from PIL import Image

import run_all
from benchmark.jobs.base import Job
from benchmark.planning import suite
from benchmark.reporting import drawing
from benchmark.running import base
from tests.performance import paired

ROWS, SETS, IMAGES = 60, 20, 200


def write_suite(folder: Path, rows: int) -> Path:
    random = np.random.default_rng(0)
    ood = []
    for number in range(SETS):
        (where := folder / f"noise{number:02}").mkdir()
        for place in range(IMAGES):
            pixels = random.integers(40 + 10 * number, size=(32, 32), dtype=np.uint8)
            Image.fromarray(pixels).save(where / f"{place:03}.png")
        ood.append({"set": str(where), "group": "near" if number % 4 == 0 else "far"})
    network = yaml.safe_load((suite.SUITES / "digits.yaml").read_text())["encoders"]["resnet8"]
    shipped = str(suite.SUITES / network["settings"]["shipped"])
    (folder / Path(shipped).name).write_bytes(Path(shipped).read_bytes())
    knn = [{"name": f"k{k}", "method": "knn", "encoder": "resnet8", "settings": {"k": k}} for k in range(1, rows + 1)]
    content = {"title": "Many cells", "id": {"set": "digits"}, "ood": ood, "rows": knn}
    path = folder / "many.yaml"
    path.write_text(yaml.safe_dump({**content, "encoders": {"resnet8": network}}))
    return path


@contextlib.contextmanager
def timed(seconds: dict[str, float]) -> Iterator[None]:
    """Adds what each kind of job, and all drawing, takes."""
    carry, draw = base.carry, drawing.draw

    def carried(job: Job, *given: Any) -> base.Ended:
        start = time.perf_counter()
        ended = carry(job, *given)
        seconds[type(job).__name__] += time.perf_counter() - start
        return ended

    def drawn(*given: Any, **more: Any) -> None:
        start = time.perf_counter()
        draw(*given, **more)
        seconds["drawing"] += time.perf_counter() - start

    with patch("benchmark.running.here.carry", carried), patch.object(drawing, "draw", drawn):
        yield


def run(*arguments: str) -> tuple[float, dict[str, float]]:
    seconds: dict[str, float] = defaultdict(float)
    start = time.perf_counter()
    with timed(seconds), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        assert run_all.main(list(arguments)) == 0
    return time.perf_counter() - start, seconds


def main() -> None:
    given = paired.arguments(__doc__)
    rows = ROWS if given.full else ROWS // 5
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        where = ["--results", f"{name}/results", "--data", name, "--weights", name, "--device", "cpu", "--no-speed"]
        command = ["--id", str(write_suite(folder, rows)), *where]
        whole, jobs = run(*command)
        again, _ = run(*command)
        _, redrawn = run(*command, "--redraw")
    cells = rows * SETS
    lines = [(f"all jobs {kind}", taken, 1000 * taken / cells) for kind, taken in sorted(jobs.items())]
    lines += [("whole command", whole, 1000 * whole / cells), ("again, nothing changed", again, 1000 * again / cells)]
    lines.append(("all figures, drawn anew", redrawn["drawing"], 1000 * redrawn["drawing"] / cells))
    title = f"{rows} rows x {SETS} sets: {cells:,} cells"
    seconds = {name: taken for name, taken, _ in lines}
    paired.finish(title, ("", "seconds", "ms a cell"), lines, "cpu", full=given.full, seconds=seconds)


if __name__ == "__main__":
    main()
