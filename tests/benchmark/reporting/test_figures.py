import math

import matplotlib
import numpy as np
import pytest
from PIL import Image

from benchmark.metrics import auroc, fpr_at_tpr, threshold_at_tpr
from benchmark.reporting import figures

SETS = ["SVHN", "CIFAR-100", "Tiny ImageNet", "LSUN (crop)", "LSUN (resize)", "iSUN", "Textures", "Places365"]
SETS += ["MNIST", "Fashion-MNIST", "KMNIST", "Omniglot", "notMNIST", "A set with a title that is quite long indeed"]


@pytest.fixture
def drawn(monkeypatch):
    """The matplotlib figures that have been written, laid out."""
    from matplotlib.figure import Figure

    kept, save = [], Figure.savefig

    def keep(figure, *args, **kwargs):
        save(figure, *args, **kwargs)
        kept.append(figure)

    monkeypatch.setattr(Figure, "savefig", keep)
    return kept


def scores(seed, shift=1.5, n=400, m=300):
    rng = np.random.default_rng(seed)
    return rng.normal(size=n), rng.normal(shift, 1.3, m)


def one(drawn):
    (figure,) = drawn
    return figure


def densities(axes):
    """The shares that each set's bars add up to, and the bars' edges."""
    from matplotlib.patches import StepPatch

    data = [patch.get_data() for patch in axes.patches if isinstance(patch, StepPatch) and patch.get_fill()]
    return [float((d.values * np.diff(d.edges)).sum()) for d in data], data[0].edges


# Histograms


@pytest.mark.parametrize("n", [1, 2, 4, 14])
def test_a_panel_for_each_set(tmp_path, drawn, n):
    ids, _ = scores(0)
    ood = {name: scores(i, i / 4)[1] for i, name in enumerate(SETS[:n])}
    groups = {name: "near" if i % 2 else "far" for i, name in enumerate(ood)}
    path = tmp_path / "new" / "row.png"
    figures.histograms("KNN, ResNet-18", ids, ood, path, id_title="CIFAR-10", groups=groups)
    figure = one(drawn)
    assert len(figure.axes) == n
    for axes, (name, values) in zip(figure.axes, ood.items(), strict=True):
        title = " ".join(axes.get_title().split())
        figured = f"AUROC {100 * auroc(ids, values):.1f}, FPR95 {100 * fpr_at_tpr(ids, values):.1f}"
        assert title == f"{name} ({groups[name]}) {figured}"
        assert densities(axes)[0] == pytest.approx([1, 1])
        (line,) = axes.lines
        assert line.get_xdata()[0] == threshold_at_tpr(ids)
        assert line.get_linestyle() == "--"
    assert [text.get_text() for text in figure.legends[0].get_texts()][:2] == ["CIFAR-10", "OOD"]
    assert figure.get_suptitle() == "KNN, ResNet-18"
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert image.size == tuple(int(150 * inches) for inches in figure.get_size_inches())
        assert len(image.convert("RGB").getcolors(10**6)) > 50  # not blank


def test_nothing_is_clipped(tmp_path, drawn):
    ood = {"A set with a title far longer than any panel of this figure is wide": scores(1)[1]}
    figures.histograms("A row with a title " * 5, scores(0)[0], ood, tmp_path / "a.png", id_title="A long ID title")
    rows = {f"a row {i} with a title that goes on and on and on, on an encoder": {"x": scores(i)} for i in range(9)}
    figures.roc_curves(rows, tmp_path / "b.png")
    for figure in drawn:
        canvas, tight = figure.bbox, figure.get_tightbbox().transformed(figure.dpi_scale_trans)
        assert canvas.x0 <= tight.x0 <= tight.x1 <= canvas.x1
        assert canvas.y0 <= tight.y0 <= tight.y1 <= canvas.y1


def test_outliers_do_not_flatten_the_histogram(tmp_path, drawn):
    ids, oods = scores(0)
    oods[:30] = 1e6
    figures.histograms("row", ids, {"x": oods}, tmp_path / "a.png")
    (axes,) = one(drawn).axes
    assert axes.get_xlim()[1] < 20
    assert densities(axes)[0] == pytest.approx([1, 1])  # the outliers are in the last bin
    assert [text.get_text() for text in axes.texts] == ["10 % →"]
    tops = [axes.get_ylim()[1] / d for d in np.histogram(ids, densities(axes)[1], density=True)[0].max(keepdims=True)]
    assert tops[0] < 3


def test_a_set_far_beyond_leaves_the_id_scores_legible(tmp_path, drawn):
    ids, _ = scores(0)
    figures.histograms("row", ids, {"x": ids + 1e9, "y": ids - 1e9}, tmp_path / "a.png")
    above, below = one(drawn).axes
    assert above.texts[0].get_text() == "100 % →"
    assert below.texts[0].get_text() == "← 100 %"
    for axes in (above, below):
        assert np.ptp(np.percentile(ids, [0.5, 99.5])) > 0.3 * np.ptp(axes.get_xlim())


@pytest.mark.parametrize(
    ("ids", "oods"),
    [
        ([0.0] * 50, [0.0] * 30),
        ([1e6] * 50, [1e6] * 30),
        ([3.0] * 50, [5.0] * 30),
        ([np.inf] * 50, [np.inf] * 30),
        ([-np.inf, 0, 1], [np.inf, 1, 2]),
        ([1.0], [2.0]),
        ([1 + 1e-16, 1.0], [1.0, 1 - 1e-16]),
        (np.arange(50.0), [7.0] * 30),
    ],
)
def test_odd_scores_are_drawn(tmp_path, drawn, ids, oods):
    figures.histograms("row", ids, {"x": oods}, tmp_path / "a.png")
    (axes,) = one(drawn).axes
    assert densities(axes)[0] == pytest.approx([1, 1])
    assert np.isfinite([*axes.get_xlim(), *axes.get_ylim()]).all()
    assert axes.get_ylim()[1] > 0


def test_inputs_are_not_modified(tmp_path):
    ids, oods = scores(0)
    for array in (ids, oods):
        array.setflags(write=False)
    figures.histograms("row", ids, {"x": oods}, tmp_path / "a.png")
    figures.roc_curves({"row": {"x": (ids, oods)}}, tmp_path / "b.png")


def test_bad_scores_are_errors(tmp_path):
    path = tmp_path / "a.png"
    with pytest.raises(ValueError, match="no OOD scores to draw for row"):
        figures.histograms("row", [1.0], {}, path)
    with pytest.raises(ValueError, match="ood_scores holds 1 NaN"):
        figures.histograms("row", [1.0], {"x": [math.nan]}, path)
    with pytest.raises(ValueError, match="id_scores holds 1 NaN"):
        figures.roc_curves({"row": {"x": ([math.nan], [1.0])}}, path)
    with pytest.raises(ValueError, match="no scores"):
        figures.roc_curves({"row": {}}, path)
    with pytest.raises(ValueError, match="no row"):
        figures.speed([], path)
    assert not list(tmp_path.iterdir())


# ROC curves


@pytest.mark.parametrize("decimals", [0, 1, 12])
def test_a_curve_is_short_and_has_its_area(decimals):
    ids, oods = (np.round(values, decimals) for values in scores(3, n=5000, m=8000))
    x, y = figures._curve(ids, oods)
    assert len(x) <= figures.CURVE_POINTS
    assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)
    assert (np.diff(x) >= 0).all()
    assert (np.diff(y) >= 0).all()
    assert np.trapezoid(y, x) == pytest.approx(auroc(ids, oods), abs=1e-3)


def test_a_curve_by_hand():
    # From the top: 3 (OOD), 2 (ID and OOD at once), 1 (ID).
    assert np.array(figures._curve([1, 2], [2, 3])).T.tolist() == [[0, 0], [0, 0.5], [0.5, 1], [1, 1]]
    assert np.array(figures._curve([1, 1], [1])).T.tolist() == [[0, 0], [1, 1]]


def test_the_best_rows_are_coloured_the_others_grey(tmp_path, drawn):
    rows = {f"row {i}": {name: scores(0, i / 5) for name in SETS[:3]} for i in range(9)}
    rows["easy set only"] = {SETS[0]: ([0.0, 1.0], [2.0, 3.0])}  # 100, but of one set
    rows["not measured"] = {}
    figures.roc_curves(rows, tmp_path / "roc.png")
    figure = one(drawn)
    assert [axes.get_title() for axes in figure.axes] == SETS[:3]
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert [text.split("  ")[1] for text in legend[:6]] == [f"row {i}" for i in (8, 7, 6, 5, 4, 3)]
    mean = 100 * np.mean([auroc(*rows["row 8"][name]) for name in SETS[:3]])
    assert legend[0].startswith(f"{mean:.1f}  ")
    assert legend[6] == "4 other rows"
    assert [len(axes.lines) for axes in figure.axes] == [2 + 10, 2 + 9, 2 + 9]  # chance, the threshold, the rows
    colours = {line.get_color() for line in figure.axes[0].lines if line.get_linewidth() == 1.5}
    assert len(colours) == 6


def test_a_figure_of_one_set_and_of_many(tmp_path, drawn):
    for n in (1, 14):
        figures.roc_curves({"row": {name: scores(0) for name in SETS[:n]}}, tmp_path / f"{n}.png")
    assert [len(figure.axes) for figure in drawn] == [1, 14]


# Speed


def test_labels_do_not_overlap(tmp_path, drawn):
    rng = np.random.default_rng(4)
    rows = [
        (f"Method {i} (variant)", 90 + 8 * rng.random(), base * (1 + rng.random()), encoder)
        for encoder, base in (("B4", 20), ("ResNet-18", 500))
        for i in range(10)
    ]
    figures.speed(rows, tmp_path / "speed.png")
    figure = one(drawn)
    (axes,) = figure.axes
    assert axes.get_xscale() == "log"
    boxes = [matplotlib.text.Text.get_window_extent(text) for text in axes.texts]  # without the leader
    assert [
        text.get_text()
        for text in sorted(axes.texts, key=lambda t: rows.index(next(r for r in rows if r[1] == t.xy[1])))
    ] == [row[0] for row in rows]
    points = axes.transData.transform([(rate, value) for _, value, rate, _ in rows])
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:i])
        assert not any(box.contains(*point) for point in points)
        assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["B4", "ResNet-18"]
    offsets = np.concatenate([collection.get_offsets() for collection in axes.collections])
    assert sorted(map(tuple, offsets)) == sorted((rate, value) for _, value, rate, _ in rows)


@pytest.mark.parametrize(
    ("rates", "expected"),
    [((1.2, 4), ["1.5", "2", "3"]), ((900, 45000), ["1,000", "2,000", "5,000", "10,000"]), ((0.2, 30), ["0.5", "1"])],
)
def test_speeds_are_written_as_numbers(tmp_path, drawn, rates, expected):
    figures.speed([(f"row {rate}", 90.0, rate, "e") for rate in rates], tmp_path / "a.png")
    axis = one(drawn).axes[0].xaxis
    assert set(expected) <= {label.get_text() for label in axis.get_ticklabels()}


def test_one_row_and_equal_rows(tmp_path, drawn):
    figures.speed([("A", 50.0, 0.25, "e")], tmp_path / "a.png")
    figures.speed([("A", 50.0, 10.0, "e"), ("B", 50.0, 10.0, "e")], tmp_path / "b.png")
    first, second = (matplotlib.text.Text.get_window_extent(text) for text in drawn[1].axes[0].texts)
    assert not first.overlaps(second)


# Files and global state


def test_a_file_is_whole_or_as_it_was(tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    path = tmp_path / "a.png"
    path.write_bytes(b"before")

    def fail(figure, file, **kwargs):
        file.write(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(Figure, "savefig", fail)
    with pytest.raises(OSError, match="no space"):
        figures.speed([("A", 50.0, 1.0, "e")], path)
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_replaced_not_rewritten(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"before")
    with path.open("rb") as reader:
        figures.speed([("A", 50.0, 1.0, "e")], path)
        assert reader.read() == b"before"  # who reads while we write sees the old file whole
    assert path.read_bytes().startswith(b"\x89PNG")


def test_names_are_not_formulas(tmp_path, drawn):
    ids, oods = scores(0)
    figures.histograms(r"costs $5 or $\frac{6$", ids, {r"$\x_{$": oods}, tmp_path / "a.png")
    figures.roc_curves({r"$\x_{$": {r"$\x_{$": (ids, oods)}}, tmp_path / "b.png")
    figures.speed([(r"$\x_{$", 50.0, 1.0, r"$\x_{$")], tmp_path / "c.png")
    assert drawn[0].get_suptitle() == r"costs $5 or $\frac{6$"


def test_global_state_stays(tmp_path):
    from matplotlib import pyplot

    before = dict(matplotlib.rcParams), pyplot.get_fignums()
    figures.histograms("row", scores(0)[0], {"x": scores(1)[1]}, tmp_path / "a.png")
    assert (dict(matplotlib.rcParams), pyplot.get_fignums()) == before
