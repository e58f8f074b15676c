"""The page's plots, as Plotly takes them: from numbers that tables and figures have already."""

import base64
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import ceil, floor, log10
from pathlib import Path
from typing import Any

from benchmark.records.frames import Record, View, timed
from benchmark.records.names import safe_name
from benchmark.records.resolutions import Pairs
from benchmark.records.significance import Significance
from benchmark.store import files

Plot = dict[str, Any]
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # Okabe and Ito's
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x")


def content(
    folder: Path, found: Sequence[Record], view: View, compared: Significance | None, both: Pairs
) -> list[Plot]:
    """Each plot: title, data, layout. A point's `customdata` is the row that a click finds; "" for none."""
    names = {row: f"{title}, {encoder}" for row, title, encoder in view.rows}
    made = (_speed(found, view), _critical(compared, names), _resolution(both, view, names), _losses(folder, names))
    return [plot for plot in made if plot is not None]


def _speed(found: Iterable[Record], view: View) -> Plot | None:
    """Mean AUROC against images a second, a trace for each encoder."""
    of_encoders: dict[str, list[dict[str, Any]]] = {}
    for line in timed(found, view):
        of_encoders.setdefault(line["encoder"], []).append(line)
    traces = []
    for place, (encoder, points) in enumerate(of_encoders.items()):
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": _short(encoder),
                "x": [float(f"{rate:.5g}") for rate in (line["images_per_second"] for line in points)],
                "y": [round(line["auroc"], 2) for line in points],
                "text": [_short(line["title"], 200) for line in points],
                "customdata": [line["row"] for line in points],
                "marker": _marker(place),
                "hovertemplate": "%{text}<br>AUROC %{y:.1f}, %{x:,.0f} images/s",
            }
        )
    if not traces:
        return None
    layout = {
        "xaxis": {**_log([rate for trace in traces for rate in trace["x"]]), "title": {"text": "images per second"}},
        "yaxis": {"title": {"text": "mean AUROC over OOD sets (%)"}},
        "legend": {"orientation": "h", "y": -0.18},
    }
    title = "AUROC against images per second, from stored bytes to score"
    return {"title": title, "data": traces, "layout": layout}


def _log(values: Sequence[float]) -> dict[str, Any]:
    """A log axis with ticks at 1, 2 and 5 of every decade, of many at 1 alone; Plotly's own where two are not there."""
    low, high = min(values) / 1.1, max(values) * 1.1
    steps = (1, 2, 5) if high / low < 1e4 else (1,)
    ticks = [step * 10.0**decade for decade in range(floor(log10(low)), ceil(log10(high)) + 1) for step in steps]
    ticks = [tick for tick in ticks if low <= tick <= high]
    chosen = {"tickvals": ticks, "ticktext": [f"{tick:,.10g}" for tick in ticks]} if len(ticks) > 1 else {}
    return {"type": "log", **chosen}


def _marker(place: int) -> dict[str, Any]:
    return {"size": 9, "color": COLOURS[place % 6], "symbol": SYMBOLS[(place + place // 6) % 6]}


def _critical(compared: Significance | None, names: Mapping[str, str]) -> Plot | None:
    """Rows by mean AUROC, the best on top; a bar joins those that do not differ significantly."""
    if compared is None or len(compared.means) < 2:
        return None
    rows, values = list(compared.means), [round(100 * mean, 2) for mean in compared.means.values()]
    labels = [names[row] for row in rows]
    step = max(0.4, (max(values) - min(values)) / 60)
    traces: list[dict[str, Any]] = [
        {
            "type": "scatter",
            "mode": "markers",
            "x": values,
            "y": list(range(len(rows))),
            "text": [_short(label, 200) for label in labels],
            "customdata": rows,
            "marker": _marker(0),
            "hovertemplate": "%{text}<br>mean AUROC %{x:.1f}<extra></extra>",
        }
    ]
    for place, group in enumerate(compared.groups()):
        ends = [rows.index(group[0]), rows.index(group[-1])]
        at = max(values) + step * (1 + place % 3)
        bar = {"x": [at, at], "y": ends, "mode": "lines", "line": {"width": 4, "color": "#888"}}
        told = f"{len(group)} rows that do not differ significantly<extra></extra>"
        traces.append({"type": "scatter", **bar, "hovertemplate": told})
    layout = {
        "showlegend": False,
        "height": max(300, 90 + 17 * len(rows)),
        "xaxis": {"title": {"text": "mean AUROC over OOD sets (%)"}},
        "yaxis": {
            "tickvals": list(range(len(rows))),
            "ticktext": [_short(label) for label in labels],
            "autorange": "reversed",
            "zeroline": False,
            "tickfont": {"size": 10},
        },
    }
    return {"title": "Rows joined by a bar do not differ significantly", "data": traces, "layout": layout}


def _resolution(both: Pairs, view: View, names: Mapping[str, str]) -> Plot | None:
    """What the images' own size is worth: AUROC native less that at the ID set's size, rows by sets."""
    rows = [row for row in names if row in both]
    sets = [(name, title) for name, title, _ in view.near_first() if any(name in both[row] for row in rows)]
    if not rows:
        return None
    apart = [
        [round(both[row][name][0] - both[row][name][1], 2) if name in both[row] else None for name, _ in sets]
        for row in rows
    ]
    reach = max(abs(value) for line in apart for value in line if value is not None)
    trace = {
        "type": "heatmap",
        "x": [_short(title) for _, title in sets],
        "y": [_short(names[row]) for row in rows],
        "z": apart,
        "customdata": [[row] * len(sets) for row in rows],
        "colorscale": [[0, "#d55e00"], [0.5, "#f4f4f4"], [1, "#0072b2"]],
        "zmin": -reach,
        "zmax": reach,
        "hovertemplate": "%{y}<br>%{x}: %{z:+.1f} points<extra></extra>",
    }
    layout = {
        "height": max(300, 120 + 17 * len(rows)),
        "yaxis": {"autorange": "reversed", "tickfont": {"size": 10}},
        "xaxis": {"tickfont": {"size": 10}},
    }
    return {"title": "AUROC at native size, less that at the ID set's size", "data": [trace], "layout": layout}


def _losses(folder: Path, rows: Iterable[str]) -> Plot | None:
    """The loss curves of trainings whose losses are beside their figures."""
    curves = {
        Path(path).name: losses for drawn in _drawn(folder) for path, losses in sorted(drawn.get("losses", {}).items())
    }
    if not curves:
        return None
    traces = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": _short(name),
            "x": list(range(1, len(losses) + 1)),
            "y": losses,
            "customdata": [_row_of(name, rows)] * len(losses),
            "line": {"color": COLOURS[place % 6], "dash": ("solid", "dash", "dot")[place // 6 % 3]},
            "hovertemplate": "epoch %{x}: %{y:.4g}",
        }
        for place, (name, losses) in enumerate(curves.items())
    ]
    every = [loss for losses in curves.values() for loss in losses]
    layout = {
        "xaxis": {"title": {"text": "epoch"}},
        "yaxis": {"title": {"text": "mean training loss"}, **(_log(every) if min(every) > 0 else {})},
        "legend": {"orientation": "h", "y": -0.18},
    }
    return {"title": "Loss curves", "data": traces, "layout": layout}


def _drawn(folder: Path) -> Iterator[dict[str, Any]]:
    """What trainings were illustrated with."""
    for path in sorted((folder / "figures" / "drawn").glob("*.json")):
        try:
            yield files.read_sealed(path)
        except (OSError, ValueError):
            continue


def pictures(folder: Path, rows: Iterable[str]) -> list[dict[str, str]]:
    """Sample grids, and loss curves of which there is only the figure: title, row, and the file as a data URI."""
    drawn = {path for each in _drawn(folder) for path in each.get("losses", {})}
    paths = [path for kind in ("pictures", "losses") for path in sorted((folder / "figures" / kind).glob("*.png"))]
    return [
        {"title": path.stem, "row": _row_of(path.stem, rows), "data": _uri(path)}
        for path in paths
        if f"{path.relative_to(folder).with_suffix('')}" not in drawn
    ]


def _uri(path: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"


def _row_of(name: str, rows: Iterable[str]) -> str:
    """The row whose training a figure shows; "" where it is that of an encoder, or of a row that is not shown."""
    safe = ((row, safe_name(row)) for row in rows)
    return next((row for row, stem in safe if name == stem or name.startswith(f"{stem}.")), "")


def _short(words: str, most: int = 40) -> str:
    """A name as Plotly shows it: cut, and without what it takes for markup."""
    cut = words if len(words) <= most else f"{words[: most - 1]}…"
    return cut.replace("&", "&amp;").replace("<", "&lt;")
