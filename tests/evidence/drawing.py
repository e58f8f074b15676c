"""Draws the curve of `tests.evidence.curve` beside the reference's: mean AUROC over the OOD sets against steps.

    python -m tests.evidence.drawing --folder RESULTS_FOLDER

RESULTS_FOLDER: that of `cifar10-dlsr-long` whose records have the simple detectors on the same features.
"""

import argparse
from pathlib import Path
from typing import Any

import pandas as pd

from benchmark.canvas import COLOURS, GREY, canvas
from benchmark.quoted import trained
from benchmark.records import records

ROOT = Path(__file__).parents[2] / "results"
SIMPLE = {"mahalanobis-layers": "a Gaussian", "knn-layers": "kNN"}  # on the features that DLSR reads


def main() -> None:
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--folder", type=Path, required=True)
    given = parse.parse_args()
    ours = _curve(ROOT / "evidence" / "dlsr-curve.csv")
    theirs = _curve(ROOT / "reference" / "dlsr_h200_curve.csv")
    with canvas(ROOT / "pictures" / "dlsr-curve.png", (7.7, 3.5)) as figure:
        left, right = figure.subplots(1, 2, sharey=True)
        figure.subplots_adjust(left=0.075, right=0.975, bottom=0.14, top=0.8, wspace=0.06)
        _panel(left, ours, _ours(given.folder), "ResNet-20 of CIFAR-10's classes, this project")
        _panel(right, theirs, _theirs(), "EfficientNet-Lite0 of ImageNet, reference (H200)")
        left.set_ylabel("mean AUROC over 11 OOD sets, %")
        figure.suptitle("DLSR against training steps, CIFAR-10, three trainings", y=0.985)
        figure.legend(
            *left.get_legend_handles_labels(), loc="upper center", ncols=5, frameon=False, bbox_to_anchor=(0.5, 0.94)
        )


def _curve(path: Path) -> pd.DataFrame:
    """Mean over sets, of each measure, seed and number of steps; LR with the code's sign.

    LR from 1,000 steps on: soon after the first epoch its two networks are nearly one.
    """
    of_seed = trained.native(path).groupby(["measure", "seed", "steps"]).auroc.mean().reset_index()
    return of_seed[(of_seed.measure != "lr") | (of_seed.steps >= 1_000)]


def _ours(folder: Path) -> dict[str, float]:
    found = [(r["row"].partition("@")[0], 100 * r["metrics"]["auroc"]) for r in records.read_all(folder)]
    table = pd.DataFrame(found, columns=["row", "auroc"]).groupby("row").auroc.mean()
    return {title: float(table[row]) for row, title in SIMPLE.items()}


def _theirs() -> dict[str, float]:
    found = pd.read_csv(ROOT / "reference" / "dlsr_h200_controls.csv").query("resolution == 'native'")
    found = found[~found["set"].isin(trained.CONTROLS)]
    table = found.groupby("row").auroc.mean()
    return {title: float(table[f"{row}@imagenet"]) for row, title in SIMPLE.items()}


def _panel(axes: Any, curve: pd.DataFrame, simple: dict[str, float], title: str) -> None:
    for (measure, label), colour in zip(trained.SCORES.items(), COLOURS, strict=False):
        first = True
        for _, line in curve[curve.measure == measure].groupby("seed"):
            axes.plot(line.steps, line.auroc, marker="o", markersize=2.5, color=colour, label=label if first else None)
            first = False
    for (name, value), style in zip(simple.items(), ("--", ":"), strict=True):
        axes.axhline(value, color="0.15", linestyle=style, label=f"{name} on the same features")
    axes.set_xscale("log")
    axes.set_ylim(78, 99)
    axes.set_xticks([391, 1000, 2000, 5000, 10000, 20000, 58650], ["391", "1k", "2k", "5k", "10k", "20k", "59k"])
    axes.minorticks_off()
    axes.set_xlabel("steps of 128 images (391: one epoch)")
    axes.set_title(title)
    axes.grid(axis="y", color=GREY, linewidth=0.5)


if __name__ == "__main__":
    main()
