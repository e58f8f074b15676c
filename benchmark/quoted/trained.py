"""Tables of DLSR trained to its end."""

from collections import Counter
from collections.abc import Mapping, Sequence
from math import isnan
from pathlib import Path
from typing import Any

import pandas as pd

from benchmark.quoted.committed import PUBLISHED, ROOT, markdown, results, view
from benchmark.records import records, reference
from benchmark.records.frames import ALL, FAR, NEAR, lines_of
from benchmark.records.paired import LEVEL

LONG = "cifar10-dlsr-long"
EVIDENCE = ROOT / "results" / "evidence"
_LONG_ROWS = (
    "dlsr-mse", "dlsr-mfsim", "dlsr-lr", "dlsr-lr-released", "dlsr-mse-first", "dlsr-mfsim-first", "mse-released",
    "mfsim-released", "lr-released", "mahalanobis-layers", "knn-layers", "pca", "autoencoder",
)  # fmt: skip


def trained() -> str:
    """DLSR trained to its end, and simple detectors on the very features: averages at both resolutions."""
    (titles, native), (_, at_id) = (_lines(PUBLISHED / "cpu" / folder) for folder in (LONG, f"{LONG}+resolution=id"))
    body = [
        [
            titles[row],
            *(_of_trainings(native.get((row, mean))) for mean in (NEAR, FAR, ALL)),
            _of_trainings(at_id.get((row, ALL))),
        ]
        for row in _LONG_ROWS
        if (row, ALL) in native
    ]
    return markdown(["row", "near average", "far average", "average", "the same, all images at 32 × 32"], body)


def _lines(folder: Path) -> tuple[dict[str, str], dict[tuple[str, str], dict[str, Any]]]:
    """Titles of a published folder's rows, without their encoder, and the lines of its table, by set or mean."""
    found = list(records.read_all(folder))
    shown = view(found)
    titles = {row.partition("@")[0]: title for row, title, _ in shown.rows}
    return titles, {(row.partition("@")[0], ood): line for (row, ood), line in lines_of(found, shown).items()}


def _of_trainings(line: Mapping[str, Any] | None) -> str:
    """AUROC, with its standard deviation over trainings where there are several."""
    if line is None:
        return "–"
    return f"{line['auroc']:.1f}" + ("" if isnan(line["auroc_std"]) else f" ±{line['auroc_std']:.1f}")


STEPS = (391, 1_000, 2_000, 5_000, 10_000, 20_000, 40_000, 58_650)
CONTROLS = ("blurred", "enlarged")  # of the reference: ID images, not OOD sets
SCORES = {"mse": "MSE", "mfsim": "MFsim", "lr": "LR, the code's sign"}


def steps(curve: str = "dlsr-curve.csv", about: Sequence[int] = STEPS) -> str:
    """Mean AUROC over the sets against training steps: mean and standard deviation over trainings.

    `about`: the steps that are shown, of each training its nearest checkpoint; none: those of the checkpoints.
    """
    of_seed, shown = _near(native(EVIDENCE / curve), about)
    table = of_seed.groupby(["measure", "about"]).auroc.agg(["mean", "std", "count"])
    several = of_seed.seed.nunique() > 1
    cells = {
        key: f"{mean:.1f}" + (f" ±{std:.1f}" if several else "")
        for key, mean, std, count in table.itertuples()
        if count > 1 or not several
    }
    body = [[title, *(cells.get((measure, at), "–") for at in shown)] for measure, title in SCORES.items()]
    return markdown(["about steps" if about else "steps", *(f"{at:,}" for at in shown)], body)


def _near(curve: pd.DataFrame, about: Sequence[int]) -> tuple[pd.DataFrame, Sequence[int]]:
    """Means over the sets, of each training at its checkpoint nearest to each number of steps; and these numbers."""
    of_seed = curve.groupby(["measure", "steps", "seed"]).auroc.mean().reset_index()
    shown = about or sorted(set(of_seed.steps))
    of_seed["about"] = [min(shown, key=lambda near: abs(near - at) / near) for at in of_seed.steps]
    of_seed["off"] = (of_seed.steps - of_seed.about).abs()  # of checkpoints about as old the nearest one
    return of_seed.sort_values("off").drop_duplicates(["measure", "seed", "about"]), shown


_LITE0 = "cifar10+pretrained=tf_efficientnet_lite0"


def on_lite0() -> str:
    """On EfficientNet-Lite0: the first steps on an H200 and on a CPU, a training in bf16 to its end, the reference."""
    curves = {
        "": EVIDENCE / "dlsr-lite0-curve.csv",
        ", on a CPU": EVIDENCE / "dlsr-lite0-cpu-curve.csv",
        ", on a CPU in bf16": EVIDENCE / "dlsr-lite0-bf16-curve.csv",
        ", the reference": reference.REFERENCE / "dlsr_h200_curve.csv",
    }
    body = []
    for title, curve in curves.items():
        mean = _near(native(curve), STEPS)[0].groupby(["measure", "about"]).auroc.mean()
        cells = {key: f"{value:.1f}" for key, value in mean.items() if key != ("lr", STEPS[0])}
        body += [
            [f"{name}{title}", *(cells.get((measure, at), "–") for at in STEPS)] for measure, name in SCORES.items()
        ]
    return markdown(["about steps", *(f"{at:,}" for at in STEPS)], body)


def simple() -> str:
    """Simple detectors on EfficientNet-Lite0's layers, all images: averages at both resolutions."""
    both = [_lines(PUBLISHED / "cuda" / folder) for folder in (_LITE0, f"{_LITE0}+resolution=id")]
    rows = dict.fromkeys(row for row, _ in both[0][1])
    titles = both[0][0]
    body = [
        [titles[row], *(_of_trainings(lines[row, mean]) for _, lines in both for mean in (NEAR, FAR, ALL))]
        for row in rows
    ]
    heads = ("near average", "far average", "average")
    return markdown(["row", *heads, *(f"{head}, at 32 × 32" for head in heads)], body)


_ELSEWHERE = {
    "cifar100+pretrained=tf_efficientnet_lite0+limit=1000": "CIFAR-100, EfficientNet-Lite0",
    "celeba+pretrained=tf_efficientnet_lite0+limit=1000": "CelebA, EfficientNet-Lite0",
    f"{LONG}+limit=1000": "CIFAR-10, ResNet-18",
}


def simple_elsewhere() -> str:
    """Simple detectors on the layers that DLSR was trained on with other ID sets and on ResNet-18: averages."""
    of_each = {title: _lines(PUBLISHED / "cpu" / folder) for folder, title in _ELSEWHERE.items()}
    rows = {row: title for titles, _ in of_each.values() for row, title in titles.items()}
    body = [
        [title, *(_of_trainings(lines.get((row, ALL))) for _, lines in of_each.values())] for row, title in rows.items()
    ]
    return markdown(["row", *of_each], body)


def turn() -> str:
    """AUROC of the released preset's LR on each set against training steps, with the code's sign."""
    curve = native(EVIDENCE / "dlsr-released-curve.csv").query("measure == 'lr'")
    titles = {r["ood"]["name"]: r["ood"]["title"] for r in results(LONG)}
    table = curve.pivot(index="set", columns="steps", values="auroc")
    body = [[titles[name], *(f"{value:.1f}" for value in table.loc[name])] for name in titles if name in table.index]
    return markdown(["LR, the code's sign, after steps", *(f"{at:,}" for at in table.columns)], body)


def native(curve: Path) -> pd.DataFrame:
    """A curve at native resolution, without controls; LR with the code's sign: 100 less what it has, the paper's."""
    found = pd.read_csv(curve).query("resolution == 'native' and set not in @CONTROLS").copy()
    found.loc[found.measure == "lr", "auroc"] = 100 - found.auroc[found.measure == "lr"]
    return found


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
    return markdown(["better / worse / neither", *detectors.values()], body)


def why(numbers: str = "dlsr-why.csv") -> str:
    """What the errors of DLSR rank as: correlation with the distance and its parts, and the AUROC of each."""
    lines = pd.read_csv(EVIDENCE / numbers, keep_default_na=False)
    mean = lines.groupby(["what", "of"]).value.mean()
    on_id = lines[lines["set"] == ""].groupby(["what", "of"]).value.mean()
    parts = {"distance": "the whole distance"}
    parts |= {f"distance, band {band}": f"a quarter of its directions, {which}" for band, which in _BANDS.items()}
    body = []
    for part, title in parts.items():
        correlations = (f"{on_id[f'spearman {measure}', part]:+.2f}" for measure in ("mse", "mfsim", "lr"))
        body.append([title, f"{mean['auroc', part]:.1f}", *correlations])
    return markdown(["", "mean AUROC alone", "rank correlation with MSE", "with MFsim", "with LR"], body)


_BANDS = {1: "of most ID variance", 2: "the next", 3: "the next again", 4: "of least ID variance"}


def _verdict(difference: float, p: float) -> str:
    if p >= LEVEL:
        return "neither"
    return "better" if difference > 0 else "worse"
