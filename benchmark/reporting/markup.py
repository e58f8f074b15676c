"""A view's table as a Markdown page and in LaTeX: best figures bold, published numbers small beneath ours."""

import re
from collections.abc import Iterable, Sequence
from itertools import groupby

from benchmark.records.frames import Record, View, results_of
from benchmark.reporting import footnotes
from benchmark.reporting.cells import Grid
from benchmark.shown import printable

HOW_TO_READ = (
    "Bold: the best of a column as printed (one decimal: the next is noise); underlined: the second. Published numbers "
    "stand beneath ours, with the difference, ours less theirs.",
    "{metrics}",
    "±: half the width of the 95 % DeLong interval, the noise of these test images, where a row has one run; the "
    "sample standard deviation over seeds where it has several. Rows that differ by less may be equal.",
    "An average counts every OOD set once, and is there only where all its sets are. The ± of a single run's average "
    "is the mean of the sets' own, an upper bound. Near sets look like the ID set, far sets do not.",
    "Rows with random or constant scores check the harness (AUROC 50); they are never the best.",
)

_MD_RANKS = {"best": "**{}**", "second": "<u>{}</u>", "": "{}"}
_TEX_RANKS = {"best": r"\textbf{{{}}}", "second": r"\underline{{{}}}", "": "{}"}
_TEX = {c: rf"\{c}" for c in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "–": r"\textendash{}",
    "†": r"$\dagger$",
    "‡": r"$\ddagger$",
    "[": "{[}",  # after the \\ of the line before, a bare [ or * would be its argument
    "*": "{*}",
}


def markdown(records: Iterable[Record], view: View) -> str:
    """The page of a view: what it is, one table with intervals, notes, what is absent, how to read it."""
    records = list(records)
    grid = Grid(records, view)
    several = len(grid.encoders) > 1
    head = ["row", *(["encoder"] if several else [])]
    head += [md(title) + (f"<br>({group})" if group else "") for _, title, group in grid.columns]
    head += ["ID accuracy ↑"] * grid.has_accuracy + ["images/s ↑"] * grid.has_speed
    lines = [head, [":---" if name in ("row", "encoder") else "---:" for name in head]]
    for encoder, rows in grid.encoders.items():
        for row, title in rows:
            line = [md(title), *([md(encoder)] if several else [])]
            line += [_md_cell(grid, row, ood) for ood, _, _ in grid.columns]
            line += [grid.accuracy(row)] * grid.has_accuracy
            line += [grid.speed(row) + _md_published(grid.published_speed(row), "")] * grid.has_speed
            lines.append(line)
    encoders = "" if several else "".join(f" Encoder: {md(encoder)}." for encoder in grid.encoders)
    return "\n".join(
        [
            f"# {md(view.title)}",
            "",
            f"ID: {md(view.id_title)}.{encoders} Each cell: {grid.directions}, in percent.",
            "",
            *(f"| {' | '.join(line)} |" for line in lines),
            *_md_bits(records, view),
            *_md_section("Notes", grid.below),
            *_md_section("Absent OOD sets, and how to get them", footnotes.absent(view)),
            *_md_section("How to read it", [line.format(metrics=_meanings(grid)) for line in HOW_TO_READ]),
            "",
        ]
    )


def _meanings(grid: Grid) -> str:
    return " ".join(f"{metric.title}: {metric.meaning}." for metric in grid.shown)


def _md_bits(records: Iterable[Record], view: View) -> list[str]:
    """Bits per dimension of the likelihood models on the ID set and on every OOD set; the mean over seeds."""
    means: dict[str, dict[str, float]] = {}
    for (row, ood), seeds in results_of(records, view).items():
        bits = [record["bits_per_dimension"] for record in seeds if record.get("bits_per_dimension")]
        if bits:
            of_row = means.setdefault(row, {})
            of_row["ID"], of_row[ood] = (sum(values) / len(bits) for values in zip(*bits, strict=True))
    if not means:
        return []
    columns = [("ID", view.id_title), *((name, title) for name, title, _ in view.near_first())]
    lines = [["row", *(md(title) for _, title in columns)], [":---", *("---:" for _ in columns)]]
    for row, title, _ in view.rows:
        if row in means:
            lines.append(
                [md(title), *(f"{means[row][name]:.3f}" if name in means[row] else "–" for name, _ in columns)]
            )
    head = ["", "## Bits per dimension", "", "Means over images; the fewer, the likelier the model finds them.", ""]
    return [*head, *(f"| {' | '.join(line)} |" for line in lines)]


def _md_section(title: str, lines: Sequence[str]) -> list[str]:
    return ["", f"## {title}", "", *(f"- {md(line)}" for line in lines)] if lines else []


def _md_cell(grid: Grid, row: str, ood: str) -> str:
    figures = grid.figures(row, ood)
    if figures is None:
        cell = md(grid.mark(row, ood))
    else:
        first, *others = (_MD_RANKS[rank].format(figure) for figure, rank in figures)
        cell = " / ".join([f"{first} ±{grid.spread(row, ood)}", *others])
    return cell + _md_published(grid.published(row, ood), grid.difference(row, ood))


def _md_published(published: str, difference: str) -> str:
    apart = f" ({difference})" if difference else ""
    return f"<br><sub>published {published}{apart}</sub>" if published else ""


def md(words: str) -> str:
    """Words that Markdown shows as they are, on one line. An underscore inside a word needs no escape."""
    return re.sub(r"[\\`*<>\[\]|~]|\b_|_\b", r"\\\g<0>", " ".join(printable(words).split()))


def latex(records: Iterable[Record], view: View) -> str:
    """The table in LaTeX, with the packages booktabs and adjustbox."""
    grid = Grid(records, view)
    heads = [title for _, title, _ in grid.columns]
    heads += ["ID acc. ↑"] * grid.has_accuracy + ["images/s ↑"] * grid.has_speed
    body = []
    for encoder, rows in grid.encoders.items():
        body.append(rf"\midrule \multicolumn{{{len(heads) + 1}}}{{l}}{{\textit{{{_tex(encoder)}}}}} \\")
        for row, title in rows:
            cells = [_tex_cell(grid, row, ood) for ood, _, _ in grid.columns]
            cells += [_tex(grid.accuracy(row))] * grid.has_accuracy + [_tex(grid.speed(row))] * grid.has_speed
            body.append(_tex_line([_tex(title), *cells]))
            beneath = [_beneath(grid, row, ood) for ood, _, _ in grid.columns]
            beneath += [""] * grid.has_accuracy + [grid.published_speed(row)] * grid.has_speed
            if any(beneath):
                body.append(_tex_line(["", *(rf"{{\scriptsize {_tex(cell)}}}" if cell else "" for cell in beneath)]))
    notes = [*grid.below, *(f"absent: {line}" for line in footnotes.absent(view))]
    caption = f"{view.title}. ID: {view.id_title}. {grid.directions} in percent; published numbers small beneath ours."
    return "\n".join(
        [
            r"% needs \usepackage{booktabs} and \usepackage{adjustbox}",
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{_tex(caption)}}}",
            rf"\label{{tab:{re.sub(r'[^A-Za-z0-9:-]+', '-', view.name)}}}",
            r"\begin{adjustbox}{max width=\textwidth}",
            rf"\begin{{tabular}}{{l{'r' * len(heads)}}}",
            r"\toprule",
            *_tex_groups(grid, len(heads)),
            _tex_line(["", *map(_tex, heads)]),
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{adjustbox}",
            *([r"\par\footnotesize\raggedright", *(rf"{_tex(note)}\par" for note in notes)]),
            r"\end{table}",
            "",
        ]
    )


def _tex_groups(grid: Grid, width: int) -> list[str]:
    """The line above the names of the OOD sets that says which are near and which far; none where nothing does."""
    cells, rules, start = [], [], 2
    for group, columns in groupby(group for _, _, group in grid.columns):
        n = len(list(columns))
        cells.append(rf"\multicolumn{{{n}}}{{c}}{{{group}}}" if group else " & ".join([""] * n))
        rules += [rf"\cmidrule(lr){{{start}-{start + n - 1}}}"] if group else []
        start += n
    return [_tex_line(["", *cells, *[""] * (width + 2 - start)]), " ".join(rules)] if rules else []


def _tex_line(cells: Sequence[str]) -> str:
    return " & ".join(cells).rstrip() + r" \\"


def _tex_cell(grid: Grid, row: str, ood: str) -> str:
    figures = grid.figures(row, ood)
    if figures is None:
        return _tex(grid.mark(row, ood))
    first, *others = (_TEX_RANKS[rank].format(figure) for figure, rank in figures)
    return " / ".join([rf"{first}\,{{\scriptsize$\pm${grid.spread(row, ood)}}}", *others])


def _beneath(grid: Grid, row: str, ood: str) -> str:
    difference = grid.difference(row, ood)
    return grid.published(row, ood) + (f" ({difference})" if difference else "")


def _tex(words: str) -> str:
    """Words that LaTeX prints as they are, on one line."""
    escaped = "".join(_TEX.get(character, character) for character in " ".join(printable(words).split()))
    return escaped.replace("--", "-{}-")  # two hyphens, not a dash: options are typed so
