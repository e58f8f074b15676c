"""What a whole table takes beyond the bare forward pass on a GPU, where a share of a short pass says little.

With the images of both in memory, on 4,500 images and on all; and pytorch-ood in a process of its own, with torch's
settings and its best batch size.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from tests.performance import paired, peer
from tests.performance.peer import ROWS, Figures
from tests.performance.table import Limits, Table

BATCHES = (64, 256, 1024)  # of which the peer takes the best; this project, and the bare forward, the last


def interleaved(made: Table, rounds: int) -> tuple[paired.Seconds, Figures]:
    """Seconds of the bare forward pass and of our whole table, in turn, with the images of both in memory."""
    found: Figures = {}
    planned = made.plan(made.folder / "planned")

    def ours() -> None:
        shutil.rmtree(made.folder / "planned", ignore_errors=True)
        found.update(made.ours(planned))

    ours()
    made.encoder()
    return paired.interleaved(rounds, {"encoder": made.encoder, "ours": ours}, device=made.device), found


def alone(made: Table, batches: Sequence[int]) -> dict[str, Any]:
    """What pytorch-ood takes in a process of its own, with torch's settings and the best of these batch sizes."""
    peer.write(made.sets, made.architecture, made.weights, made.folder)
    command = [sys.executable, "-m", "tests.performance.peer", str(made.folder), made.device, *map(str, batches)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def on_some(given: argparse.Namespace, limits: Limits, rounds: int, network: str) -> None:
    """Seconds beyond the bare forward pass, and the peer by itself."""
    with tempfile.TemporaryDirectory() as folder:
        made = Table(Path(folder), given.data, given.device, limits, BATCHES[-1], network)
        seconds, found = interleaved(made, rounds)
        theirs = alone(made, BATCHES)
    peer_row = (f"pytorch-ood, cached, in its own process, batch {theirs['batch']}", theirs["seconds"], "-")
    differences = {
        method: max(abs(found[cell] - theirs["auroc"][" ".join(cell)]) for cell in found if cell[0] == method)
        for method in ROWS
    }
    _tell_beyond(
        made,
        seconds,
        [peer_row],
        given,
        peer_ratio_own=theirs["seconds"] / median(seconds["ours"]),
        auroc_differences=differences,
        seconds={"ours": seconds, "peer": theirs["of"]},
    )


def on_all(given: argparse.Namespace, rounds: int, network: str) -> None:
    """Seconds beyond the bare forward pass on all images of the sets."""
    with tempfile.TemporaryDirectory() as folder:
        made = Table(Path(folder), given.data, given.device, Limits(None, None), BATCHES[-1], network)
        seconds, _ = interleaved(made, rounds)
    _tell_beyond(made, seconds, [], given, seconds={"ours": seconds})


def _tell_beyond(
    made: Table, taken: paired.Seconds, more: list[tuple[Any, ...]], given: argparse.Namespace, **figures: Any
) -> None:
    rows = [
        (f"bare encoder forward, {made.images:,} images", median(taken["encoder"]), "-"),
        (f"this project, {made.images:,} images", median(taken["ours"]), _beyond(taken)),
        *more,
    ]
    paired.finish(
        f"The whole table beyond the bare forward: {len(ROWS)} methods, {made.name} and {len(made.ood)} OOD sets, "
        f"{made.architecture} at 32, {made.images:,} images in memory",
        ("who", "seconds", "beyond the bare forward"),
        rows,
        given.device,
        full=given.full,
        images=made.images,
        beyond_seconds=_beyond(taken),
        **figures,
    )


def _beyond(seconds: paired.Seconds) -> float:
    return median(ours - bare for ours, bare in zip(seconds["ours"], seconds["encoder"], strict=True))
