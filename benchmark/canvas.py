"""One style for all figures. Nothing here touches matplotlib's global state; files are complete or not there."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

DPI = 150


@contextlib.contextmanager
def canvas(path: Path, size: tuple[float, float]) -> Iterator[Any]:
    """A figure of so many inches, in our style, written to `path` at the end: temporary name, flush, rename."""
    import matplotlib
    import seaborn
    from cycler import cycler
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    style = seaborn.axes_style("ticks") | seaborn.plotting_context("notebook", font_scale=0.75)
    palette = seaborn.color_palette("colorblind").as_hex()
    style |= {"axes.prop_cycle": cycler(color=palette), "axes.spines.top": False}
    style |= {"axes.spines.right": False, "text.parse_math": False}  # a `$` in a name is a `$`
    with matplotlib.rc_context(style):
        figure = Figure(figsize=size, dpi=DPI, layout="constrained")
        FigureCanvasAgg(figure)
        yield figure
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with temporary.open("wb") as file:
                figure.savefig(file, format=path.suffix[1:])
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
