"""Tables of a suite: each row against each of its OOD sets."""

from collections.abc import Mapping, Sequence
from math import isnan
from typing import Any

import pandas as pd

from benchmark.planning import suite as suites
from benchmark.quoted.committed import PUBLISHED, markdown, results, view
from benchmark.records import records, reference
from benchmark.records.frames import ALL, FAR, NEAR, is_sanity, lines_of
from benchmark.records.shortcuts import separable

DOZEN = (
    "msp", "ebo", "dice", "klm", "vim", "mahalanobis", "knn", "pca", "autoencoder", "dlsr-mse", "dlsr-mfsim",
    "lowlevel",
)  # fmt: skip


def digits(folder: str = "digits", rows: Sequence[str] = ()) -> str:
    """The embedded suite: each row against each OOD set, and the average. `rows`: their names, where not all."""
    found = list(records.read_all(PUBLISHED / "cpu" / folder))
    shown = view(found)
    marked = separable(found)
    columns = [
        (name, f"{title}{' (near)' if group == 'near' else ''}{' †' if name in marked else ''}")
        for name, title, group in shown.near_first()
        if group != "control"
    ]
    lines = lines_of(found, shown)
    head = ["row", *(title for _, title in columns), "average"]
    body = []
    for row, title, _ in sorted(shown.rows, key=lambda row: is_sanity(row[0])):
        if rows and row.partition("@")[0] not in rows:
            continue
        cells = [lines[row, name] for name in (*(name for name, _ in columns), ALL)]
        body.append([title, *(f"{c['auroc']:.1f} ±{_spread(c):.1f} / {c['fpr95']:.1f}" for c in cells)])
    return markdown(head, body)


def _spread(cell: Mapping[str, Any]) -> float:
    """The standard deviation over seeds; half the interval where there is one seed."""
    return float((cell["auroc_high"] - cell["auroc_low"]) / 2 if isnan(cell["auroc_std"]) else cell["auroc_std"])


# the rows that a reason of results/OPENOOD.md explains
_WHY = {
    "a": {"react", "scale", "fdbd", "odin", "i-odin", "adascale-a", "adascale-l"},
    "b": {"klm", "gram", "combood"},
    "c": {"scale", "ash-b", "dice", "gradnorm", "mahalanobis", "rankfeat"},
}


def openood(folder: str = "openood-cifar10", network: str = "resnet18") -> str:
    """Rows on a network at hand: near averages, the leaderboard's in brackets, and each set."""
    found = [r for r in results(folder) if r["encoder"].startswith(network) and r["status"] == "done"]
    shown = view(found)
    lines = lines_of(found, shown)
    body = []
    for row, title, _ in shown.rows:
        near, name = lines[row, NEAR], row.partition("@")[0].partition(":")[0]
        beside = [_beside(near[metric], near[f"published_{metric}"]) for metric in ("auroc", "fpr95_ood")]
        apart = near["auroc"] - near["published_auroc"]
        why = [letter for letter, rows in _WHY.items() if name in rows]
        of_sets = (f"{lines[row, ood]['auroc']:.1f}" for ood, _, _ in shown.near_first())
        body.append([title, *beside, "" if isnan(apart) else " ".join([f"{round(apart, 1) + 0:+.1f}", *why]), *of_sets])
    titles = (title for _, title, _ in shown.near_first())
    return markdown(["row", "near AUROC", "near FPR95 (OOD)", "difference", *titles], body)


def other_network(limit_train: int) -> str:
    """CIFAR-100's rows on a DenseNet, and what the leaderboard has for the same rows on its ResNet-18."""
    folder = f"openood-cifar100+limit=500+limit-train={limit_train}"
    found = [r for r in results(folder) if r["status"] == "done"]
    shown = view(found)
    lines = lines_of(found, shown)
    rows = suites.read("openood-cifar100").rows
    names = {row.label.partition("@")[0]: row.published or "" for row in rows if row.encoder.startswith("openood")}
    near = pd.read_csv(reference.REFERENCE / "openood_cifar100.csv").query("ood == 'near'")
    theirs = {
        (method, metric): value for method, metric, value in zip(near.method, near.metric, near.value, strict=True)
    }
    body = []
    for row, title, _ in shown.rows:
        ours, published = lines[row, NEAR], names[row.partition("@")[0].partition(":")[0]]
        beside = [f"{theirs[published, m]:.1f}" if (published, m) in theirs else "" for m in ("AUROC", "FPR95_OOD")]
        of_sets = (f"{lines[row, ood]['auroc']:.1f}" for ood, _, _ in shown.near_first())
        body.append([title, f"{ours['auroc']:.1f}", beside[0], f"{ours['fpr95_ood']:.1f}", beside[1], *of_sets])
    titles = (title for _, title, _ in shown.near_first())
    head = ["row", "near AUROC", "ResNet-18's", "near FPR95 (OOD)", "ResNet-18's", *titles]
    return markdown(head, body)


def oal() -> str:
    """What outliers add to a classifier's head, arm by arm, and the leaderboard's numbers for the same networks."""
    (folder,) = PUBLISHED.glob("cpu/cifar10-oal-frozen*")
    found = [r for r in results(folder.name) if r["status"] == "done"]
    shown = view(found)
    lines = lines_of(found, shown)
    accuracy = {r["row"]: 100 * r["accuracy"] for r in found}
    body = []
    for row, title, encoder in shown.rows:
        means = (_beside(mean["auroc"], mean["published_auroc"]) for mean in (lines[row, NEAR], lines[row, FAR]))
        of_sets = (f"{lines[row, ood]['auroc']:.1f}" for ood, _, _ in shown.near_first())
        body.append([f"{title}, {encoder}", *means, *of_sets, f"{accuracy[row]:.1f}"])
    titles = (title for _, title, _ in shown.near_first())
    return markdown(["row", "near average", "far average", *titles, "accuracy"], body)


def _beside(ours: float, theirs: float) -> str:
    return f"{ours:.1f}" if isnan(theirs) else f"{ours:.1f} ({theirs:.1f})"
