"""What else a number may be: image size, low-level statistics, another training. Sentences by rule from the numbers."""

from collections.abc import Iterator, Sequence
from statistics import fmean

from benchmark.frames import Record
from benchmark.prose import Lines, count, items, picture, table
from benchmark.ranking import Ranking
from benchmark.resolutions import Pairs
from benchmark.shortcuts import SEPARABLE, separable

NAMED = 3  # the largest of a kind that a sentence names
WORTH = 1.0  # points of AUROC: a difference that is not larger, to one decimal, is not named


def resolution(rows: Ranking, both: Pairs) -> Lines:
    """What image size is worth: native less ID resolution."""
    shown = [row for row in rows.main if row in both]
    if not shown:
        return []
    sets = [name for name in rows.sets if any(name in both[row] for row in shown)]
    apart = {(row, name): native - at_id for row in shown for name, (native, at_id) in both[row].items()}
    means = {row: fmean(apart[row, name] for name in both[row]) for row in shown}
    higher, lower = (sum(round(sign * mean, 1) > WORTH for mean in means.values()) for sign in (1, -1))
    sentences = [
        f"Higher at native than at ID resolution by more than {WORTH:.0f} point on average over the sets measured at "
        f"both: {higher} of {count(len(shown), 'main row')}; lower: {lower}."
    ]
    named = sorted((cell for cell in apart if round(abs(apart[cell]), 1) > WORTH), key=lambda cell: -abs(apart[cell]))
    largest = [
        "{} against {}: {:.1f} native, {:.1f} at the size of the ID images".format(
            rows.name[row], rows.title[name], *both[row][name]
        )
        for row, name in named[:NAMED]
    ]
    sentences += [f"Largest: {'; '.join(largest)}."] if largest else []
    whole = [row for row in rows.ranked if len(both.get(row, {})) == len(rows.sets)]
    if len(whole) > 1:
        best = [max(whole, key=lambda row: fmean(pair[side] for pair in both[row].values())) for side in (0, 1)]
        names = [rows.name[row] for row in best]
        same = f"{names[0]} is best on average at both" if best[0] == best[1] else ""
        sentences.append(f"{same or f'Best on average is {names[0]} at native, {names[1]} at ID resolution'}.")
    head = ["native less ID resolution", *(rows.title[name] for name in sets), "mean"]
    lines = [
        [
            rows.name[row],
            *(f"{apart[row, name]:+.1f}" if name in both[row] else "–" for name in sets),
            f"{means[row]:+.1f}",
        ]
        for row in shown
    ]
    return items(sentences) + table(head, lines) + picture("Both resolutions", "figures/resolution.png")


def altered(rows: Ranking) -> Lines:
    """Which rows flag the ID set itself in another resolution."""
    sentences = []
    for name in (name for name, _, group in rows.view.ood if group == "control"):
        measured = sorted((row for row, ood in rows.lines if ood == name), key=lambda row: -rows.auroc(row, name))
        flagging = [row for row in measured if rows.lines[row, name]["auroc_low"] > 50]
        what = f"{rows.title[name]} (the ID test set itself, in another resolution)"
        if flagging:
            most = "; ".join(rows.with_interval(row, name) for row in flagging[:NAMED])
            who = f"flagged by {len(flagging)} of {count(len(measured), 'row')}, with the whole interval above 50"
            sentences.append(f"{what}: {who}; most by {most}.")
        elif measured:
            sentences.append(f"{what}: flagged by no row; highest {rows.with_interval(measured[0], name)}.")
    return items(sentences)


def shortcuts(rows: Ranking, found: Sequence[Record]) -> Lines:
    """The sets that low-level statistics of the pixels give away, and the means without them."""
    lowlevel = [row for row, name in rows.method.items() if name == "lowlevel"]
    measured = [name for name in rows.sets if any((row, name) in rows.lines for row in lowlevel)]
    if not measured:
        return []
    share = separable(found)
    marked = [name for name in measured if name in share]
    rule = f"AUROC of Low-level statistics with its whole interval above {100 * SEPARABLE:.0f}"
    if not marked:
        return items([f"Low-level statistics of the pixels separate no OOD set ({rule})."])
    names = "; ".join(f"{rows.title[name]} {100 * share[name]:.1f}" for name in marked)
    what = f"separate {len(marked)} of {count(len(measured), 'OOD set')}"
    sentences = [f"Low-level statistics of the pixels alone {what} ({rule}): {names}."]
    rest = [name for name in rows.sets if name not in marked]
    if not rest or not rows.main:
        return items(sentences + ["No OOD set is left without them."] * (not rest))
    best = max(rows.main, key=lambda row: rows.mean_over(row, rest))
    changed = "still" if best == rows.main[0] else f"instead of {rows.name[rows.main[0]]}"
    sentences.append(f"Without them {rows.name[best]} is best of the main rows, {changed}.")
    head = ["mean AUROC", "all sets", f"without {'it' if len(marked) == 1 else 'them'}", "difference"]
    lines = []
    for row in rows.main:
        pair = rows.mean(row), rows.mean_over(row, rest)
        lines.append([rows.name[row], *(f"{value:.1f}" for value in pair), f"{pair[1] - pair[0]:+.1f}"])
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
    off = sorted((cell for cell in apart if round(abs(apart[cell]), 1) > WORTH), key=lambda cell: -abs(apart[cell]))
    if not off:
        return items([f"More than {WORTH:.0f} point from the published AUROC: none of {count(len(apart), 'cell')}."])

    def named(row: str, ood: str) -> str:
        return f"{rows.name[row]} against {rows.title[ood]}"

    higher = sum(apart[cell] > 0 for cell in off)
    largest = [
        f"{named(*cell)} {rows.auroc(*cell):.1f}, published {rows.lines[cell]['published_auroc']:.1f}"
        for cell in off[:NAMED]
    ]
    why: dict[str, Lines] = {}
    for cell in off:
        for reason in _reasons(rows.cells[cell][0]):
            why.setdefault(reason, []).append(named(*cell))
    explained = {cell for cells in why.values() for cell in cells}
    unexplained = [named(*cell) for cell in off if named(*cell) not in explained]
    more = f" and {len(unexplained) - NAMED} more" if len(unexplained) > NAMED else ""
    return items(
        [
            f"More than {WORTH:.0f} point from the published AUROC: {len(off)} of {count(len(apart), 'cell')}, "
            f"{higher} higher and {len(off) - higher} lower.",
            f"Largest: {'; '.join(largest)}.",
            *(f"May explain {len(cells)} of these {len(off)}: {reason}" for reason, cells in why.items()),
            *[f"Nothing that is recorded explains: {'; '.join(unexplained[:NAMED])}{more}."] * bool(unexplained),
        ]
    )


def _reasons(record: Record) -> Iterator[str]:
    """What a record says in which its number is not made as the published one."""
    train = record["train"]
    for about in (record["id"], record["ood"]):
        if about["n"] < about["of"]:
            yield f"{about['title']}: {about['n']:,} of {about['of']:,} test images."
        if about["notes"]:
            yield f"{about['title']}: {'; '.join(about['notes'])}."
    if train["n"] < train.get("of", train["n"]):
        yield f"Fitted on {train['n']:,} of {train['of']:,} ID training images."
    yield from record["footnotes"]
