"""A whole table, by this project, by pytorch-ood, and the bare encoder forward that neither can do without.

MSP, energy, DICE, ASH, ReAct, Mahalanobis, kNN, MaxLogit and ViM on one ResNet-18 at 32 pixels, one ID and six OOD
sets: of --data those around CIFAR-10, else the embedded ones around the digits.

ours: from image files to records on disk (features, fits, scores, metrics with their intervals), as `run_all.py` does
    it, in an empty folder; no figures, and no pictures of what rows erred on, which are the page's.
pytorch-ood: its benchmark over the list of detectors with its cache on, with torch's settings and the batch size that
    is best for its forward pass. It is spared what it would have to pay for: its images are decoded, resized,
    normalised and in memory, its detectors fitted on features extracted once.
encoder: the forward pass of our encoder over each image once, at 32 pixels and in memory.

Each is a process of its own, and takes turns of a second with the forward pass, which goes on and on: how many images
went through it in the turns beside is what a table is as long as (`sliced`). A ratio is the median of some tables',
with the least and the greatest. Beside the nine: every post-hoc method of the registry (`floor_ratio_all`), and those
among them that search for neighbours (`floor_ratio_neighbours`), which the others are without. `--parts all` measures
these alone. What each method takes beyond the pass, by the records of the last table, is told as `beyond_the_pass`.

On a GPU (--device cuda): what the table takes beyond the pass (`beyond`).

Where the AUROC of both differ in the third digit: ViM, because pytorch-ood takes its covariance in float32 (its own
steps in float64 give our alpha); ASH, because two features of one image tie at the cut, and rounding breaks the tie.
With fewer training images than features Mahalanobis differs by more: its covariance is then singular, of which we take
the pseudo-inverse, and pytorch-ood the inverse with 1e-6 added.
"""

import os
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import torch

from tests.performance import beyond, paired, peer, sliced
from tests.performance.peer import ROWS
from tests.performance.table import LIMITS, Limits, Table, post_hoc

PARTS = ("nine", "all", "neighbours", "peer")
Given = tuple[Path | None, str, Limits]  # data, device, limits


def forward(tell: sliced.Tell, count: sliced.Count, given: Given) -> None:
    """The yardstick: images through the bare forward pass, on and on."""
    with tempfile.TemporaryDirectory() as folder:
        made = Table(Path(folder), *given)

        def add(images: int) -> None:
            count.value += images

        made.encoder()
        tell("ready")
        while True:
            made.encoder(add)


def tables(tell: sliced.Tell, count: sliced.Count, given: Given, rows: Sequence[str]) -> None:
    """Our tables of these methods, one after another."""
    with tempfile.TemporaryDirectory() as folder:
        made = Table(Path(folder), *given, rows=rows)
        made.ours()
        tell("ready")
        while True:
            made.encoded = 0
            found = made.ours()
            passes = made.encoded / made.images
            tell({"auroc": found, "passes": passes, "skipped": made.skipped, "beyond": made.beyond})


def peers(tell: sliced.Tell, count: sliced.Count, given: Given) -> None:
    """pytorch-ood's tables, one after another."""
    with tempfile.TemporaryDirectory() as folder:
        made = Table(Path(folder), *given)
        batch = peer.best_batch(made.network, made.train.x, made.device)
        tell("ready")
        while True:
            encoded: Counter[str] = Counter()
            found = peer.figures(made.sets, made.network, made.device, batch, encoded)
            tell({"auroc": found, "passes": encoded["peer"] / made.images, "batch": batch})


def measured(rounds: int, yardstick: sliced.Halted, target: Callable[..., None], *given: Any) -> list[sliced.Piece]:
    """So many tables beside the yardstick."""
    with sliced.Halted(target, *given) as work:
        return list(islice(sliced.pieces(work, yardstick), rounds))


def main() -> None:
    parse = paired.parser(__doc__)
    parse.add_argument("--rounds", type=int, default=3, help="tables of each kind (default: 3)")
    parse.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="what is measured (default: all)")
    given = parse.parse_args()
    given.device = "cuda" if given.device == "auto" and torch.cuda.is_available() else given.device
    given.device = given.device.replace("auto", "cpu")
    limits = Limits(None, None) if given.full else LIMITS
    if given.device.startswith("cuda"):
        beyond.on_some(given, limits, given.rounds, "resnet18")
        return
    with tempfile.TemporaryDirectory() as folder:
        made = Table(Path(folder), given.data, given.device, limits)
    how = given.data, given.device, limits
    others, searching = post_hoc()
    rows = {"nine": tuple(ROWS), "all": others, "neighbours": searching}
    with sliced.Halted(forward, how) as yardstick:
        of = {who: measured(given.rounds, yardstick, tables, how, rows[who]) for who in rows if who in given.parts}
        if "peer" in given.parts:
            of["peer"] = measured(1, yardstick, peers, how)  # it takes six times as long
    ratios = {who: [piece.length / made.images for piece in taken] for who, taken in of.items()}
    floor = {who: median(found) for who, found in ratios.items()}
    titles = {
        "nine": "this project",
        "all": f"this project, all {len(others)} post-hoc methods",
        "neighbours": f"this project, {len(searching)} that search for neighbours",
        "peer": "pytorch-ood, cached",
    }
    pieces = next(iter(of.values()))
    lines = [("bare encoder forward", made.images * median(p.beside / p.steps for p in pieces), 1.0, "-", 1.0)]
    for who, taken in of.items():
        interval = f"{min(ratios[who]):.3f} to {max(ratios[who]):.3f}"
        lines.append(
            (titles[who], median(piece.seconds for piece in taken), floor[who], interval, taken[0].told["passes"])
        )
    names = {"nine": "floor_ratio", "all": "floor_ratio_all", "neighbours": "floor_ratio_neighbours"}
    result: dict[str, Any] = {names[who]: value for who, value in floor.items() if who in names}
    if "nine" in of:
        result["encoder_passes"] = of["nine"][0].told["passes"]
    if {"nine", "peer"} <= set(of):
        ours, theirs = of["nine"][0].told["auroc"], of["peer"][0].told
        result |= {
            "peer_ratio": floor["peer"] / floor["nine"],
            "peer_batch": theirs["batch"],
            "peer_encoder_passes": theirs["passes"],
            "auroc_differences": {
                method: max(abs(ours[cell] - theirs["auroc"][cell]) for cell in ours if cell[0] == method)
                for method in ROWS
            },
        }
    told = {name: piece[-1].told for name, piece in of.items() if name != "peer"}
    paired.finish(
        f"The whole table: {len(ROWS)} methods, {made.name} and {len(made.ood)} OOD sets, {made.images:,} images, "
        "ResNet-18 at 32",
        ("who", "seconds", "x encoder", "from, to", "passes an image"),
        lines,
        given.device,
        full=given.full,
        images=made.images,
        **result,
        ratios=ratios,
        beyond_the_pass={
            who: dict(sorted(found["beyond"].items(), key=lambda of: -of[1])) for who, found in told.items()
        },
        skipped={method: why for found in told.values() for method, why in found["skipped"].items()},
        load=os.getloadavg()[1],
    )


if __name__ == "__main__":
    main()
