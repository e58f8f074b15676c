"""What a reader must know beside the numbers of a table: generated from the records, never written by hand."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from benchmark.records.frames import ALL, COMMON, COVARIATE, SANITY, SPECTRAL, Record, View, results_of, speeds_of
from benchmark.records.searching import state
from benchmark.records.shortcuts import separable

Line = Mapping[Any, Any]  # of `frames.lines_of`
NONE = "none"  # of features in files, which were made of anything
RESOLUTIONS = {
    "native": "every image goes from its own size straight to the encoder's",
    "id": "every image is first brought to the size of the ID images, so that size gives no set away",
}

PRECISIONS = {
    "32": "strict float32",
    "tf32": "TF32 in matrix products and convolutions, whose error on real networks is 6e-4 to 9e-4 of the deviation "
    "between images: on an H200 no AUROC of 38 rows on a CIFAR-10 ResNet-18 moved by more than .02 points",
    "bf16": "bfloat16 in networks and trainings",
}


def reasons(lines: Iterable[Line]) -> dict[tuple[str, str], int]:
    """The number of each (status, reason) of the lines of `frames.lines_of` that have no numbers, from 1."""
    unmeasured = (line for line in lines if line["status"] in ("failed", "skipped", "interrupted"))
    pairs = dict.fromkeys((line["status"], line["reason"]) for line in unmeasured)
    return {pair: number for number, pair in enumerate(pairs, start=1)}


def numbered(lines: Sequence[Line], view: View) -> list[str]:
    """The notes that cells point to, as `[1] skipped: why (which rows)`."""
    notes = []
    for (status, reason), number in reasons(lines).items():
        lacking: dict[str, list[str]] = {}  # OOD sets by row
        for line in lines:
            if (line["status"], line["reason"]) == (status, reason) and line["group"] != "average":
                lacking.setdefault(line["row"], []).append(line["ood_title"])
        rows: dict[tuple[str, ...], list[str]] = {}  # by the OOD sets that they lack
        for row, titles in lacking.items():
            rows.setdefault(tuple(titles), []).append(row)
        which = [
            _who(of_sets, view) + ("" if len(titles) == len(view.ood) else f" against {', '.join(titles)}")
            for titles, of_sets in rows.items()
        ]
        notes.append(f"[{number}] {status}: {reason or 'no reason given'} ({'; '.join(which)})")
    return notes


def _who(rows: Iterable[str], view: View) -> str:
    """Rows by their titles, with the encoder where the view has several."""
    of_encoder: dict[str, list[tuple[str, str]]] = {}
    for row, title, encoder in view.rows:
        of_encoder.setdefault(encoder, []).append((row, title))
    wanted, parts = set(rows), []
    for encoder, every in of_encoder.items():
        titles = [title for row, title in every if row in wanted]
        if titles:
            names = "all rows" if len(titles) == len(every) > 1 else ", ".join(titles)
            parts.append(f"{names} on {encoder}" if len(of_encoder) > 1 else names)
    return "; ".join(parts)


def notes(records: Iterable[Record], view: View) -> list[str]:
    """Notes on sets, resolution, seeds, rows, speeds and published numbers, one line each."""
    records = list(records)
    cells = results_of(records, view)
    every = [record for seeds in cells.values() for record in seeds]
    done = [record for record in every if record["status"] == "done" and record["ood"]["group"] not in SPECTRAL]
    return [
        *_images(done),
        *_shifted(done),
        *_shortcuts(records, view),
        *(
            f"Resolution {name}: {RESOLUTIONS.get(name, 'of images')}."
            for name in dict.fromkeys(record["resolution"] for record in done)
            if name != NONE
        ),
        *_precisions(done, view),
        *_transforms(done, view),
        *_seeds(cells, view),
        *map(_sentence, view.footnotes),
        *_of_rows(done, view),
        *_alike(done, view),
        *sweeps(done, view),
        *_knn_accuracies(done),
        *_speeds(records, view),
        *_published(view),
        *dict.fromkeys(f"‡ {note}" for note in view.misprints.values()),
        *(["DATA and WEIGHTS are the folders of --data and --weights."] if any(_named(view)) else []),
    ]


def _named(view: View) -> Iterator[bool]:
    """Whether what is absent belongs into a folder of the user's."""
    return (word in how for _, how in view.absent for word in ("DATA/", "WEIGHTS/"))


def absent(view: View) -> list[str]:
    """The OOD sets that are not there, each with how to get it."""
    return [f"{title}: {how}" for title, how in view.absent]


def _images(done: Sequence[Record]) -> list[str]:
    sets: dict[str, Mapping[str, Any]] = {}
    for record in done:
        sets.setdefault(record["id"]["title"], {**record["id"], "role": "ID"})
        sets.setdefault(record["ood"]["title"], {**record["ood"], "role": record["ood"]["group"]})
    if not sets:
        return []
    counts, remarks = [], []
    for title, about in sets.items():
        part = f" of {about['of']:,}" if about["n"] < about["of"] else ""
        counts.append(f"{title} ({about['split']}, {about['role']}) {about['n']:,}{part}")
        stands_in_for = about.get("stands_in_for")
        said = list(about["notes"])
        if stands_in_for and not any(note.startswith("stands in for") for note in said):
            said.insert(0, f"stands in for {stands_in_for}, and is not it")
        if said:
            remarks.append(_sentence(f"{title}: {'; '.join(said)}"))
    sizes = sorted({(record["train"]["n"], record["train"].get("of")) for record in done})
    how = dict.fromkeys(note for record in done for note in record["train"]["notes"])
    fitted = " or ".join(f"{n:,} of {of:,}" if of and n < of else f"{n:,}" for n, of in sizes)
    training = f"Fitted on {fitted} ID training images"
    return [f"Images: {'; '.join(counts)}.", *remarks, _sentence("; ".join([training, *how]))]


def _shifted(done: Sequence[Record]) -> list[str]:
    """What counts as ID in the columns of the full spectrum, and how well encoders know it."""
    sets = {r["ood"]["name"]: r["ood"]["title"] for r in done if r["ood"]["group"] == COVARIATE}
    if not sets:
        return []
    wide = {(*r["full_spectrum"]["sets"], r["full_spectrum"]["n_id"]) for r in done if r.get("full_spectrum")}
    lines = ["Covariate-shifted sets are ID: their columns say how often they are flagged, and no average counts them."]
    for *names, n in sorted(wide, key=str):
        titles = ", ".join(sets.get(name, name) for name in names)
        lines.append(f"Full-spectrum: against ID test and {titles} as one ID set ({n:,} images).")
    accuracies: dict[str, dict[str, float]] = {}
    for record in done:
        if record.get("ood_accuracy") is not None:
            accuracies.setdefault(record["encoder_title"], {})[record["ood"]["title"]] = record["ood_accuracy"]
    for encoder, shares in accuracies.items():
        lines.append(f"Accuracy of {encoder} on {', '.join(f'{t} {100 * s:.1f}' for t, s in shares.items())} %.")
    return lines


def _shortcuts(records: Sequence[Record], view: View) -> list[str]:
    """The sets that are marked, and what marks them."""
    marked = separable(records)
    found = [f"{title} ({100 * marked[name]:.1f})" for name, title, _ in view.near_first() if name in marked]
    how = "a Gaussian on low-level statistics of the pixels tells them from the ID set: AUROC of lowlevel"
    return [f"† Separable without looking at what is in the image, {how}: {', '.join(found)}."] if found else []


def _knn_accuracies(done: Sequence[Record]) -> list[str]:
    of_encoder = {r["encoder_title"]: r["knn_accuracy"] for r in done if r.get("knn_accuracy") is not None}
    return [
        f"kNN accuracy of the embedding of {encoder} on the ID test set (k = 20, cosine): {100 * share:.1f} %."
        for encoder, share in of_encoder.items()
    ]


def _precisions(done: Sequence[Record], view: View) -> list[str]:
    """At which precision rows were measured, each named where they differ; older records alone do not say it."""
    rows: dict[str, dict[str, None]] = {}
    for record in done:
        depends = record.get("depends") or {}
        precision = record.get("precision") or (depends.get("encoder") or {}).get("precision", "32")
        rows.setdefault(precision, {})[record["row"]] = None
    if all(record.get("precision") is None for record in done):
        return []
    return [
        f"Precision {name}{f' ({_who(of, view)})' if len(rows) > 1 else ''}: {PRECISIONS.get(name, 'unknown')}."
        for name, of in rows.items()
    ]


def _transforms(done: Sequence[Record], view: View) -> list[str]:
    """How images were brought to the encoder's size, where rows differ in that; older records do not say it."""
    rows: dict[str, dict[str, None]] = {}
    for record in done:
        rows.setdefault(record.get("transform") or "resized in float", {})[record["row"]] = None
    return [f"Images {how}: {_who(of, view)}." for how, of in rows.items()] if len(rows) > 1 else []


def _seeds(cells: Mapping[tuple[str, str], Sequence[Record]], view: View) -> list[str]:
    several: dict[int, list[str]] = {}
    lost: dict[str, None] = {}
    for row, _, _ in view.rows:
        most = 0
        for ood, _, _ in view.ood:
            seeds = cells.get((row, ood), [])
            measured = sum(record["status"] == "done" for record in seeds)
            most = max(most, measured)
            for record in seeds if measured else []:  # a cell without any number has a numbered note
                if record["status"] != "done":
                    why = f"{_who([row], view)}: seed {record['seed']} {record['status']}: {record['reason']}"
                    lost[_sentence(why)] = None
        several.setdefault(most, []).append(row)
    counted = [f"n = {n}: {_who(rows, view)}" for n, rows in sorted(several.items()) if n > 1]
    rest = ["n = 1: all other rows" if counted else "n = 1 everywhere"] if 1 in several else []
    return [f"Seeds: {'; '.join([*counted, *rest])}.", *lost] if set(several) - {0} else []


def _of_rows(done: Sequence[Record], view: View) -> list[str]:
    measured = {record["row"] for record in done}
    rows: dict[str, set[str]] = {}
    for record in done:
        for note in record["footnotes"]:
            rows.setdefault(note, set()).add(record["row"])
    return [_sentence(note if of == measured else f"{_who(of, view)}: {note}") for note, of in rows.items()]


def _alike(done: Sequence[Record], view: View) -> list[str]:
    """Rows that tell no image from another; older records, without quantiles, cannot say it."""
    rows: dict[str, dict[str, None]] = {}
    for record in done:
        scores = {value for of_set in (record.get("quantiles") or {}).values() for value in of_set}
        if len(scores) == 1 and record["method"] not in SANITY:
            rows.setdefault(record["row"], {})[record["ood"]["title"]] = None
    return [
        f"{_who([row], view)}: all images score alike ({', '.join(sets)}): its AUROC of 50 says nothing of it."
        for row, sets in rows.items()
    ]


def sweeps(done: Sequence[Record], view: View) -> list[str]:
    """Which rows are values of a sweep: those that are only shown, and what one was chosen by."""
    of_row: dict[str, list[Record]] = {}
    for record in done:
        of_row.setdefault(record["row"], []).append(record)
    shown = [row for row, found in of_row.items() if state(found) == "swept"]
    lines = [f"{_who(shown, view)}: values of a sweep, only shown: never the best, compared with no row."] * bool(shown)
    for row, (first, *_) in of_row.items():
        if state([first]) == "searched":
            how, told = first["searched"], f"{_who([row], view)}: "
            if first.get("sweep"):
                values = ", ".join(f"{value}: {100 * auroc:.1f}" for value, auroc in how["values"].items())
                told += f"{first['sweep']['hyperparameter']} was chosen"
            else:
                said = ", ".join(f"{name} {value}" for name, value in how["choice"].items())
                told += f"{said} was chosen of {len(how['values']) + len(how['left_out'])} settings"
                values = f"{100 * how['auroc']:.1f}, the worst {100 * min(how['values'].values()):.1f}"
                values += f"; not possible here: {'; '.join(how['left_out'])}" if how["left_out"] else ""
            lines.append(
                f"{told} by AUROC of {how['n_id']:,} held-out ID images against {how['title']} "
                f"({how['n_ood']:,} images; {values})."
            )
    return lines


def _sentence(words: str) -> str:
    return words if words.endswith(".") else f"{words}."


def _speeds(records: Sequence[Record], view: View) -> list[str]:
    shown = {row for row, _, _ in view.rows}
    how: dict[str, None] = {}
    for row, record in speeds_of(records).items():
        if row in shown:
            speed = record["speeds"]["end_to_end"]
            order = ", the slower of decoding and all that follows" if record.get("overlap") else ""
            how[f"median of {speed['repeats']} x {speed['batch']} images on {record['device']}{order}"] = None
    return [f"Images/s: from stored bytes to score, {' or '.join(how)}."] if how else []


def _published(view: View) -> list[str]:
    if not view.published:
        return []
    lines = ["Published numbers are the papers' own: other weights, images or settings where a note says so."]
    shown = set(view.over(ALL))
    theirs = {(row, ood) for row, ood, metric in view.published if metric == "auroc"}
    averaged = {row for row, ood in theirs if ood == ALL}
    if any({ood for of, ood in theirs if of == row} - {ALL, COMMON} != shown for row in averaged):
        lines.append("A published average is over the paper's own OOD sets, ours over the sets shown.")
    return [*lines, *map(_sentence, view.remarks)]
