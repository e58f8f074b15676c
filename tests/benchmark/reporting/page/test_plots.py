"""The data of the page's plots: the numbers of tables and figures, each point with its row."""

from dataclasses import replace

import pytest

from benchmark.records import significance
from benchmark.reporting.page import plots
from benchmark.store import files


def test_speed_has_a_point_for_every_timed_row_with_a_whole_mean(make):
    made = make()
    made.fail("knn@net", "birds")
    timed = {"images_per_second": 1234.5, "batch": 64, "repeats": 5}
    speeds = [
        {"kind": "speed", "status": "done", "row": row, "device": "A CPU", "speeds": {"end_to_end": timed}}
        for row in ("msp@net", "knn@net", "ddpm@pixels")
    ]
    plot = plots._speed([*made.found, *speeds], made.view)
    assert [(trace["name"], trace["customdata"], trace["x"]) for trace in plot["data"]] == [
        ("Net", ["msp@net"], [1234.5]),
        ("Pixels", ["ddpm@pixels"], [1234.5]),
    ]
    mean = sum(100 * made.record("msp@net", name)["metrics"]["auroc"] for name, *_ in made.sets) / 3
    assert plot["data"][0]["y"] == [pytest.approx(mean, abs=0.006)]
    assert plots._speed(made.found, made.view) is None
    (first, title, _), *rest = made.view.ood
    beside_a_control = replace(made.view, ood=((first, title, "far"), (*rest[0][:2], "control")))
    plot = plots._speed([*made.found, *speeds], beside_a_control)  # of one set, which has no mean
    assert plot["data"][0]["y"][0] == pytest.approx(100 * made.record("msp@net", first)["metrics"]["auroc"], abs=0.006)


def test_a_bar_joins_each_group_of_rows(make):
    made = make()
    made.write()
    compared = significance.of_folder(made.folder, made.found, made.view)
    points, *bars = plots._critical(compared, {row: row for row in made.rows})["data"]
    assert points["customdata"] == list(compared.means)
    assert [[points["customdata"][end] for end in bar["y"]] for bar in bars] == [
        [group[0], group[-1]] for group in compared.groups()
    ]
    assert any({"vim@net", "knn@net"} <= set(group) for group in compared.groups())


def test_the_resolution_effect_is_native_less_id_size(make):
    made = make()
    both = {"vim@net": {"birds": (91.5, 90.0), "near": (80.0, 84.25)}}
    (trace,) = plots._resolution(both, made.view, {"vim@net": "ViM", "msp@net": "MSP"})["data"]
    assert trace["z"] == [[-4.25, 1.5]]
    assert trace["customdata"] == [["vim@net", "vim@net"]]
    assert trace["zmax"] == -trace["zmin"] == 4.25


def test_losses_are_drawn_or_their_figure_is_shown(tmp_path):
    marker = tmp_path / "figures" / "drawn" / "a.json"
    marker.parent.mkdir(parents=True)
    marker.write_text(
        files.text(files.sealed({"key": "0", "paths": [], "losses": {"figures/losses/ae@net": [2.0, 1.0]}}))
    )
    for name in ("losses/b.png", "losses/ae@net.png", "pictures/glow@net.samples.png"):
        path = tmp_path / "figures" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"image")
    rows = ["ae@net", "glow@net", "glow@net2"]
    (trace,) = plots._losses(tmp_path, rows)["data"]
    assert (trace["x"], trace["y"]) == ([1, 2], [2.0, 1.0])
    assert trace["customdata"] == ["ae@net"] * 2
    shown = plots.pictures(tmp_path, rows)
    assert [(picture["title"], picture["row"]) for picture in shown] == [("glow@net.samples", "glow@net"), ("b", "")]
    assert shown[0]["data"] == "data:image/png;base64,aW1hZ2U="


def test_what_plotly_takes_for_markup_is_written_out():
    assert plots._short("<a href='x'>&</a>") == "&lt;a href='x'>&amp;&lt;/a>"
    assert len(plots._short("x" * 300)) == 40


def test_log_axes_have_round_ticks():
    assert plots._log([872.5, 7905.0]) == {
        "type": "log",
        "tickvals": [1000, 2000, 5000],
        "ticktext": ["1,000", "2,000", "5,000"],
    }
    assert plots._log([2015.0, 2173.0]) == {"type": "log"}
    assert plots._log([0.002, 90.0])["ticktext"] == ["0.01", "0.1", "1", "10"]
