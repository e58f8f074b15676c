"""Images that a row errs on, each with its score and the ID training images nearest to it: figures of a paper."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmark.canvas import MARGIN, SMALL, TINY, Box, add, canvas, height, wrap
from benchmark.jobs.encoding import Encode, encodes, load_features
from benchmark.jobs.inputs import Selection
from benchmark.jobs.mistaking import vectors, wrong
from benchmark.jobs.scoring import Score
from benchmark.metrics import threshold_at_tpr
from benchmark.papers.figures import NotMeasured
from benchmark.papers.reading import Gallery
from benchmark.planning import planner
from benchmark.planning import suite as suites
from benchmark.planning.options import Options
from benchmark.store.entries import Store
from datasets import catalogue
from methods.vectors.neighbours import Neighbours, neighbours

SHOWN, NEIGHBOURS = 6, 3


@dataclass(frozen=True)
class Shown:
    """One image, its score, what it is from, and the training images nearest to it with their cosines."""

    image: Any  # uint8 (H, W, 3)
    score: float
    source: str
    neighbours: Sequence[tuple[Any, float]]


def gallery(view: Gallery, options: Options) -> Callable[[Path], None]:
    """Draws the gallery: the features and scores of the row must be in the cache. NotMeasured where they are not.

    Only images that the row errs on, at the threshold that accepts 95 % of the ID images; what the view names and is
    not measured is said below the others.
    """
    suite_name, _, label = view.row.partition("/")
    command = f"run_all.py --id {suite_name} --methods {label}"
    try:
        planned = planner.make(suites.read(suite_name), options, download=False)
    except Exception as error:  # the ID set or its encoder is not here
        raise NotMeasured(f"{' '.join(str(error).split())}; then {command}") from error
    row = next(row for row in planned.rows if row.spec.label == label)
    store = Store(options.cache)
    measures = {name: measure for name, measure in row.measures.items() if view.show == "id" or name in view.show}
    measures = {name: measure for name, measure in measures.items() if measure.id.done(store)}
    jobs = {name: measure.ood for name, measure in measures.items() if measure.ood.done(store)}
    if view.show == "id":
        jobs = {measure.id.images[-1].images.images.name: measure.id for measure in measures.values()}
    if not jobs:
        raise NotMeasured(row.reason or f"its scores are not in {options.cache}: {command}")
    accepted = next(iter(measures.values())).id
    if accepted.fit is None:
        raise NotMeasured(f"{view.row} is fitted on no images that could be near")
    fitted = encodes(accepted.images[-1].use, accepted.fit.train[-1].images)
    kept = {name: job for name, job in jobs.items() if _there(job.images, store)}
    if not kept or not _there(fitted, store):
        anew = f"{command}, with an empty --cache and --results, and then this with the same"
        raise NotMeasured(f"the features that its scores came from are no longer in {options.cache}: {anew}")
    threshold = threshold_at_tpr(store.arrays("score", accepted.key)["scores"])
    train = accepted.fit.train[-1].images
    bank = neighbours(vectors(load_features(fitted, store, ("layers", "embedding"))))
    found = {name: _errors(job, store, view.show == "id", threshold, bank, train) for name, job in kept.items()}
    shown = sorted((one for of_set in found.values() for one in of_set), key=lambda one: one.score)
    if view.show == "id":
        shown.reverse()
    if not shown:
        raise NotMeasured(f"{view.row} errs on none of the images at its threshold, {threshold:.4g}")
    heading = f"{view.title}\n{row.about['title']} on {row.about['encoder_title']}"
    return partial(_draw, heading, shown[: 2 * SHOWN], _note(view, found, set(jobs) - set(kept), threshold))


def _there(passes: Iterable[Encode], store: Store) -> bool:
    return all(job.done(store) for job in passes)


def _note(view: Gallery, found: Mapping[str, Sequence[Shown]], gone: set[str], threshold: float) -> str:
    """What the pictures are, and which sets have none."""
    side = "above" if view.show == "id" else "at or below"
    lines = [
        f"In bold: the set and the score of an image, {side} the threshold that accepts 95 % of the ID images"
        f" ({threshold:.4g}); beside it the ID training images nearest in the same features, with their cosines."
    ]
    if view.show != "id":
        titles = {name: catalogue.get(name).title for name in view.show}
        for what, names in (
            ("No such image in", [name for name in view.show if name in found and not found[name]]),
            ("Features no longer in the cache", [name for name in view.show if name in gone]),
            ("Not measured", [name for name in view.show if name not in {*found, *gone}]),
        ):
            lines += [f"{what}: {', '.join(titles[name] for name in names)}."] if names else []
    return " ".join(lines)


def _errors(
    job: Score, store: Store, highest: bool, threshold: float, train: Neighbours, images: Selection
) -> list[Shown]:
    """The images of one set on the wrong side of the threshold, the worst first: flagged ones with `highest`."""
    scores = store.arrays("score", job.key)["scores"]
    chosen = wrong(scores, threshold, flagged=highest, most=2 * SHOWN if highest else SHOWN)
    if not len(chosen):
        return []
    passes = encodes(job.images[-1].use, job.images[-1].images)
    features = load_features(passes, store, ("layers", "embedding"))[torch.from_numpy(chosen.copy())]
    distances, nearest = train.search(vectors(features), min(NEIGHBOURS, len(train)))
    cosines = 1 - distances.square() / 2  # of unit vectors
    source = job.images[-1].images
    pixels = source.images.read(source.rows[chosen].tolist())
    found = []
    for place, picture in enumerate(pixels):
        rows = images.rows[nearest[place].numpy()].tolist()
        neighbours = list(zip(images.images.read(rows), cosines[place].tolist(), strict=True))
        found.append(Shown(picture, float(scores[chosen[place]]), source.images.title, neighbours))
    return found


def _draw(title: str, shown: Sequence[Shown], note: str, path: Path) -> None:
    """Two columns, each image with its neighbours beside it, read down."""
    rows = -(-len(shown) // 2)
    side, gap = 0.8, 0.12
    wide = 2 * (1 + NEIGHBOURS) * (side + gap) + 0.4 + 2 * MARGIN
    title = "\n".join(wrap(line, wide - 0.3, bold=True) for line in title.split("\n"))
    note = wrap(note, wide - 0.3, TINY, lines=6)
    names = [wrap(one.source, 2 * side, TINY, bold=True, lines=2) for one in shown]
    head = max(height(f"{name}\n1", TINY) for name in names) + 0.06
    step = side + head + 0.1
    high = MARGIN + height(title) + 0.1 + rows * step + height(note, TINY) + MARGIN
    with canvas(path, (wide, high)) as figure:
        for place, (one, name) in enumerate(zip(shown, names, strict=True)):
            line, column = place % rows, place // rows
            x = MARGIN + column * (wide - MARGIN) / 2
            y = high - MARGIN - height(title) - 0.1 - line * step - head - side
            axes = _picture(figure, one.image, (x, y, side, side))
            style = {"fontsize": TINY, "pad": 2, "loc": "left"}
            axes.set_title(f"{name}\n{one.score:.3f}", fontweight="bold", **style)
            for number, (picture, cosine) in enumerate(one.neighbours, start=1):
                axes = _picture(figure, picture, (x + number * (side + gap), y, side, side))
                axes.set_title(f"{cosine:.2f}", **style)
        figure.suptitle(title, fontweight="bold", fontsize=SMALL, y=1 - MARGIN / high, va="top")
        figure.text(0.5, MARGIN / high, note, ha="center", va="bottom", fontsize=TINY, color="0.3")


def _picture(figure: Any, pixels: Any, box: Box) -> Any:
    axes = add(figure, box)
    axes.imshow(pixels, interpolation="nearest")
    axes.set_axis_off()
    return axes
