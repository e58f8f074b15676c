"""Committed results as pages, from their records alone: `python -m benchmark.publishing` writes them all anew.

Tables, findings and comparisons of every folder of `results/published`, tables of papers, and the tables in README.md
and results/*.md, which stand between `<!-- table: NAME -->` and `<!-- end -->`. Nothing is measured; no images and no
scores are needed.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import comb, isnan
from pathlib import Path
from statistics import fmean
from typing import Any

from PIL import Image

from benchmark.papers import views
from benchmark.planning import suite as suites
from benchmark.planning.options import Options
from benchmark.records import records, reference, resolutions, significance
from benchmark.records.frames import ALL, NEAR, Record, View, frame, is_sanity, spectral
from benchmark.records.names import folder_parts
from benchmark.records.ranking import Ranking
from benchmark.records.shortcuts import separable
from benchmark.reporting import drawing, index, report, tables
from benchmark.reporting.findings import findings
from benchmark.reporting.page import report as html
from benchmark.store.files import write_atomically
from datasets import catalogue

ROOT = Path(__file__).parents[1]
PUBLISHED = ROOT / "results" / "published"
PAGES = (ROOT / "README.md", *(ROOT / "results" / name for name in ("README.md", "DLSR.md", "OPENOOD.md")))
TRIAL = "pretrained=tf_efficientnet_lite0"
SHORT = f"cifar10+{TRIAL}+limit=1000+limit-train=5000+quick"
SHORT_AT_ID = f"cifar10+{TRIAL}+resolution=id+limit=1000+limit-train=5000+quick"
SHORTER = f"cifar10-dlsr+{TRIAL}+limit=300+limit-train=2000+quick"
_COLOURS = 96  # of a committed figure
_TABLE = re.compile(r"(<!-- table: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def committed(results: Path) -> list[Path]:
    """The folders there that hold committed records, and none of this machine's own."""
    return [
        path.parent for path in sorted(results.glob(f"*/{records.PACKED}")) if not (path.parent / "records").exists()
    ]


def page(folder: Path, *, images: bool = True) -> tuple[list[dict[str, Any]], View]:
    """Write the page of a committed folder, which is not committed; the records that it shows, and how.

    Neither data nor weights are needed. Tables and figures stay as they were committed. ValueError where there is no
    result among the records.
    """
    found, shown, compared, both = _content(folder)
    html.write(folder, found, shown, compared, both, images=images)
    return found, shown


def _content(folder: Path) -> tuple[list[dict[str, Any]], View, significance.Significance | None, resolutions.Pairs]:
    """What a committed folder shows: its records, of which view, with the tests and the other resolution's beside."""
    found = records.read_all(folder)
    if all(record["kind"] != "result" for record in found):
        raise ValueError(f"no result in {records.PACKED}")
    shown = view(found)
    compared = significance.of_folder(folder, found, shown)
    return found, shown, compared, resolutions.pairs(found, resolutions.sibling(folder), shown)


def redraw(folder: Path) -> None:
    """Tables and findings of a committed folder, its figures that compare rows, and what else it has of figures.

    Of scores there are the quantiles in newer records: figures from older ones stay as they were drawn.
    """
    found, shown, compared, both = _content(folder)
    write_atomically(folder / "table.md", tables.markdown(found, shown))
    write_atomically(folder / "table.csv", tables.csv(found, shown))
    write_atomically(folder / "table.tex", tables.latex(found, shown))
    write_atomically(folder / "findings.md", findings(found, shown, compared, both))
    if compared is not None:
        write_atomically(folder / significance.TESTS, compared.csv())
    html.write(folder, found, shown, compared, both)
    kept = [figure for figure in drawing.measured(folder, found, shown) if (folder / f"{figure.path}.png").is_file()]
    for figure in (*kept, *drawing.comparing(Ranking(found, shown), compared, both)):
        path = folder / f"{figure.path}.png"
        path.parent.mkdir(exist_ok=True)
        figure.draw(path)
        with Image.open(path) as drawn:  # what is committed stays light
            drawn.convert("RGB").quantize(_COLOURS).save(path, optimize=True)


def redraw_papers(folder: Path) -> None:
    """The tables of papers in a committed folder, from the committed results of the same flags."""
    flags = dict(flag.partition("=")[::2] for flag in folder_parts(folder)[1])
    options = Options(
        data=ROOT / "data",
        weights=ROOT / "weights",
        results=folder.parent,
        cache=folder.parent / ".cache",
        pretrained=flags.get("pretrained"),
        limit=int(flags["limit"]),
        limit_train=int(flags["limit-train"]),
        quick="quick" in flags,
    )
    for table in sorted(folder.glob("*.tex")):
        views.show(table.stem, options)


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
    every: list[dict[str, Any]] = frame(found, shown).to_dict("records")  # type: ignore[assignment]  # names
    lines = {(line["row"], line["ood"]): line for line in every}
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
_WHY = {"a": {"react", "scale", "fdbd"}, "b": {"klm"}, "c": {"scale", "ash-b", "dice", "gradnorm", "mahalanobis"}}


def openood() -> str:
    """Rows on a ResNet-18 of OpenOOD's recipe: near averages, the leaderboard's in brackets, and each set."""
    found = [r for r in _results("openood-cifar10") if r["encoder"].startswith("resnet18")]
    shown = view(found)
    every: list[dict[str, Any]] = frame(found, shown).to_dict("records")  # type: ignore[assignment]  # names
    lines = {(line["row"], line["ood"]): line for line in every}
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


def _beside(ours: float, theirs: float) -> str:
    return f"{ours:.1f}" if isnan(theirs) else f"{ours:.1f} ({theirs:.1f})"


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
}


def main() -> None:
    for packed in sorted(PUBLISHED.glob(f"*/*/{records.PACKED}")):
        redraw(packed.parent)
        print(packed.parent)
    for folder in sorted(PUBLISHED.glob("*/papers+*")):
        redraw_papers(folder)
        print(folder)
    for results in sorted({folder.parent for folder in PUBLISHED.glob("*/*")}):
        index.write(results)
    for page in PAGES:
        write_atomically(page, filled(page.read_text(encoding="utf-8")))
        print(page)


if __name__ == "__main__":
    main()
