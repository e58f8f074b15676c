"""Tables of DLSR beside simple detectors, after short trainings."""

from collections.abc import Sequence
from statistics import fmean

from benchmark.quoted.committed import markdown, results
from benchmark.records.shortcuts import separable

TRIAL = "pretrained=tf_efficientnet_lite0"
SHORT = f"cifar10+{TRIAL}+limit=1000+limit-train=5000+quick"
SHORT_AT_ID = f"cifar10+{TRIAL}+resolution=id+limit=1000+limit-train=5000+quick"
SHORTER = f"cifar10-dlsr+{TRIAL}+limit=300+limit-train=2000+quick"
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
    return markdown(head, body)


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
    return markdown([f"mean AUROC over {', '.join(titles)}", "the paper's sign", "the code's"], body)


def _cells(folder: str) -> dict[tuple[str, str], tuple[float, float]]:
    """(row, OOD set) -> AUROC and FPR95 in percent."""
    return {
        (r["row"], r["ood"]["name"]): (100 * r["metrics"]["auroc"], 100 * r["metrics"]["fpr95"])
        for r in results(folder)
        if r["status"] == "done"
    }


def _about(folder: str) -> tuple[dict[str, str], dict[str, str]]:
    """The titles of a folder's rows, and of its OOD sets with their marks."""
    found = results(folder)
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
    return list(dict.fromkeys(r["ood"]["name"] for r in results(folder) if r["ood"]["group"] != "control"))


def _mean(cells: dict[tuple[str, str], tuple[float, float]], row: str, sets: Sequence[str]) -> tuple[float, float]:
    return fmean(cells[row, name][0] for name in sets), fmean(cells[row, name][1] for name in sets)


def _figures(cell: tuple[float, float]) -> str:
    return f"{cell[0]:.1f} / {cell[1]:.1f}"
