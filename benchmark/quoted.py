"""Tables of committed records in README.md and results/*.md, between `<!-- table: NAME -->` and `<!-- end -->`."""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import comb, isnan
from pathlib import Path
from statistics import fmean
from typing import Any

import pandas as pd

from benchmark.planning import suite as suites
from benchmark.records import records, reference
from benchmark.records.frames import ALL, FAR, NEAR, Record, View, frame, is_sanity, lines_of, spectral
from benchmark.records.paired import LEVEL
from benchmark.records.shortcuts import separable
from benchmark.reporting import report
from datasets import catalogue

ROOT = Path(__file__).parents[1]
PUBLISHED = ROOT / "results" / "published"
PAGES = (ROOT / "README.md", *(ROOT / "results" / name for name in ("README.md", "DLSR.md", "OPENOOD.md")))
TRIAL = "pretrained=tf_efficientnet_lite0"
SHORT = f"cifar10+{TRIAL}+limit=1000+limit-train=5000+quick"
SHORT_AT_ID = f"cifar10+{TRIAL}+resolution=id+limit=1000+limit-train=5000+quick"
SHORTER = f"cifar10-dlsr+{TRIAL}+limit=300+limit-train=2000+quick"
_TABLE = re.compile(r"(<!-- table: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def view(found: Sequence[Record]) -> View:
    """What there is of a suite, in its order, and behind it what was measured beside it."""
    results = [record for record in found if record["kind"] == "result"]
    suite = suites.read(results[0]["suite"])
    rows = {record["row"]: (record["row"], record["title"], record["encoder_title"]) for record in results}
    sets = {r["ood"]["name"]: (r["ood"]["name"], r["ood"]["title"], r["ood"]["group"]) for r in results}
    sets |= {column[0]: column for column in spectral(sets.values())}
    named = [row.label for row in suite.rows]
    places = [name for spec in suite.ood for name in (spec.set, spec.stand_in) if name is not None]
    absent = [
        (catalogue.get(spec.set).title, catalogue.get(spec.set).how_to_get)
        for spec in suite.ood
        if spec.group != "control" and spec.set not in sets
    ]
    return View(
        name=suite.name,
        title=suite.title,
        id_title=results[0]["id"]["title"],
        rows=sorted(rows.values(), key=lambda row: _place(row[0], named)),
        ood=sorted(sets.values(), key=lambda column: _place(column[0], places)),
        published=report.published(suite, sets, rows),
        metrics=suite.metrics,
        remarks=reference.remarks(row.published for row in suite.rows if row.published and row.label in rows),
        absent=absent,
        tests=comb(sum(not is_sanity(row) for row in {*named, *rows}), 2),
    )


def _place(name: str, order: Sequence[str]) -> int:
    return order.index(name) if name in order else len(order)


def filled(text: str) -> str:
    """A page with its tables as the committed records have them now."""
    return _TABLE.sub(lambda match: f"{match[1]}{TABLES[match[2]]()}{match[3]}", text)


_DOZEN = (
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
    lines = lines_of(frame(found, shown))
    head = ["row", *(title for _, title in columns), "average"]
    body = []
    for row, title, _ in sorted(shown.rows, key=lambda row: is_sanity(row[0])):
        if rows and row.partition("@")[0] not in rows:
            continue
        cells = [lines[row, name] for name in (*(name for name, _ in columns), ALL)]
        body.append([title, *(f"{c['auroc']:.1f} ±{_spread(c):.1f} / {c['fpr95']:.1f}" for c in cells)])
    return _markdown(head, body)


def _spread(cell: Mapping[str, Any]) -> float:
    """The standard deviation over seeds; half the interval where there is one seed."""
    return float((cell["auroc_high"] - cell["auroc_low"]) / 2 if isnan(cell["auroc_std"]) else cell["auroc_std"])


_ROWS = (
    "dlsr-mse@imagenet", "dlsr-mfsim@imagenet", "dlsr-lr@imagenet", "dlsr-lr-released@imagenet", "autoencoder@imagenet",
    "mahalanobis-layers@imagenet", "pca@imagenet", "knn-layers@imagenet", "layer_knn@imagenet", "cosine@imagenet",
    "ebo@probe", "msp@probe", "lowlevel@pixels",
)  # fmt: skip
_SETS = ("cifar100", "tiny_imagenet", "isun", "textures", "miniplaces")


def dlsr() -> str:
    """DLSR and simple detectors with CIFAR-10 as ID: AUROC / FPR95, and the averages at both resolutions."""
    native, at_id = (_cells(name) for name in (SHORT, SHORT_AT_ID))
    names, titles = _about(SHORT)
    every = _counted(SHORT)
    head = ["row", *(titles[name] for name in _SETS)]
    head += [f"average of {len(every)}", "the same, all images at 32 × 32", titles["enlarged"]]
    body = []
    for row in _ROWS:
        cells = [native[row, name] for name in _SETS]
        cells.append(_mean(native, row, every))
        there = all((row, name) in at_id for name in every)
        body.append(
            [names[row], *map(_figures, cells), _figures(_mean(at_id, row, every)) if there else "–",
             _figures(native[row, "enlarged"])]
        )  # fmt: skip
    return _markdown(head, body)


def signs() -> str:
    """LR with either sign after two trainings, on the sets that both are measured on."""
    runs = {"1,000 steps of 16 blocks": (SHORT, "dlsr-lr@imagenet", "dlsr-lr-released@imagenet"),
            "400 steps of 4 blocks": (SHORTER, "lr@imagenet", "lr-sign@imagenet")}  # fmt: skip
    sets = [name for name in _counted(SHORT) if name in _about(SHORTER)[1]]
    titles = [_about(SHORT)[1][name].removesuffix(" †") for name in sets]
    body = [
        [training, *(f"{_mean(_cells(folder), row, sets)[0]:.1f}" for row in rows)]
        for training, (folder, *rows) in runs.items()
    ]
    return _markdown([f"mean AUROC over {', '.join(titles)}", "the paper's sign", "the code's"], body)


# the rows that a reason of results/OPENOOD.md explains
_WHY = {
    "a": {"react", "scale", "fdbd", "odin", "i-odin", "adascale-a", "adascale-l"},
    "b": {"klm", "gram", "combood"},
    "c": {"scale", "ash-b", "dice", "gradnorm", "mahalanobis", "rankfeat"},
}


def openood(folder: str = "openood-cifar10", network: str = "resnet18") -> str:
    """Rows on a network at hand: near averages, the leaderboard's in brackets, and each set."""
    found = [r for r in _results(folder) if r["encoder"].startswith(network) and r["status"] == "done"]
    shown = view(found)
    lines = lines_of(frame(found, shown))
    body = []
    for row, title, _ in shown.rows:
        near, name = lines[row, NEAR], row.partition("@")[0].partition(":")[0]
        beside = [_beside(near[metric], near[f"published_{metric}"]) for metric in ("auroc", "fpr95_ood")]
        apart = near["auroc"] - near["published_auroc"]
        why = [letter for letter, rows in _WHY.items() if name in rows]
        of_sets = (f"{lines[row, ood]['auroc']:.1f}" for ood, _, _ in shown.near_first())
        body.append([title, *beside, "" if isnan(apart) else " ".join([f"{round(apart, 1) + 0:+.1f}", *why]), *of_sets])
    titles = (title for _, title, _ in shown.near_first())
    return _markdown(["row", "near AUROC", "near FPR95 (OOD)", "difference", *titles], body)


OTHER = "openood-cifar100+limit=500+limit-train=5000"


def other_network() -> str:
    """CIFAR-100's rows on a DenseNet, and what the leaderboard has for the same rows on its ResNet-18."""
    found = [r for r in _results(OTHER) if r["status"] == "done"]
    shown = view(found)
    lines = lines_of(frame(found, shown))
    rows = suites.read("openood-cifar100").rows
    names = {row.label.partition("@")[0]: row.published or "" for row in rows if row.encoder.startswith("openood")}
    near = pd.read_csv(reference.REFERENCE / "openood_cifar100.csv").query("ood == 'near'")
    theirs = {
        (method, metric): value for method, metric, value in zip(near.method, near.metric, near.value, strict=True)
    }
    body = []
    for row, title, _ in shown.rows:
        ours, published = lines[row, NEAR], names[row.partition("@")[0]]
        beside = [f"{theirs[published, m]:.1f}" if (published, m) in theirs else "" for m in ("AUROC", "FPR95_OOD")]
        of_sets = (f"{lines[row, ood]['auroc']:.1f}" for ood, _, _ in shown.near_first())
        body.append([title, f"{ours['auroc']:.1f}", beside[0], f"{ours['fpr95_ood']:.1f}", beside[1], *of_sets])
    titles = (title for _, title, _ in shown.near_first())
    head = ["row", "near AUROC", "ResNet-18's", "near FPR95 (OOD)", "ResNet-18's", *titles]
    return _markdown(head, body)


def _beside(ours: float, theirs: float) -> str:
    return f"{ours:.1f}" if isnan(theirs) else f"{ours:.1f} ({theirs:.1f})"


LONG = "cifar10-dlsr-long"
EVIDENCE = ROOT / "results" / "evidence"
_LONG_ROWS = (
    "dlsr-mse", "dlsr-mfsim", "dlsr-lr", "dlsr-lr-released", "dlsr-mse-first", "dlsr-mfsim-first", "mse-released",
    "mfsim-released", "lr-released", "mahalanobis-layers", "knn-layers", "pca", "autoencoder",
)  # fmt: skip


def trained() -> str:
    """DLSR trained to its end, and simple detectors on the very features: averages at both resolutions."""
    lines = {}
    for folder in (LONG, f"{LONG}+resolution=id"):
        found = list(records.read_all(PUBLISHED / "cpu" / folder))
        shown = view(found)
        titles = {row.partition("@")[0]: title for row, title, _ in shown.rows}
        lines[folder] = {
            (row.partition("@")[0], ood): line for (row, ood), line in lines_of(frame(found, shown)).items()
        }
    native, at_id = lines.values()
    body = [
        [
            titles[row],
            *(_of_trainings(native.get((row, mean))) for mean in (NEAR, FAR, ALL)),
            _of_trainings(at_id.get((row, ALL))),
        ]
        for row in _LONG_ROWS
        if (row, ALL) in native
    ]
    return _markdown(["row", "near average", "far average", "average", "the same, all images at 32 × 32"], body)


def _of_trainings(line: Mapping[str, Any] | None) -> str:
    """AUROC, with its standard deviation over trainings where there are several."""
    if line is None:
        return "–"
    return f"{line['auroc']:.1f}" + ("" if isnan(line["auroc_std"]) else f" ±{line['auroc_std']:.1f}")


STEPS = (391, 1_000, 2_000, 5_000, 10_000, 20_000, 40_000, 58_650)


def steps() -> str:
    """Mean AUROC over the sets against training steps: mean and standard deviation of three trainings."""
    curve = pd.read_csv(EVIDENCE / "dlsr-curve.csv").query("resolution == 'native'")
    of_seed = curve.groupby(["measure", "steps", "seed"]).auroc.mean().reset_index()
    of_seed["about"] = [min(STEPS, key=lambda near: abs(near - at) / near) for at in of_seed.steps]
    of_seed["off"] = (of_seed.steps - of_seed.about).abs()  # of checkpoints about as old the nearest one
    of_seed = of_seed.sort_values("off").drop_duplicates(["measure", "seed", "about"])
    of_seed.loc[of_seed.measure == "lr", "auroc"] = 100 - of_seed.auroc[of_seed.measure == "lr"]
    table = of_seed.groupby(["measure", "about"]).auroc.agg(["mean", "std"])
    cells = {key: f"{mean:.1f} ±{std:.1f}" for key, mean, std in table.itertuples() if not isnan(std)}
    titles = {"mse": "MSE", "mfsim": "MFsim", "lr": "LR, the code's sign"}
    body = [[title, *(cells.get((measure, at), "–") for at in STEPS)] for measure, title in titles.items()]
    return _markdown(["about steps", *(f"{at:,}" for at in STEPS)], body)


def against() -> str:
    """In how many of the tests each score of DLSR is better than a simple detector, worse, or neither."""
    tests = pd.read_csv(EVIDENCE / "dlsr-against.csv")
    tests["verdict"] = [_verdict(*line) for line in zip(tests.difference, tests.p_holm, strict=True)]
    detectors = {
        "mahalanobis-layers": "a Gaussian",
        "pca": "PCA",
        "knn-layers": "kNN",
        "autoencoder": "the autoencoder",
    }
    scores = {"dlsr-mse": "MSE", "dlsr-mfsim": "MFsim", "dlsr-lr": "LR", "dlsr-lr-released": "LR, the code's sign"}
    body = []
    for score, title in scores.items():
        of_score = tests[tests.score == score]
        found = [Counter(of_score.verdict[of_score.detector == detector]) for detector in detectors]
        body.append([title, *(f"{n['better']} / {n['worse']} / {n['neither']}" for n in found)])
    return _markdown(["better / worse / neither", *detectors.values()], body)


def why() -> str:
    """What the errors of DLSR rank as: correlation with the distance and its parts, and the AUROC of each."""
    lines = pd.read_csv(EVIDENCE / "dlsr-why.csv", keep_default_na=False)
    mean = lines.groupby(["what", "of"]).value.mean()
    on_id = lines[lines["set"] == ""].groupby(["what", "of"]).value.mean()
    parts = {"distance": "the whole distance"}
    parts |= {f"distance, band {band}": f"a quarter of its directions, {which}" for band, which in _BANDS.items()}
    body = []
    for part, title in parts.items():
        correlations = (f"{on_id[f'spearman {measure}', part]:+.2f}" for measure in ("mse", "mfsim", "lr"))
        body.append([title, f"{mean['auroc', part]:.1f}", *correlations])
    return _markdown(["", "mean AUROC alone", "rank correlation with MSE", "with MFsim", "with LR"], body)


_BANDS = {1: "of most ID variance", 2: "the next", 3: "the next again", 4: "of least ID variance"}


def _verdict(difference: float, p: float) -> str:
    if p >= LEVEL:
        return "neither"
    return "better" if difference > 0 else "worse"


def _results(folder: str) -> list[Record]:
    return [r for r in records.read_all(PUBLISHED / "cpu" / folder) if r["kind"] == "result"]


def _cells(folder: str) -> dict[tuple[str, str], tuple[float, float]]:
    """(row, OOD set) -> AUROC and FPR95 in percent."""
    return {
        (r["row"], r["ood"]["name"]): (100 * r["metrics"]["auroc"], 100 * r["metrics"]["fpr95"])
        for r in _results(folder)
        if r["status"] == "done"
    }


def _about(folder: str) -> tuple[dict[str, str], dict[str, str]]:
    """The titles of a folder's rows, and of its OOD sets with their marks."""
    found = _results(folder)
    marked = separable(found)
    rows = {r["row"]: r["title"] + (" (linear probe)" if r["encoder"] == "probe" else "") for r in found}
    sets = {
        r["ood"]["name"]: r["ood"]["title"]
        + (" (near)" if r["ood"]["group"] == "near" else "")
        + (" †" if r["ood"]["name"] in marked else "")
        for r in found
    }
    return rows, sets


def _counted(folder: str) -> list[str]:
    """The OOD sets that the README's average is over: those of the paper and the protocol, and what stands in."""
    return list(dict.fromkeys(r["ood"]["name"] for r in _results(folder) if r["ood"]["group"] != "control"))


def _mean(cells: dict[tuple[str, str], tuple[float, float]], row: str, sets: Sequence[str]) -> tuple[float, float]:
    return fmean(cells[row, name][0] for name in sets), fmean(cells[row, name][1] for name in sets)


def _figures(cell: tuple[float, float]) -> str:
    return f"{cell[0]:.1f} / {cell[1]:.1f}"


def _markdown(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    every = [head, [":---", *["---:"] * (len(head) - 1)], *body]
    return "".join(f"| {' | '.join(line)} |\n" for line in every)


TABLES: dict[str, Callable[[], str]] = {
    "dozen": partial(digits, rows=_DOZEN),
    "digits": digits,
    "digits-trainings": partial(digits, "digits-trainings"),
    "dlsr": dlsr,
    "signs": signs,
    "openood": openood,
    "openood-passes": partial(openood, "openood-cifar10+limit=500+limit-train=2000"),
    "openood-cifar100": other_network,
    "trained": trained,
    "steps": steps,
    "against": against,
    "why": why,
}
