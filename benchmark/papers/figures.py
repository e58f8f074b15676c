"""A view as a paper's figure: score densities, averages over a setting, bars; PNG and PDF, from records and scores."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.canvas import COLOURS, MARGIN, SMALL, TINY, WIDTH, Layout, canvas, height, legend, legend_size, wrap
from benchmark.papers.reading import Bars, Distributions, Sweep
from benchmark.papers.sources import borrowed, command, folder_of, measured
from benchmark.planning.options import Options
from benchmark.records import reference, scores
from benchmark.records.frames import Record
from benchmark.records.scores import Cell
from benchmark.reporting.figures import quantiles_note
from datasets import catalogue

FORMATS = ("png", "pdf")
_SIDES = (COLOURS[0], "#b45f06")  # of a pair of bars: white figures are legible on both
Draw = Callable[[Path], None]


class NotMeasured(Exception):
    """What a figure shows has not been measured; the text says what to run."""


def distributions(view: Distributions, options: Options) -> Draw:
    """Densities of the scores of each panel's row: the ID set filled, a line for each OOD set. Of the first seed."""
    panels = []
    for panel in view.panels:
        of_row = _results(measured(options, [panel.row], view.pretrained), [panel.row])[panel.row]
        if not of_row:
            raise NotMeasured(command(options, [panel.row], view.pretrained))
        suite, _, label = panel.row.partition("/")
        folder = folder_of(suite, options, view.pretrained, [panel.row])
        seed = _first(of_row)
        found = {name: of_row[name] for name in _with_stand_ins(view.ood, of_row) if name in of_row}
        read = {
            record["ood"]["title"]: scores.read(folder, {**record, "row": label})
            for record in found.values()
            if record["seed"] == seed
        }
        cells = {title: cell for title, cell in read.items() if cell is not None}
        if not cells:
            how = command(options, [panel.row], view.pretrained)
            raise NotMeasured(f"the scores of {panel.row} are not here (only its records): {how}")
        about = next(iter(found.values()))
        panels.append((f"{panel.title}, {about['encoder_title']}", f"{about['id']['title']} (ID)", cells))
    return partial(_draw_distributions, view.title, panels)


def _draw_distributions(title: str, panels: Sequence[tuple[str, str, Mapping[str, Cell]]], path: Path) -> None:
    names = list(dict.fromkeys(name for _, _, cells in panels for name in cells))
    labels = [panels[0][1], *(wrap(name, 2.2, lines=2) for name in names)]
    across = min(3.6, (WIDTH - 0.6) / len(panels))
    columns, high = legend_size(labels, max(5.0, across * len(panels)))
    note = quantiles_note(cell for _, _, cells in panels for cell in cells.values())
    heads = [wrap(head, across) for head, _, _ in panels]
    foot = high + height(note)
    layout = Layout(title, heads, len(panels), (across, 2.7), left=0.22, foot=foot, least=5.4)
    with canvas(path, layout.size) as figure:
        for place, (axes, (_, _, cells)) in enumerate(zip(layout.draw(figure), panels, strict=True)):
            _densities(axes, {name: cells[name] for name in names if name in cells}, names)
            axes.set_xlabel("score (greater = more OOD)", fontsize=SMALL)
            axes.set_ylabel("density" if place == 0 else "", fontsize=SMALL)
            axes.set_yticks([])
        from matplotlib.lines import Line2D
        from matplotlib.patches import Patch

        lines = [Line2D([], [], **_line(number)) for number in range(len(names))]
        legend(figure, [Patch(facecolor=(COLOURS[0], 0.4), edgecolor=COLOURS[0]), *lines], labels, columns)
        y = (MARGIN + high) / layout.size[1]
        figure.text(0.5, y, note, ha="center", va="bottom", fontsize=SMALL, color="0.3")


def _line(number: int) -> dict[str, Any]:
    """Of the OOD set with this number: another colour than its neighbours', and another dash once these repeat."""
    others = COLOURS[1:]
    return {"color": others[number % len(others)], "linestyle": ("-", "--", ":")[number // len(others) % 3]}


def _densities(axes: Any, cells: Mapping[str, Cell], names: Sequence[str]) -> None:
    import seaborn

    ids = next(iter(cells.values())).ids
    every = np.concatenate([s[np.isfinite(s)] for s in (ids, *(cell.oods for cell in cells.values()))])
    low, high = np.quantile(every, [0.005, 0.995]) if len(every) else (0.0, 1.0)
    margin = 0.03 * (high - low) or 0.5  # of scores that are all one
    low, high = low - margin, high + margin
    style: dict[str, Any] = {"ax": axes, "clip": (low, high), "warn_singular": False}
    drawn = [(ids, {"fill": True, "color": COLOURS[0], "alpha": 0.4})]
    drawn += [(cell.oods, _line(names.index(name))) for name, cell in cells.items()]
    for values, look in drawn:
        values = values[np.isfinite(values)]
        if np.ptp(values) > 0 if len(values) else False:
            seaborn.kdeplot(values, **style, **look)
        elif len(values):  # equal scores have no density: where they are
            axes.axvline(values[0], **{k: v for k, v in look.items() if k in ("color", "linestyle")})
    axes.set_xlim(low, high)


def sweep(view: Sweep, options: Options) -> Draw:
    """Average AUROC and FPR95 of each line over the setting, over the sets that every row is measured on."""
    rows = [row for line in view.lines for row in line.rows.values()]
    results = _results(measured(options, rows, None), rows)
    there = _measured_everywhere(view.ood, results, options)
    lines = {
        line.title: [(value, *_average(results[row], there)) for value, row in sorted(line.rows.items())]
        for line in view.lines
    }
    over = " ".join([f"{_over(there, view.ood, results)}.", *borrowed(options, rows, None)])
    return partial(_draw_sweep, view, over, lines)


def _draw_sweep(view: Sweep, over: str, lines: Mapping[str, Sequence[tuple[int, float, float]]], path: Path) -> None:
    measures = ("AUROC ↑", "FPR95 ↓")
    labels = [wrap(title, 2.2) for title in lines]
    columns, high = legend_size(labels, 6.8)
    note = wrap(over, 7.2)
    layout = Layout(
        view.title, ["", ""], 2, (3.1, 2.4), left=0.55, gap=0.7, below_last=0.5, foot=high + height(note) + 0.05
    )
    with canvas(path, layout.size) as figure:
        for column, (axes, name) in enumerate(zip(layout.draw(figure), measures, strict=True), start=1):
            for number, (title, points) in enumerate(lines.items()):
                style: dict[str, Any] = {"marker": "os^"[number % 3], "markersize": 4.5, "label": title}
                axes.plot([p[0] for p in points], [p[column] for p in points], **style)
            axes.set_xscale("log")
            values = sorted({point[0] for points in lines.values() for point in points})
            axes.set_xticks(values, [str(value) for value in values])
            axes.minorticks_off()
            axes.set_xlabel(view.axis, fontsize=SMALL)
            axes.set_ylabel(f"average {name} (%)", fontsize=SMALL)
            axes.set_ylim(0 if column == 2 else None, 101)
            axes.axhline(50, color="0.7", linewidth=0.8, linestyle=":") if column == 1 else None
        legend(figure, axes.get_legend_handles_labels()[0], labels, columns)
        y = (MARGIN + high) / layout.size[1]
        figure.text(0.5, y, note, ha="center", va="bottom", fontsize=SMALL, color="0.3")


def bars(view: Bars, options: Options) -> Draw:
    """For each ID set and measure, two bars: the last layer alone, and all; the published figures as marks."""
    groups = []
    for group in view.groups:
        rows = [row for pair in group.bars.values() for row in pair]
        results = _results(measured(options, rows, None), rows)
        cells = reference.published((view.reference,), group.id)
        there = [
            name
            for name in _with_stand_ins(group.ood, *results.values())
            if any(results.values()) and all(name in of_row for of_row in results.values() if of_row)
        ]
        found = []
        for name, pair in group.bars.items():
            ours = [_average(results[row], there)[0] if there and results[row] else float("nan") for row in pair]
            printed = name.partition(" ")[0]  # of a measure that has two rows, as LR with either sign
            theirs = [cells.get((f"{printed}|{each}", "average", "auroc"), float("nan")) for each in view.settings]
            found.append((name, ours, theirs))
        over = _over(there, group.ood, results) if there else "not measured here"
        groups.append((group.id, " ".join([f"{over}.", *borrowed(options, rows, None)]), found))
    if all(np.isnan(ours).all() for _, _, found in groups for _, ours, _ in found):
        every = [row for group in view.groups for pair in group.bars.values() for row in pair]
        raise NotMeasured(command(options, every))
    return partial(_draw_bars, view, groups)


def _draw_bars(view: Bars, groups: Sequence[tuple[str, str, Sequence[tuple[str, Any, Any]]]], path: Path) -> None:
    across = min(3.0, (WIDTH - 0.7) / len(groups) - 0.15)
    heads = [f"{wrap(name, across)}\n{wrap(over, across, TINY, lines=6)}" for name, over, _ in groups]
    labels = ["last layer alone", "all layers", "published"]
    columns, foot = legend_size(labels, 5.0)
    layout = Layout(
        view.title, heads, len(groups), (across, 2.4), left=0.5, below_last=0.3, foot=foot, head_points=TINY, least=5.4
    )
    with canvas(path, layout.size) as figure:
        for axes, (_, _, found) in zip(grid := layout.draw(figure), groups, strict=True):
            for place, (_, ours, theirs) in enumerate(found):
                for side in (0, 1):
                    x = place + (side - 0.5) * 0.4
                    axes.bar(x, ours[side], 0.38, color=_SIDES[side])
                    if not np.isnan(ours[side]):
                        text = {
                            "ha": "center",
                            "va": "bottom",
                            "fontsize": TINY,
                            "color": "white",
                            "rotation": 90,
                        }
                        axes.text(x, 2, f"{ours[side]:.1f}", **text)
                    axes.plot(x, theirs[side], "D", color="0.1", markeredgecolor="white", markersize=5)
            axes.axhline(50, color="0.7", linewidth=0.8, linestyle=":")
            axes.set_xticks(range(len(found)), [measure.removeprefix("DLSR-") for measure, _, _ in found])
            axes.set_ylim(0, 104)  # bars begin where their length does
            axes.tick_params(labelleft=axes is grid[0])
        grid[0].set_ylabel("average AUROC (%)", fontsize=SMALL)
        from matplotlib.lines import Line2D
        from matplotlib.patches import Patch

        marks = [*(Patch(facecolor=colour) for colour in _SIDES), Line2D([], [], color="0.1", marker="D", linestyle="")]
        legend(figure, marks, labels, columns)


def _results(found: Iterable[Record], rows: Iterable[str]) -> dict[str, dict[str, Record]]:
    """row -> OOD set -> its record of the first seed."""
    results: dict[str, dict[str, Record]] = {row: {} for row in rows}
    for record in found:
        if record["kind"] == "result" and record["status"] == "done" and record["row"] in results:
            there = results[record["row"]].get(record["ood"]["name"])
            if there is None or record["seed"] < there["seed"]:
                results[record["row"]][record["ood"]["name"]] = record
    return results


def _first(of_row: Mapping[str, Record]) -> int:
    return int(min(record["seed"] for record in of_row.values()))


def _with_stand_ins(ood: Sequence[str], *rows: Mapping[str, Record]) -> list[str]:
    """The sets, and behind them what was measured in the place of one."""
    titles = {catalogue.get(name).title for name in ood}
    stand_ins = [name for of_row in rows for name, record in of_row.items() if record["ood"]["stands_in_for"] in titles]
    return list(dict.fromkeys([*ood, *stand_ins]))


def _measured_everywhere(
    ood: Sequence[str], results: Mapping[str, Mapping[str, Record]], options: Options
) -> list[str]:
    missing = [row for row, of_row in results.items() if not of_row]
    there = [
        name for name in _with_stand_ins(ood, *results.values()) if all(name in of_row for of_row in results.values())
    ]
    if missing or not there:
        raise NotMeasured(command(options, missing or results))
    return there


def _average(of_row: Mapping[str, Record], there: Sequence[str]) -> tuple[float, float]:
    """Mean AUROC and FPR95 over the sets, in percent."""
    auroc, fpr95 = (np.mean([of_row[name]["metrics"][metric] for name in there]) for metric in ("auroc", "fpr95"))
    return 100 * float(auroc), 100 * float(fpr95)


def _over(there: Sequence[str], wanted: Sequence[str], results: Mapping[str, Mapping[str, Record]]) -> str:
    """What an average is over, in words."""
    about = {name: record["ood"] for of_row in results.values() for name, record in of_row.items()}
    titles = [
        f"{about[name]['title']} for {about[name]['stands_in_for']}" if name not in wanted else about[name]["title"]
        for name in there
    ]
    n = max(about[name]["n"] for name in there)
    return f"mean over {', '.join(titles)}; up to {n:,} images each"
