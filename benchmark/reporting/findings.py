"""What a results folder shows, in sentences that follow from its numbers by rule: the page findings.md."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from statistics import fmean, median

from benchmark.records.frames import FAR, NEAR, Record, View
from benchmark.records.paired import LEVEL
from benchmark.records.ranking import MAIN, Ranking
from benchmark.records.resolutions import Pairs
from benchmark.records.significance import Significance
from benchmark.reporting import caveats, footnotes
from benchmark.reporting.prose import Lines, count, escaped, items, p_value, picture

SIMPLE = frozenset({"mahalanobis", "knn", "layer_knn", "pca", "cosine"})  # controls on the features that DLSR reads


def findings(found: Sequence[Record], view: View, compared: Significance | None, both: Pairs) -> str:
    """The page. compared: the tests of the rows, None without scores. both: `resolutions.pairs`.

    A section about what is not there is left out.
    """
    rows = Ranking(found, view)
    sections = {
        "Which row is best": _best(rows, compared),
        "The same features, a simple detector": _same_features(rows, compared),
        "Resolution": [*caveats.altered(rows), *caveats.resolution(rows, both)],
        "Images in two sets": caveats.overlaps(found),
        "Shortcuts": caveats.shortcuts(rows, found),
        "Near against far": _near_far(rows),
        "Against the published numbers": caveats.published(rows),
        "Limits": _limits(rows, found),
    }
    head = f"ID: {escaped(view.id_title)}. Every sentence follows from the records of this folder by rule. AUROC in "
    head += f"percent; 50 is chance. Main rows: the best of DLSR's and the best others, {MAIN} at most. Tests are of "
    head += "three families that are named before anything is measured, and each is corrected as one (Holm, level "
    head += f"{LEVEL}): all pairs of rows; every row against each control; low-level statistics against each OOD set."
    parts = [f"# Findings: {escaped(view.title)}", head]
    parts += [f"## {title}\n\n" + "\n".join(lines) for title, lines in sections.items() if lines]
    return "\n\n".join(parts) + "\n"


def _best(rows: Ranking, compared: Significance | None) -> Lines:
    if not rows.ranked:
        return items(["No row is measured on every OOD set."])
    best, several = rows.ranked[0], len(rows.sets) > 1
    line = rows.lines[best, rows.over]
    alike = [rows.name[row] for row in rows.ranked if rows.mean(row) == rows.mean(best)]
    verb = "is best" if len(alike) == 1 else "are best, exactly alike,"
    where = f"on average over {len(rows.sets)} OOD sets" if several else f"against {rows.title[rows.over]}"
    if len(rows.ranked) == 1:
        verb, where = "is the only row that is measured", f"on all {len(rows.sets)} OOD sets" if several else where
    interval = f"95 % interval {'at most ' if several else ''}{line['auroc_low']:.1f} to {line['auroc_high']:.1f}"
    sentences = [f"{'; '.join(alike)} {verb} {where}: {line['auroc']:.1f} ({interval})."]
    sentences += _tests(rows, compared, best)
    rest = [row for row in rows.name if row not in rows.ranked and any(of == row for of, _ in rows.lines)]
    if rest:
        sentences.append(f"Not ranked, as not measured on every OOD set: {'; '.join(rows.name[row] for row in rest)}.")
    return items(sentences) + (
        picture("Critical differences", "figures/critical_difference.png")
        if compared and len(compared.means) > 1
        else []
    )


def _tests(rows: Ranking, compared: Significance | None, best: str) -> Iterator[str]:
    """Which rows the tests do not tell from the best."""
    if len(rows.ranked) < 2:
        return
    if compared is None:
        yield "Which differences are significant is not known: the scores of the rows are not in this folder."
        return
    p_values = {row: p for row in rows.ranked if (p := compared.p(best, row)) is not None}
    alike = [f"{rows.with_mean(row)} ({p_value(p)})" for row, p in p_values.items() if p >= LEVEL]
    if alike:
        yield f"Not significantly different from it: {'; '.join(alike)}."
    if worse := len(p_values) - len(alike):
        yield f"Significantly worse: {count(worse, 'row')}."
    if p_values:
        pairs = count(compared.tests, "pair")
        yield f"Paired DeLong tests on the same images, Holm's correction over the {pairs} of rows that are named."
    yield from _trainings(compared)
    for row, other in compared.mirrored.items():
        yield f"{rows.name[row]} is {rows.name[other]} with the other sign: one score, tested once."
    untested = [rows.name[row] for row in rows.ranked if row not in {*compared.means, *compared.mirrored}]
    if untested:
        yield f"Not tested, as their scores are not here or are of other images: {'; '.join(untested)}."


def _trainings(compared: Significance) -> Iterator[str]:
    """Of which trainings the tests speak."""
    one = sum(n == 1 for n in compared.trainings.values())
    several = sorted({n for n in compared.trainings.values() if n > 1})
    if several:
        n = " or ".join(map(str, several))
        yield f"Rows with several trainings (n = {n}) are tested over images and trainings."
    if one:
        yield f"Of {count(one, 'row')} there is one training: what is said of them holds over images, of this training."


def _same_features(rows: Ranking, compared: Significance | None) -> Lines:
    sentences, verdicts = [], []
    for row in (row for row in rows.name if rows.method.get(row) == "dlsr"):
        simple = [r for r in rows.ranked if rows.method[r] in SIMPLE and rows.encoder[r] == rows.encoder[row]]
        other = compared.mirrored.get(row) if compared else None
        if row not in rows.ranked:
            sentences.append(f"{rows.name[row]} is not measured on every OOD set, so it is not compared.")
        elif not simple:
            sentences.append(f"{rows.with_mean(row)}; no simple detector on features of the same encoder is measured.")
        elif other is not None:
            sentences.append(f"{rows.with_mean(row)} is {rows.name[other]} with the other sign, and counts with it.")
        else:
            verdict, words = _verdict(rows, compared, row, simple[0])
            verdicts.append(verdict)
            best = f"the best of {count(len(simple), 'simple detector')} on features of the same encoder"
            sentences.append(f"{rows.with_mean(row)}; {best}, {rows.with_mean(simple[0])}: {words}.")
    if len(verdicts) > 1 and "" not in verdicts:
        better, worse = verdicts.count("better"), verdicts.count("worse")
        counts = f"{better} significantly better, {worse} significantly worse, {len(verdicts) - better - worse} neither"
        sentences.insert(0, f"{len(verdicts)} rows of DLSR against the best simple detector: {counts}.")
    return items(sentences)


def _verdict(rows: Ranking, compared: Significance | None, row: str, control: str) -> tuple[str, str]:
    """What DLSR is beside a control (better, worse, alike; "" where it is not tested), and in words."""
    points = rows.mean(row) - rows.mean(control)
    apart = f"DLSR is {abs(points):.1f} points {'higher' if points > 0 else 'lower'}"
    apart = apart if round(points, 1) else "they are equal to one decimal"
    p = compared.p(row, control) if compared else None
    if p is None:
        return "", f"{apart}, not tested"
    if p >= LEVEL:
        return "alike", f"{apart}, not significant ({p_value(p)})"
    return (
        ("better", f"{apart}, significant in its favour ({p_value(p)})")
        if points > 0
        else (
            "worse",
            f"{apart}, significant against it ({p_value(p)})",
        )
    )


def _near_far(rows: Ranking) -> Lines:
    gaps = {row: rows.auroc(row, FAR) - rows.auroc(row, NEAR) for row in rows.ranked if (row, NEAR) in rows.lines}
    if not gaps:
        return []
    easier = sum(gap > 0 for gap in gaps.values())
    widest = max(gaps, key=lambda row: gaps[row])
    best = {group: max(gaps, key=lambda row: rows.auroc(row, group)) for group in (NEAR, FAR)}
    means = f"near {rows.auroc(widest, NEAR):.1f}, far {rows.auroc(widest, FAR):.1f}"
    return items(
        [
            f"Far sets are easier than near ones for {easier} of {count(len(gaps), 'row')}; the mean of far less near "
            f"is {fmean(gaps.values()):+z.1f} points.",
            f"Largest gap: {rows.name[widest]}, {means} ({gaps[widest]:+z.1f}).",
            f"Best near: {rows.name[best[NEAR]]}, {rows.auroc(best[NEAR], NEAR):.1f}; "
            f"best far: {rows.name[best[FAR]]}, {rows.auroc(best[FAR], FAR):.1f}.",
        ]
    )


def _limits(rows: Ranking, found: Sequence[Record]) -> Lines:
    """What the numbers are of: the table's notes, without those on its marks, speeds and published numbers."""
    results = [record for record in found if record["kind"] == "result"]
    notes = footnotes.notes(results, replace(rows.view, published={}, misprints={}))
    cells = [line for (_, name), line in rows.lines.items() if name in rows.sets]
    widths = [(line["auroc_high"] - line["auroc_low"]) / 2 for line in cells]
    noise = []
    if widths:
        noise.append(
            f"The 95 % interval of an AUROC is ±{median(widths):.1f} points at the median, ±{max(widths):.1f} at most; "
            "intervals are over test images; the spread between trainings is not in them."
        )
    return items(
        [
            *noise,
            *(note for note in notes if not note.startswith("†")),
            *footnotes.numbered(list(rows.every.values()), rows.view),
            *(f"Absent: {line}" for line in footnotes.absent(rows.view)),
        ]
    )
