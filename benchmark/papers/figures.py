"""A view as a paper's figure: score densities, averages over a setting, bars; PNG and PDF, from records and scores."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.canvas import canvas
from benchmark.papers.reading import Bars, Distributions, Sweep
from benchmark.papers.tables import folder_of, measured
from benchmark.planning.options import Options
from benchmark.records import reference, score_files
from benchmark.records.frames import Record
from datasets import catalogue

FORMATS = ("png", "pdf")
Draw = Callable[[Path], None]


class NotMeasured(Exception):
    """What a figure shows has not been measured; the text says what to run."""


def distributions(view: Distributions, options: Options) -> Draw:
    """Densities of the scores of each panel's row: the ID set filled, a line for each OOD set. Of the first seed."""
    panels = []
    for panel in view.panels:
        of_row = _results(measured(options, [panel.row], view.pretrained), [panel.row])[panel.row]
        if not of_row:
            raise NotMeasured(_command(panel.row))
        suite, _, label = panel.row.partition("/")
        folder = folder_of(suite, options, view.pretrained)
        of_row = {name: {**record, "row": label} for name, record in of_row.items()}
        shown = [name for name in _with_stand_ins(view.ood, of_row) if name in of_row]
        about = of_row[shown[0]] if shown else next(iter(of_row.values()))
        try:
            ood = {of_row[name]["ood"]["title"]: score_files.read(folder, of_row[name], "ood") for name in shown}
            ids = score_files.read(folder, about, "id")
            panels.append((f"{panel.title}, {about['encoder_title']}", about["id"], ids, ood))
        except ValueError:
            raise NotMeasured(
                f"the scores of {panel.row} are not here (only its records): {_command(panel.row)}"
            ) from None
    return partial(_draw_distributions, view.title, panels)


def _draw_distributions(title: str, panels: Sequence[tuple[str, Any, Any, Mapping[str, Any]]], path: Path) -> None:
    import seaborn

    with canvas(path, (4.6 * len(panels) + 0.4, 4.2)) as figure:
        every = np.concatenate([s for _, _, ids, ood in panels for s in (ids, *ood.values())])
        low, high = np.quantile(every, [0.001, 0.999])
        low, high = low - 0.03 * (high - low), high + 0.03 * (high - low)
        grid = figure.subplots(1, len(panels), squeeze=False)[0]
        for axes, (head, about, ids, ood) in zip(grid, panels, strict=True):
            seaborn.kdeplot(
                ids, ax=axes, fill=True, color="C0", label=f"{about['title']} (ID)", alpha=0.4, clip=(low, high)
            )
            for number, (name, scores) in enumerate(ood.items(), start=1):
                style = "-" if number < 6 else "--"
                seaborn.kdeplot(scores, ax=axes, color=f"C{number}", label=name, linestyle=style, clip=(low, high))
            axes.set_title(head, fontsize="medium")
            axes.set_xlabel("score (greater = more OOD)")
            axes.set_ylabel("density" if axes is grid[0] else "")
            axes.set_xlim(low, high)
            axes.set_yticks([])
        handles, labels = grid[0].get_legend_handles_labels()
        figure.legend(
            handles, labels, frameon=False, loc="outside lower center", ncols=min(3 * len(panels), len(labels))
        )
        figure.suptitle(title, fontweight="bold")


def sweep(view: Sweep, options: Options) -> Draw:
    """Average AUROC and FPR95 of each line over the setting, over the sets that every row is measured on."""
    rows = [row for line in view.lines for row in line.rows.values()]
    results = _results(measured(options, rows, None), rows)
    there = _measured_everywhere(view.ood, results)
    lines = {
        line.title: [(value, *_average(results[row], there)) for value, row in sorted(line.rows.items())]
        for line in view.lines
    }
    return partial(_draw_sweep, view, _over(there, view.ood, results), lines)


def _draw_sweep(view: Sweep, over: str, lines: Mapping[str, Sequence[tuple[int, float, float]]], path: Path) -> None:
    with canvas(path, (8.4, 3.8)) as figure:
        for column, (axes, name) in enumerate(zip(figure.subplots(1, 2), ("AUROC ↑", "FPR95 ↓"), strict=True), start=1):
            for number, (title, points) in enumerate(lines.items()):
                values = [point[0] for point in points]
                axes.plot(values, [p[column] for p in points], marker="os^"[number % 3], label=title)
            axes.set_xscale("log")
            axes.set_xticks(values, [str(value) for value in values])
            axes.minorticks_off()
            axes.set_xlabel(view.axis)
            axes.set_ylabel(f"average {name} (%)")
            axes.set_ylim(0 if column == 2 else None, 100)
            axes.axhline(50, color="0.7", linewidth=0.8, linestyle=":") if column == 1 else None
        figure.legend(*axes.get_legend_handles_labels(), frameon=False, loc="outside lower center", ncols=3)
        figure.suptitle(f"{view.title}\n", fontweight="bold")
        figure.text(0.5, 0.915, over, ha="center", va="top", fontsize="small")


def bars(view: Bars, options: Options) -> Draw:
    """For each ID set and measure, two bars: the last layer alone, and all; the published figures as marks."""
    groups = []
    for group in view.groups:
        rows = [row for pair in group.bars.values() for row in pair]
        results = _results(measured(options, rows, None), rows)
        cells = reference.published((view.reference,), group.id)
        there = [
            name for name in _with_stand_ins(group.ood, *results.values()) if all(name in results[r] for r in rows)
        ]
        found = []
        for name, pair in group.bars.items():
            ours = [_average(results[row], there)[0] if there else float("nan") for row in pair]
            theirs = [cells.get((f"{name}|{setting}", "average", "auroc"), float("nan")) for setting in view.settings]
            found.append((name, ours, theirs))
        groups.append((group.id, _over(there, group.ood, results) if there else "not measured here", found))
    if all(np.isnan(ours).all() for _, _, found in groups for _, ours, _ in found):
        raise NotMeasured(_command(*(row for group in view.groups for pair in group.bars.values() for row in pair)))
    return partial(_draw_bars, view, groups)


def _draw_bars(view: Bars, groups: Sequence[tuple[str, str, Sequence[tuple[str, Any, Any]]]], path: Path) -> None:
    import textwrap

    with canvas(path, (3.1 * len(groups) + 0.5, 4.2)) as figure:
        grid = figure.subplots(1, len(groups), sharey=True, squeeze=False)[0]
        every = [value for _, _, found in groups for _, ours, theirs in found for value in (*ours, *theirs)]
        low = max(0, 10 * np.floor(np.nanmin(every) / 10 - 0.5))
        for axes, (name, over, found) in zip(grid, groups, strict=True):
            for place, (_, ours, theirs) in enumerate(found):
                for side in (0, 1):
                    x = place + (side - 0.5) * 0.38
                    label = ("last layer alone", "all layers")[side] if place == 0 else None
                    axes.bar(x, ours[side], 0.36, color=f"C{side}", label=label, alpha=0.8)
                    if not np.isnan(ours[side]):
                        axes.text(
                            x, ours[side] + 0.4, f"{ours[side]:.1f}", ha="center", va="bottom", fontsize="x-small"
                        )
                    axes.plot(
                        x,
                        theirs[side],
                        "D",
                        color="0.15",
                        markersize=4,
                        label="published" if place == side == 0 else None,
                    )
            axes.set_xticks(range(len(found)), [measure.removeprefix("DLSR-") for measure, _, _ in found])
            axes.set_ylim(low, 104)
            axes.set_title(f"{name}\n{textwrap.fill(over, 38)}", fontsize="small")
        grid[0].set_ylabel("average AUROC (%)")
        figure.legend(*grid[0].get_legend_handles_labels(), frameon=False, loc="outside lower center", ncols=3)
        figure.suptitle(view.title, fontweight="bold")


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


def _measured_everywhere(ood: Sequence[str], results: Mapping[str, Mapping[str, Record]]) -> list[str]:
    missing = [row for row, of_row in results.items() if not of_row]
    there = [
        name for name in _with_stand_ins(ood, *results.values()) if all(name in of_row for of_row in results.values())
    ]
    if missing or not there:
        raise NotMeasured(_command(*(missing or results)))
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
    n = next(record["ood"]["n"] for of_row in results.values() for record in of_row.values())
    return f"mean over {', '.join(titles)}; up to {n:,} images each"


def _command(*rows: str) -> str:
    suites: dict[str, list[str]] = {}
    for row in dict.fromkeys(rows):
        suite, _, label = row.partition("/")
        suites.setdefault(suite, []).append(label)
    return "; ".join(f"run_all.py --id {suite} --methods {' '.join(labels)}" for suite, labels in suites.items())
