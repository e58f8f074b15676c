"""One style for all figures, and their layout in inches, as text is measured beforehand: matplotlib draws each once.

Nothing here touches matplotlib's global state; files are complete or not there. Names come from outside: whatever they
hold is drawn as characters, in lines that fit.
"""

import contextlib
import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from benchmark.store.files import replacing

DPI = 150
WIDTH = 7.7  # inches: of the widest figure, so that its text is legible on a page
TITLE, BODY, SMALL, TINY = 10.5, 9.0, 7.5, 6.5  # points
LINE = 1.22  # height of a line of text, in its size
MARGIN = 0.08  # inches, around everything
# Okabe & Ito 2008, without yellow, those that are alike for colour-blind readers apart, and black.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#222222")
GREY = "0.72"
MARKERS = "osD^vPX*<>"
_FALLBACKS = ("Noto Sans CJK SC", "Noto Sans CJK JP", "WenQuanYi Zen Hei", "Unifont", "Arial Unicode MS", "PingFang SC")

Box = tuple[float, float, float, float]  # left, bottom, width, height in inches


@contextlib.contextmanager
def canvas(path: Path, size: tuple[float, float]) -> Iterator[Any]:
    """A figure of so many inches, in our style, written to `path` at the end: whole, and through no link."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_style()), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # of a script that no font here has
        figure = Figure(figsize=size, dpi=DPI)
        yield figure
        with replacing(path) as file:
            figure.savefig(file, format=path.suffix[1:])


@cache
def _style() -> Any:
    from cycler import cycler
    from matplotlib.font_manager import fontManager

    here = {font.name for font in fontManager.ttflist}
    ink = dict.fromkeys(("axes.edgecolor", "xtick.color", "ytick.color", "text.color", "axes.labelcolor"), "0.15")
    lines = {"axes.linewidth": 0.9, "xtick.major.width": 0.9, "ytick.major.width": 0.9, "lines.linewidth": 1.3}
    ticks = dict.fromkeys(("xtick.major.size", "ytick.major.size"), 3.5) | {
        "xtick.minor.size": 2,
        "ytick.minor.size": 2,
    }
    sizes = {"font.size": BODY, "axes.titlesize": BODY, "axes.labelsize": BODY, "figure.titlesize": TITLE}
    sizes |= dict.fromkeys(("xtick.labelsize", "ytick.labelsize", "legend.fontsize", "legend.title_fontsize"), SMALL)
    spines = {"axes.spines.top": False, "axes.spines.right": False, "grid.color": "0.8"}
    spines |= {"axes.prop_cycle": cycler(color=list(COLOURS)), "pdf.fonttype": 42}
    text = {"text.parse_math": False, "axes.formatter.use_mathtext": False}  # a `$` in a name is a `$`
    fonts = {"font.family": ["DejaVu Sans", *(name for name in _FALLBACKS if name in here)]}  # comes with matplotlib
    return ink | lines | ticks | sizes | spines | text | fonts


@cache
def _advance(character: str, *, bold: bool) -> float:
    """The width of a character in ems; 1 for one that the font lacks."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    font = get_font(findfont(FontProperties(family="DejaVu Sans", weight="bold" if bold else "normal")))
    if not font.get_char_index(ord(character)):
        return 1.0
    font.set_size(100, 72)
    return float(font.load_char(ord(character)).linearHoriAdvance) / 65536 / 100


def width(text: str, points: float = SMALL, *, bold: bool = False) -> float:
    """Inches of the longest line."""
    return max(sum(_advance(c, bold=bold) for c in line) for line in text.split("\n")) * points / 72


def height(text: str, points: float = SMALL) -> float:
    """Inches of all lines; 0 of no text."""
    return (text.count("\n") + 1) * LINE * points / 72 if text else 0.0


def wrap(text: str, inches: float, points: float = SMALL, *, bold: bool = False, lines: int = 4) -> str:
    """Text in at most so many lines of so many inches: broken between words, inside one that is too long, and cut.

    What is no character to print, half of an undecodable name among it, becomes U+FFFD.
    """
    found = [""]
    for word in text.split():
        word = "".join(c if c.isprintable() else "\ufffd" for c in word)
        joined = f"{found[-1]} {word}".lstrip()
        if width(joined, points, bold=bold) <= inches:
            found[-1] = joined
            continue
        found += [""] if found[-1] else []
        for character in word:
            if found[-1] and width(found[-1] + character, points, bold=bold) > inches:
                if len(found) > lines:
                    break
                found.append("")
            found[-1] += character
        if len(found) > lines:
            break
    if len(found) > lines:
        last = found[lines - 1]
        while last and width(f"{last}…", points, bold=bold) > inches:
            last = last[:-1]
        found = [*found[: lines - 1], f"{last}…"]
    return "\n".join(found)


def grid(n: int) -> tuple[int, int]:
    """Rows and columns of n panels: without holes but at the end."""
    columns = min(4, math.ceil(math.sqrt(n)))
    return math.ceil(n / columns), columns


@dataclass
class Layout:
    """Where the panels of a figure stand: a title, rows of panels with a head each, what stands below them.

    panel: width and height of one, in inches; heads: of the panels, wrapped. left: of the labels beside the first
    column, below: of those under each row, `below_last` of those under the last; foot: of what stands at the end.
    """

    title: str
    heads: Sequence[str]
    columns: int
    panel: tuple[float, float]
    left: float
    below: float = 0.1
    below_last: float = 0.45
    gap: float = 0.15
    foot: float = 0.0
    head_points: float = SMALL
    least: float = 0.0  # inches: the figure is as wide at least
    size: tuple[float, float] = field(init=False)
    boxes: list[Box] = field(init=False)

    def __post_init__(self) -> None:
        wide = self.left + self.columns * self.panel[0] + (self.columns - 1) * self.gap + 2 * MARGIN
        wide, spare = max(wide, self.least), max(0.0, self.least - wide)
        self.title = wrap(self.title, wide - 4 * MARGIN, TITLE, bold=True)
        y, tops = MARGIN + height(self.title, TITLE) + 0.05, []
        for first in range(0, len(self.heads), self.columns):
            y += max(height(head, self.head_points) for head in self.heads[first : first + self.columns]) + 0.07
            tops.append(y)
            y += self.panel[1] + self.below
        high = y - self.below + self.below_last + self.foot + MARGIN
        self.size = (wide, high)
        step = self.panel[0] + self.gap
        self.boxes = [
            (
                MARGIN + self.left + spare / 2 + place % self.columns * step,
                high - tops[place // self.columns] - self.panel[1],
                *self.panel,
            )
            for place in range(len(self.heads))
        ]

    def draw(self, figure: Any) -> list[Any]:
        """The title and the axes, one for each head."""
        figure.suptitle(self.title, fontweight="bold", y=1 - MARGIN / self.size[1], va="top", fontsize=TITLE)
        axes = [add(figure, box) for box in self.boxes]
        for one, head in zip(axes, self.heads, strict=True):
            # its height given: else matplotlib looks at all that is drawn of a panel for a place above it
            one.set_title(head, fontsize=self.head_points, pad=4, y=1.0)
        return axes

    def last(self, place: int) -> bool:
        """Whether a panel is the lowest of its column."""
        return place + self.columns >= len(self.heads)


def add(figure: Any, box: Box) -> Any:
    """Axes at a place in inches."""
    wide, high = figure.get_size_inches()
    left, bottom, across, up = box
    return figure.add_axes((left / wide, bottom / high, across / wide, up / high))


def legend_size(labels: Sequence[str], inches: float) -> tuple[int, float]:
    """Columns of a legend that is to fit into so many inches, and the height that it then has."""
    widths = [width(label) + 0.5 for label in labels]
    columns = len(labels) if sum(widths) <= inches else max(1, int(inches / max(widths)))
    lines = max(label.count("\n") + 1 for label in labels)
    return columns, math.ceil(len(labels) / columns) * (lines * LINE * SMALL / 72 + 0.04) + 0.05


def legend(figure: Any, handles: Sequence[Any], labels: Sequence[str], columns: int, *, up: float = 0.0) -> Any:
    """A legend in the middle, so many inches above the lower edge."""
    style: dict[str, Any] = {"frameon": False, "ncols": columns, "loc": "lower center", "borderaxespad": 0.2}
    style |= {"bbox_to_anchor": (0.5, (MARGIN / 2 + up) / figure.get_figheight()), "handlelength": 1.8}
    return figure.legend(handles, labels, columnspacing=1.4, labelspacing=0.4, borderpad=0.1, **style)


def log_ticks(axis: Any, low: float, high: float) -> None:
    """Ticks of a logarithmic axis from low to high, written as plain numbers: 0.5, 2,000."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    decades = math.log10(high / low)
    subs = (1,) if decades > 3 else (1, 2, 5) if decades > 1 else (1, 1.5, 2, 3, 4, 5, 7)
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter(
        FuncFormatter(lambda value, _: f"{value:,.10g}" if 1e-4 <= value < 1e6 else f"{value:.3g}")
    )
    axis.set_minor_formatter(NullFormatter())
