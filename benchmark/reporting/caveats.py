"""What else a number may be: image size, low-level statistics, another training. Sentences by rule from the numbers."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean

from benchmark.records.frames import Record
from benchmark.records.paired import LEVEL, above, holm
from benchmark.records.ranking import Ranking
from benchmark.records.resolutions import Pairs
from benchmark.records.shortcuts import SEPARABLE, separable
from benchmark.reporting.cells import NONE
from benchmark.reporting.prose import Lines, count, items, picture, table

NAMED = 3  # the largest of a kind that a sentence names
WORTH = 1.0  # points of AUROC: a difference that is not larger, to one decimal, is not named

_SHARED = re.compile(r"\bare also in the .* set\b")  # of notes on images that stand in two sets

Cell = tuple[str, str]  # row and OOD set


def resolution(rows: Ranking, both: Pairs) -> Lines:
    """What image size is worth to the main rows: native less ID resolution."""
    shown = [row for row in rows.main if row in both]
    apart = {(row, name): native - at_id for row in shown for name, (native, at_id) in both[row].items()}
    if not apart:
        return []
    if not any(round(gap, 1) for gap in apart.values()):
        return items(["No AUROC of a main row differs between native and ID resolution, to one decimal."])
    means = {row: fmean(apart[row, name] for name in both[row]) for row in shown}
    higher, lower = (sum(round(sign * mean, 1) > WORTH for mean in means.values()) for sign in (1, -1))
    sentences = [
        f"Higher at native than at ID resolution by more than {WORTH:.0f} point on average over the sets measured at "
        f"both: {higher} of {count(len(shown), 'main row')}; lower: {lower}.",
        *_largest_apart(rows, both, apart),
        *_best_at_both(rows, both),
    ]
    sets = [name for name in rows.sets if any(name in both[row] for row in shown)]
    lines = []
    for row in shown:
        cells = [f"{apart[row, name]:+z.1f}" if name in both[row] else NONE for name in sets]
        lines.append([rows.name[row], *cells, f"{means[row]:+z.1f}"])
    head = ["native less ID resolution", *(rows.title[name] for name in sets), "mean"]
    return items(sentences) + table(head, lines) + picture("Both resolutions", "figures/resolution.png")


def _largest_apart(rows: Ranking, both: Pairs, apart: Mapping[Cell, float]) -> Iterator[str]:
    if named := _off(apart)[:NAMED]:
        pairs = {cell: both[cell[0]][cell[1]] for cell in named}
        numbers = (f"{_named(rows, cell)} {native:.1f}, {at_id:.1f}" for cell, (native, at_id) in pairs.items())
        yield f"Largest differences, native and ID resolution: {'; '.join(numbers)}."


def _best_at_both(rows: Ranking, both: Pairs) -> Iterator[str]:
    whole = [row for row in rows.ranked if len(both.get(row, {})) == len(rows.sets)]
    if len(whole) > 1:
        native, at_id = (
            max(whole, key=lambda row: fmean(pair[side] for pair in both[row].values())) for side in (0, 1)
        )
        if native == at_id:
            yield f"{rows.name[native]} is best on average at both."
        else:
            yield f"Best on average is {rows.name[native]} at native, {rows.name[at_id]} at ID resolution."


def _off(apart: Mapping[Cell, float]) -> list[Cell]:
    """The cells with a difference that is worth naming, the largest first."""
    return sorted((cell for cell in apart if round(abs(apart[cell]), 1) > WORTH), key=lambda cell: -abs(apart[cell]))


def _named(rows: Ranking, cell: Cell) -> str:
    return f"{rows.name[cell[0]]} against {rows.title[cell[1]]}"


def altered(rows: Ranking) -> Lines:
    """Which rows flag the ID set itself in another resolution."""
    controls = {name for name, _, group in rows.view.ood if group == "control"}
    cells = [cell for cell in rows.lines if cell[1] in controls]
    p_values = [above(rows.auroc(*cell) / 100, rows.low(*cell) / 100, 0.5) for cell in cells]
    flagged = {cell for cell, p in zip(cells, holm(p_values), strict=True) if p < LEVEL}
    sentences = []
    for name in (name for name, _, group in rows.view.ood if group == "control"):
        measured = sorted((row for row, ood in rows.lines if ood == name), key=lambda row: -rows.auroc(row, name))
        if not measured:
            continue
        flagging = [row for row in measured if (row, name) in flagged]
        top = flagging[:NAMED] or measured[:1]
        how = f"flagged by {len(flagging) or 'none'} of {count(len(measured), 'row')} (significantly above 50)"
        most = "; ".join(rows.with_interval(row, name) for row in top)
        sentences.append(f"{rows.title[name]}, the ID test set itself in another resolution: {how}; highest {most}.")
        dlsr = [row for row in measured if rows.method[row] == "dlsr"]
        if dlsr and dlsr[0] not in top:
            sentences[-1] += f" Highest of DLSR's rows: {rows.with_interval(dlsr[0], name)}."
    return items(sentences)


def overlaps(found: Sequence[Record]) -> Lines:
    """Images that stand in two of the sets: they count in both, and no score can tell them apart."""
    told: dict[str, None] = {}
    for record in found:
        if record["kind"] == "result" and record["status"] == "done":
            for about in (record["id"], record["ood"]):
                for note in about["notes"]:
                    if _SHARED.search(note):
                        told[f"{about['title']}: {note}; they count in both"] = None
    return items(told)


def shortcuts(rows: Ranking, found: Sequence[Record]) -> Lines:
    """The sets that low-level statistics of the pixels give away, and the means without them."""
    lowlevel = [row for row, name in rows.method.items() if name == "lowlevel"]
    measured = [name for name in rows.sets if any((row, name) in rows.lines for row in lowlevel)]
    if not measured:
        return []
    share = separable(found)
    marked = [name for name in measured if name in share]
    rule = f"AUROC significantly above {100 * SEPARABLE:.0f}"
    if not marked:
        return items([f"Low-level statistics of the pixels separate no OOD set ({rule})."])
    names = "; ".join(f"{rows.title[name]} {100 * share[name]:.1f}" for name in marked)
    what = f"separate {len(marked)} of {count(len(measured), 'OOD set')}"
    sentences = [f"Low-level statistics of the pixels alone {what} ({rule}): {names}."]
    rest = [name for name in rows.sets if name not in marked]
    if not rest or not rows.main:
        return items(sentences + ["No OOD set is left without them."] * (not rest))
    best = max(rows.main, key=lambda row: rows.mean_over(row, rest))
    without = "without it" if len(marked) == 1 else "without them"
    changed = "is still the best" if best == rows.main[0] else f"and not {rows.name[rows.main[0]]} is the best"
    sentences.append(f"{rows.name[best]} {changed} main row {without}.")
    head = ["mean AUROC", "all sets", without, "difference"]
    lines = []
    for row in rows.main:
        pair = rows.mean(row), rows.mean_over(row, rest)
        lines.append([rows.name[row], *(f"{value:.1f}" for value in pair), f"{pair[1] - pair[0]:+z.1f}"])
    return items(sentences) + table(head, lines)


def published(rows: Ranking) -> Lines:
    """Cells that are not the published ones, and what the records say that may be why."""
    apart = {
        cell: line["auroc"] - line["published_auroc"]
        for cell, line in rows.lines.items()
        if cell[1] in rows.sets and line["published_auroc"] == line["published_auroc"]  # not NaN
    }
    if not apart:
        return []
    off = _off(apart)
    if not off:
        return items([f"More than {WORTH:.0f} point from the published AUROC: none of {count(len(apart), 'cell')}."])
    higher = sum(apart[cell] > 0 for cell in off)
    largest = [
        f"{_named(rows, cell)} {rows.auroc(*cell):.1f}, published {rows.lines[cell]['published_auroc']:.1f}"
        for cell in off[:NAMED]
    ]
    reasons = {cell: list(_reasons(rows.cells[cell][0])) for cell in off}
    why = Counter(reason for of_cell in reasons.values() for reason in of_cell)
    unexplained = [_named(rows, cell) for cell in off if not reasons[cell]]
    more = f" and {len(unexplained) - NAMED} more" if len(unexplained) > NAMED else ""
    return items(
        [
            f"More than {WORTH:.0f} point from the published AUROC: {len(off)} of {count(len(apart), 'cell')}, "
            f"{higher} higher and {len(off) - higher} lower.",
            f"Largest: {'; '.join(largest)}.",
            *(f"May explain {'all' if n == len(off) else n} of these: {reason}" for reason, n in why.most_common()),
            *[f"Nothing that is recorded explains: {'; '.join(unexplained[:NAMED])}{more}."] * bool(unexplained),
        ]
    )


def _reasons(record: Record) -> Iterator[str]:
    """What a record says in which its number is not made as the published one."""
    yield from made_otherwise(record)
    settings = record["hyperparameters"]
    if record["method"] == "dlsr" and settings.get("measure") == "lr" and settings.get("lr_sign") == "paper":
        yield "LR has the sign that the paper argues for; the published numbers have the opposite one, of the code."


def made_otherwise(record: Record) -> Iterator[str]:
    """In what a record's images, training or settings are not those of the published number."""
    train = record["train"]
    for about in (record["id"], record["ood"]):
        if about["n"] < about["of"]:
            yield f"{about['title']}: {about['n']:,} of {about['of']:,} test images."
        if about.get("stands_in_for"):
            yield f"{about['title']} stands in for {about['stands_in_for']}."
        if about["notes"]:
            yield f"{about['title']}: {'; '.join(about['notes'])}."
    if train["n"] < (train.get("of") or train["n"]):
        yield f"Fitted on {train['n']:,} of {train['of']:,} ID training images."
    yield from record["footnotes"]
