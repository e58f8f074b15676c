import csv
import io
import re
from dataclasses import replace

import pytest

from benchmark.records.frames import View, lines_of
from benchmark.reporting import tables, terminal

ENCODER = "ResNet-18 at 32"
LOOK = terminal.Look(columns=("all",), all_rows=True, width=200)


def result(row, ood, auroc=0.9, *, seed=0, status="done", reason="", fpr95=0.4, half=0.01, **more):
    """One record of records.py's schema, of the OOD set `ood` in SETS."""
    name, title, group = next(entry for entry in SETS if entry[0] == ood)
    numbers = {"auroc": auroc, "fpr95": fpr95, "fpr95_ood": 0.5, "aupr_ood": 0.6, "aupr_id": 0.7}
    done = status == "done"
    about_ood = {"name": name, "title": title, "split": "test", "group": group, "n": 300, "of": 300, "notes": []}
    return {
        "schema": 1,
        "kind": "result",
        "key": "0",
        "status": status,
        "reason": reason,
        "suite": "toy",
        "row": row,
        "title": row,
        "method": row.partition("@")[0],
        "encoder": "r18",
        "encoder_title": ENCODER,
        "hyperparameters": {},
        "seed": seed,
        "random_fit": False,
        "resolution": "native",
        "id": {"name": "toys", "title": "Toys", "split": "test", "n": 1000, "of": 1000, "notes": []},
        "ood": {**about_ood, "stands_in_for": None, **more.pop("ood_more", {})},
        "train": {"n": 5000, "notes": []},
        "metrics": numbers if done else None,
        "intervals": {"auroc": [auroc - half, auroc + half], "fpr95": [fpr95 - 0.02, fpr95 + 0.03]} if done else None,
        "accuracy": 0.875 if done else None,
        "footnotes": [],
        "provenance": {},
        **more,
    }


def speed(row, rate, **more):
    timed = {"images_per_second": rate, "batch": 64, "repeats": 5, "low": rate - 1, "high": rate + 1}
    record = {"schema": 1, "kind": "speed", "row": row, "seed": 0, "status": "done", "device": "Some CPU, 2 threads"}
    return {**record, "speeds": {"end_to_end": timed}, **more}


SETS = [("birds", "Birds", "far"), ("dolls", "Dolls", "near"), ("cars", "Cars", "far")]


def view(rows=("msp", "knn"), ood=SETS, **more):
    return View("toy", "Toy suite", "Toys", [(row, row.upper(), ENCODER) for row in rows], ood, **more)


def whole(row, *aurocs, **more):
    return [result(row, name, auroc, **more) for (name, _, _), auroc in zip(SETS, aurocs, strict=True)]


def cells(page, row):
    """The cells of one row of a Markdown page, by the heads of their columns."""
    lines = [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", text)[1:-1]] for text in page.splitlines() if text[:1] == "|"
    ]
    assert len({len(found) for found in lines}) == 1
    (found,) = (found for found in lines if found[0] == row)
    return dict(zip(lines[0], found, strict=True))


# The lines


def test_one_seed_has_its_interval_and_no_deviation():
    found = lines_of(whole("msp", 0.9, 0.8, 0.7), view())["msp", "birds"]
    assert (found["status"], found["seeds"], found["n_id"], found["n_ood"]) == ("done", 1, 1000, 300)
    assert [found[c] for c in ("auroc", "auroc_low", "auroc_high")] == pytest.approx([90, 89, 91])
    assert [
        found[c] for c in ("fpr95", "fpr95_low", "fpr95_high", "fpr95_ood", "aupr_ood", "aupr_id")
    ] == pytest.approx([40, 38, 43, 50, 60, 70])
    assert found["auroc_std"] != found["auroc_std"]  # NaN
    assert found["accuracy"] == 87.5


def test_seeds_become_mean_and_sample_deviation():
    records = [result("msp", "birds", auroc, seed=seed) for seed, auroc in enumerate([0.90, 0.92, 0.97])]
    found = lines_of(records, view(ood=SETS[:1]))["msp", "birds"]
    assert found["seeds"] == 3
    assert found["auroc"] == pytest.approx(93)
    assert found["auroc_std"] == pytest.approx(13**0.5)  # (9 + 1 + 16) / 2
    assert found["auroc_low"] == pytest.approx(92)


def test_of_two_records_of_one_seed_the_later_counts():
    records = [result("msp", "birds", 0.5), result("msp", "birds", 0.6)]
    found = lines_of(records, view(ood=SETS[:1]))["msp", "birds"]
    assert (found["auroc"], found["seeds"]) == (60, 1)


def test_averages_count_sets_once_near_and_far_apart():
    table = lines_of(whole("msp", 0.9, 0.6, 0.8, half=0.02), view())
    far, near, every = (table["msp", f"average{which}"] for which in (" far", " near", ""))
    assert [found["auroc"] for found in (far, near, every)] == pytest.approx([85, 60, 230 / 3])
    assert every["auroc_high"] - every["auroc_low"] == pytest.approx(4)
    assert every["n_ood"] == 900


def test_the_average_of_seeds_varies_as_the_averages_do():
    # Sets that move against each other: every set's deviation is large, that of their average is 0.
    records = [
        *(result("msp", "birds", auroc, seed=seed) for seed, auroc in enumerate([0.8, 0.9])),
        *(result("msp", "cars", auroc, seed=seed) for seed, auroc in enumerate([0.9, 0.8])),
    ]
    table = lines_of(records, view(ood=[SETS[0], SETS[2]]))
    assert table["msp", "birds"]["auroc_std"] == pytest.approx(10 / 2**0.5)
    assert table["msp", "average"]["auroc_std"] == pytest.approx(0, abs=1e-9)


def test_an_average_needs_all_its_sets():
    records = [result("msp", "birds"), result("msp", "cars"), result("msp", "dolls", status="failed", reason="no")]
    table = lines_of(records, view())
    assert table["msp", "average far"]["auroc"] == pytest.approx(90)
    for average in ("average near", "average"):
        assert table["msp", average]["status"] == "incomplete"
        assert table["msp", average]["auroc"] != table["msp", average]["auroc"]
    assert table["msp", "average"]["reason"] == "measured on 2 of 3 OOD sets"


def test_an_average_uses_the_seeds_that_all_sets_have():
    records = [*whole("msp", 0.9, 0.9, 0.9), *whole("msp", 0.7, 0.7, 0.7, seed=1)[:2]]
    found = lines_of(records, view())["msp", "average"]
    assert (found["auroc"], found["seeds"]) == (pytest.approx(90), 1)


@pytest.mark.parametrize(("ood", "expected"), [(SETS[:1], []), ([SETS[0], SETS[2]], ["average"])])
def test_no_average_that_says_nothing(ood, expected):
    found = list(dict.fromkeys(name for _, name in lines_of([], view(ood=ood))))
    assert found == [name for name, _, _ in ood] + expected


def test_statuses_without_numbers():
    records = [
        result("msp", "birds", status="failed", reason="NaN"),
        result("msp", "birds", seed=1, status="skipped", reason="why"),
        result("msp", "dolls", status="interrupted", reason="stopped"),
    ]
    table = lines_of(records, view())
    assert (table["msp", "birds"]["status"], table["msp", "birds"]["reason"]) == ("failed", "NaN")
    assert table["msp", "dolls"]["status"] == "interrupted"
    assert table["msp", "cars"]["status"] == "absent"
    assert table["knn", "cars"]["status"] == "absent"


def test_a_seed_that_failed_is_left_out_and_named():
    records = [result("msp", "birds", 0.8), result("msp", "birds", seed=1, status="failed", reason="diverged")]
    shown = view(["msp"], SETS[:1])
    assert lines_of(records, shown)["msp", "birds"]["auroc"] == 80
    assert "MSP: seed 1 failed: diverged." in terminal.text(records, shown)


def test_speed_and_published_numbers_stand_beside():
    published = {
        ("msp", "birds", "auroc"): 91.5,
        ("msp", "average", "fpr95"): 20.0,
        ("msp", "average", "images_per_second"): 1060.0,
    }
    records = [*whole("msp", 0.9, 0.8, 0.7), speed("msp", 41.25), speed("knn", 5.0, status="failed")]
    table = lines_of(records, view(published=published))
    birds, average, other = table["msp", "birds"], table["msp", "average"], table["knn", "birds"]
    assert (birds["published_auroc"], birds["images_per_second"], birds["published_images_per_second"]) == (
        91.5,
        41.25,
        1060,
    )
    assert average["published_fpr95"] == 20
    assert other["images_per_second"] != other["images_per_second"]


def test_records_of_other_rows_and_sets_are_left_out():
    records = [*whole("msp", 0.9, 0.8, 0.7), *whole("other", 1.0, 1.0, 1.0)]
    assert {row for row, _ in lines_of(records, view(["msp"], SETS[:1]))} == {"msp"}
    assert "OTHER" not in terminal.text(records, view(["msp"])).upper()


def test_csv_is_the_lines():
    published = {("msp", "birds", "auroc"): 91.5}
    records = [*whole("msp", 0.91234, 0.8, 0.7), *whole("knn", 0, 0, 0, status="skipped", reason="no faiss, sorry")]
    rows = list(csv.DictReader(io.StringIO(tables.csv(records, view(published=published)))))
    assert len(rows) == 2 * (3 + 3)
    first = rows[0]
    assert (first["row"], first["ood"], first["auroc"], first["auroc_low"], first["auroc_std"]) == (
        "msp",
        "birds",
        "91.23",
        "90.23",
        "",
    )
    assert first["published_auroc"] == "91.50"
    assert (rows[6]["status"], rows[6]["reason"], rows[6]["auroc"]) == ("skipped", "no faiss, sorry", "")


# Figures, spreads and the best


def test_a_row_under_two_titles_has_its_lines_twice():
    both = replace(view(), rows=(("msp", "Width 1,440", ENCODER), ("msp", "16 blocks", ENCODER)))
    written = csv.DictReader(io.StringIO(tables.csv([result("msp", "birds")], both)))
    assert [line["title"] for line in written if line["ood"] == "birds"] == ["Width 1,440", "16 blocks"]


def test_the_best_of_each_column_is_bold():
    records = [*whole("msp", 0.90, 0.80, 0.7, fpr95=0.3), *whole("knn", 0.95, 0.80, 0.7004, fpr95=0.4)]
    msp, knn = (cells(tables.markdown(records, view()), row) for row in ("MSP", "KNN"))
    assert msp["Birds<br>(far)"] == "<u>90.0</u> ±1.0 / **30.0**"
    assert knn["Birds<br>(far)"] == "**95.0** ±1.0 / <u>40.0</u>"
    assert [row["Cars<br>(far)"][:8] for row in (msp, knn)] == ["**70.0**"] * 2  # equal as printed
    assert (msp["average"], knn["average"]) == ("<u>80.0</u> ±1.0 / **30.0**", "**81.7** ±1.0 / <u>40.0</u>")
    assert "95.0*/ 40.0 " in terminal.text(records, view())
    assert r"\textbf{95.0}\,{\scriptsize$\pm$1.0} / \underline{40.0}" in tables.latex(records, view())


def test_rows_that_check_the_harness_are_last_and_never_best():
    shown = view(["random", "msp", "constant@r18", "knn"])
    records = [
        *whole("random", 1.0, 1.0, 1.0, fpr95=0),
        *whole("constant@r18", 1.0, 1.0, 1.0, fpr95=0),
        *whole("msp", 0.9, 0.9, 0.9),
        *whole("knn", 0.8, 0.8, 0.8),
    ]
    page = tables.markdown(records, shown)
    order = [text.split("|")[1].strip() for text in page.splitlines() if text.startswith("| ")][2:]
    assert order == ["MSP", "KNN", "RANDOM", "CONSTANT@R18"]
    assert cells(page, "RANDOM")["average"] == "100.0 ±1.0 / 0.0"
    assert cells(page, "MSP")["average"] == "**90.0** ±1.0 / **40.0**"


def test_a_row_that_checks_the_harness_is_not_bold_even_as_good_as_the_best():
    records = [*whole("random", 0.9, 0.9, 0.9), *whole("msp", 0.9, 0.9, 0.9), *whole("knn", 0.8, 0.8, 0.8)]
    page = tables.markdown(records, view(["random", "msp", "knn"]))
    assert cells(page, "RANDOM")["average"] == "90.0 ±1.0 / 40.0"
    assert cells(page, "MSP")["average"] == "**90.0** ±1.0 / **40.0**"


def test_one_row_alone_is_not_the_best():
    records = whole("msp", 0.9, 0.9, 0.9)
    assert "**" not in tables.markdown(records, view())
    assert not re.search(r"\d\*", terminal.text(records, view()))


def test_plus_minus_is_half_the_interval_or_the_deviation_over_seeds():
    records = [
        result("msp", "birds", 0.9, intervals={"auroc": [0.86, 0.92], "fpr95": [0, 1]}),
        *(result("knn", "birds", auroc, seed=seed) for seed, auroc in enumerate([0.70, 0.75])),
    ]
    page = tables.markdown(records, view(ood=SETS[:1]))
    assert "90.0** ±3.0" in cells(page, "MSP")["Birds<br>(far)"]
    assert cells(page, "KNN")["Birds<br>(far)"].startswith("<u>72.5</u> ±3.5")  # .05 / sqrt 2
    assert "- Seeds: n = 2: KNN; n = 1: all other rows." in page
    everywhere = tables.markdown(records[1:], view(["knn"], ood=SETS[:1]))
    assert "- Seeds: n = 2: KNN." in everywhere  # and no other rows, where there are none


def test_published_numbers_are_told_from_ours():
    published = {("msp", "birds", "auroc"): 91.54, ("msp", "birds", "fpr95"): 12.0, ("knn", "dolls", "auroc"): 88.0}
    records = [*whole("msp", 0.9, 0.8, 0.7), speed("msp", 1234.5)]
    shown = view(published=published | {("msp", "average", "images_per_second"): 960.0})
    page = tables.markdown(records, shown)
    assert (
        cells(page, "MSP")["Birds<br>(far)"] == "90.0 ±1.0 / 40.0<br><sub>published 91.54 / 12.0 (-1.5 / +28.0)</sub>"
    )
    assert cells(page, "KNN")["Dolls<br>(near)"] == "–<br><sub>published 88.0 / –</sub>"  # only published
    assert cells(page, "MSP")["images/s ↑"] == "1,234<br><sub>published 960</sub>"
    assert r"{\scriptsize 91.54 / 12.0 (-1.5 / +28.0)}" in tables.latex(records, shown)


def test_the_table_names_its_side_of_fpr95_and_holds_no_published_number_of_the_other_against_it():
    published = {("msp", "birds", "auroc"): 91.5, ("msp", "birds", "fpr95"): 12.0, ("msp", "birds", "fpr95_ood"): 48.2}
    of_id, of_ood = (
        view(published=published, metrics=("auroc", metric), ood=SETS[:1]) for metric in ("fpr95", "fpr95_ood")
    )
    found = [result("msp", "birds")]
    page = tables.markdown(found, of_ood)
    assert "Each cell: AUROC ↑ / FPR95 (OOD positive) ↓, in percent." in page
    assert cells(page, "MSP")["Birds<br>(far)"] == "90.0 ±1.0 / 50.0<br><sub>published 91.5 / 48.2 (-1.5 / +1.8)</sub>"
    assert "flagged when at least 95 % of the OOD images are" in page
    assert "pass as ID" not in page
    other = tables.markdown(found, of_id)
    assert "AUROC ↑ / FPR95 ↓" in other
    assert (
        cells(other, "MSP")["Birds<br>(far)"] == "90.0 ±1.0 / 40.0<br><sub>published 91.5 / 12.0 (-1.5 / +28.0)</sub>"
    )
    assert "48.2" not in other
    for text in (terminal.text(found, of_ood, LOOK), tables.latex(found, of_ood)):
        assert "FPR95 (OOD positive)" in text
        assert "48.2" in text
        assert "12.0" not in text
    only = replace(of_ood, published={("msp", "birds", "fpr95"): 12.0})  # of the other side alone
    assert "12.0" not in tables.markdown(found, only) + terminal.text(found, only, LOOK) + tables.latex(found, only)


def test_an_old_record_without_a_metric_shows_none():
    old = result("msp", "birds")
    del old["metrics"]["fpr95_ood"]
    shown = view(("msp",), SETS[:1], metrics=("auroc", "fpr95_ood"))
    assert cells(tables.markdown([old], shown), "MSP")["Birds<br>(far)"] == "90.0 ±1.0 / –"
    assert lines_of([old], shown)["msp", "birds"]["auroc"] == 90


def test_a_published_average_over_other_sets_says_so():
    said = "A published average is over the paper's own OOD sets"
    records = whole("msp", 0.9, 0.8, 0.7)
    same = {("msp", name, "auroc"): 90.0 for name in ("birds", "dolls", "cars", "average")}
    assert said not in tables.markdown(records, view(published=same))
    assert said in tables.markdown(records, view(published=same | {("msp", "planes", "auroc"): 90.0}))
    assert said not in tables.markdown(records, view(published={("msp", "birds", "auroc"): 90.0}))


def test_the_terminal_has_published_numbers_and_differences_beneath_ours():
    published = {("msp", "dolls", "auroc"): 79.5, ("msp", "average", "auroc"): 81.25}
    lines = terminal.text(whole("msp", 0.9, 0.8, 0.7), view(published=published), LOOK).splitlines()
    ours = next(number for number, line in enumerate(lines) if line.startswith("  MSP"))
    assert lines[ours + 1].split() == ["published", "79.5", "/", "–", "81.25", "/", "–"]
    assert lines[ours + 2].split() == ["difference", "+0.5", "/", "–", "-1.2", "/", "–"]
    assert lines[ours].index("80.0") + len("80.0 / 40.0 ") >= lines[ours + 1].index("79.5")  # in the same column
    assert "published" not in terminal.text(whole("msp", 0.9, 0.8, 0.7), view())


def test_a_view_of_one_metric():
    shown = view(metrics=("fpr95",), published={("msp", "birds", "fpr95"): 39.0, ("msp", "birds", "auroc"): 12.0})
    page = tables.markdown(whole("msp", 0.9, 0.8, 0.7), shown)
    assert cells(page, "MSP")["Birds<br>(far)"] == "40.0 ±2.5<br><sub>published 39.0 (+1.0)</sub>"
    assert "Each cell: FPR95 ↓, in percent." in page


def test_a_misprint_is_marked_and_told():
    shown = view(
        published={("msp", "birds", "auroc"): 99.92}, misprints={("msp", "birds", "auroc"): "Birds: cannot be."}
    )
    page = tables.markdown(whole("msp", 0.9, 0.8, 0.7), shown)
    assert "published 99.92 ‡ / – " in cells(page, "MSP")["Birds<br>(far)"]
    assert "- ‡ Birds: cannot be." in page
    assert "‡" not in cells(page, "MSP")["Cars<br>(far)"]


def test_sets_that_low_level_statistics_give_away_are_marked():
    records = [
        *whole("msp", 0.9, 0.8, 0.7),
        result("lowlevel", "birds", 0.96, half=0.01),
        result("lowlevel", "cars", 0.91, half=0.02),  # its interval reaches below .9
    ]
    page = tables.markdown(records, view())
    assert "Birds †<br>(far)" in cells(page, "MSP")
    assert "Cars<br>(far)" in cells(page, "MSP")
    assert "AUROC of lowlevel: Birds (96.0)." in page


def test_stand_ins_and_controls_are_in_no_average():
    SETS.extend([("like cars", "Like cars", "stand-in"), ("blurred", "Toys, blurred", "control")])
    try:
        records = [*whole("msp", 0.9, 0.8, 0.7, 0.1, 0.2)]
        shown = view(ood=SETS, common=["birds", "cars"])
        assert lines_of(records, shown)["msp", "average"]["auroc"] == pytest.approx(80)
        assert lines_of(records, shown)["msp", "average of measured"]["auroc"] == pytest.approx(80)
        assert lines_of(records[:1] + records[2:3], shown)["msp", "average"]["status"] == "incomplete"
        page = tables.markdown([*records, *whole("knn", 0.9, 0.8, 0.7, 0.1, 0.6)], shown)
        assert "**" not in cells(page, "KNN")["Toys, blurred<br>(control)"]
        assert list(cells(page, "MSP"))[3:6] == [
            "Cars<br>(far)",
            "Like cars<br>(stand-in)",
            "Toys, blurred<br>(control)",
        ]
    finally:
        del SETS[3:]


# Reasons and notes


@pytest.mark.parametrize("render", [terminal.text, tables.markdown, tables.latex])
def test_cells_without_numbers_point_to_their_reason(render):
    records = [
        *whole("msp", 0.9, 0.9, 0.9),
        *whole("knn", 0, 0, 0, status="skipped", reason="faiss is missing"),
        *whole("dice", 0.5, 0.5, 0.5)[:2],
        result("dice", "cars", status="failed", reason="3 NaN"),
    ]
    page = render(records, view(["msp", "knn", "dice"])).replace("\\[", "[").replace("\\]", "]").replace("{[}", "[")
    assert page.count("skipped [1]") == 3
    assert page.count("failed [2]") == 1
    assert "[1] skipped: faiss is missing (KNN)" in page
    assert "[2] failed: 3 NaN (DICE against Cars)" in page


def test_who_a_note_is_about():
    encoders = ("R18", "B4")
    shown = View("toy", "Toy", "Toys", [(f"{m}@{e}", m.upper(), e) for e in encoders for m in ("msp", "knn")], SETS[:1])
    records = [
        result("msp@R18", "birds", footnotes=["everywhere", "a short training"]),
        result("knn@R18", "birds", footnotes=["everywhere", "a short training"]),
        result("knn@B4", "birds", footnotes=["everywhere", "subsampled"]),
        result("msp@B4", "birds", status="skipped", reason="no head"),
    ]
    page = terminal.text(records, shown)
    assert "\neverywhere.\n" in page
    assert "\nall rows on R18: a short training.\n" in page
    assert "\nKNN on B4: subsampled.\n" in page
    assert "\n[1] skipped: no head (MSP on B4)\n" in page


@pytest.mark.parametrize("render", [terminal.text, tables.markdown, tables.latex])
def test_notes_come_from_the_records(render):
    subset = {"n": 100, "of": 26032, "notes": ["every tenth image"], "stands_in_for": "Planes"}
    records = [
        result("msp", "birds", ood_more=subset, resolution="id", train={"n": 400, "of": 1000, "notes": ["balanced"]}),
        speed("msp", 41.2),
    ]
    shown = view(
        ["msp"], SETS[:1], absent=[("SVHN", "put test-0.parquet into DATA/svhn")], footnotes=["a stand-in encoder"]
    )
    page = " ".join(render(records, shown).split())
    for said in (
        "Birds (test, far) 100 of 26,032",
        "Birds: stands in for Planes, and is not it; every tenth image.",
        "Fitted on 400 of 1,000 ID training images; balanced.",
        "Resolution id: every image is first brought to the size of the ID images",
        "a stand-in encoder.",
        "median of 5 x 64 images on Some CPU, 2 threads.",
        "SVHN: put test-0.parquet into DATA/svhn",
    ):
        assert said in page


@pytest.mark.parametrize("render", [terminal.text, tables.markdown, tables.latex, tables.csv])
def test_a_view_without_any_record_is_a_table(render):
    assert "KNN" in render([], view())


# Layout


def test_text_fits_its_width_and_repeats_the_rows():
    sets = [(f"set{i}", f"A rather long title {i}", "near" if i < 2 else "far") for i in range(13)]
    SETS.extend(sets)
    try:
        records = [result(row, name, 1.0, fpr95=1.0) for row in ("msp", "knn") for name, _, _ in sets]
    finally:
        del SETS[3:]
    shown = View(
        "toy", "Toy", "Toys", [(r, f"{r} with a title beyond all bounds" * 2, "E") for r in ("msp", "knn")], sets
    )
    for width in (80, 110, 200):
        page = terminal.text([*records, speed("msp", 12345.6)], shown, replace(LOOK, width=width))
        assert max(map(len, page.splitlines())) <= width
        blocks = page.count("\n  knn with")
        assert blocks == page.count("\n  msp with") == page.count("\nE\n")
        assert page.count("100.0*/100.0*") == 2 * (13 + 3)
    assert blocks == 3  # 18 columns of 15 in 200, less a third for the names: 8 to a block


def test_text_in_a_line_is_read_across():
    page = terminal.text(
        [*whole("msp", 0.9, 0.8, 0.7), *whole("knn", 0.91, 0.81, 0.71), speed("msp", 41.2)], view(), LOOK
    )
    (row,) = (text for text in page.splitlines() if text.startswith("  MSP"))
    assert re.findall(r"[\d.]+ */ *[\d.]+|[\d.]+", row) == [
        "80.0 / 40.0",  # near first
        "90.0 / 40.0",
        "70.0 / 40.0",
        "80.0 / 40.0",
        "80.0 / 40.0",
        "80.0 / 40.0",
        "87.5",
        "41.2",
    ]


def test_markdown_shows_odd_names_as_they_are():
    shown = View("toy", "A | B", "Toys", [("msp", "x|y*z_ a_b <i>[1]`", ENCODER)], [("birds", "Birds\n|", "far")])
    page = tables.markdown([result("msp", "birds")], shown)
    (row,) = (text for text in page.splitlines() if text.startswith("| x"))
    assert row.startswith(r"| x\|y\*z\_ a_b \<i\>\[1\]\` | 90.0")
    assert r"| Birds \|<br>(far) |" in page
    assert page.startswith("# A \\| B\n")


def test_latex_is_balanced_and_escaped():
    shown = View(
        "a b_c", "50 % of A & B_1 #2 {x} ~^\\", "Toys", [("msp", "*[1] --k <3", "E$")], [SETS[0], SETS[2]],
        {("msp", "birds", "auroc"): 90.0},
    )  # fmt: skip
    page = tables.latex([result("msp", "birds"), result("msp", "cars"), speed("msp", 3.0)], shown)
    assert r"50 \% of A \& B\_1 \#2 \{x\} \textasciitilde{}\textasciicircum{}\textbackslash{}" in page
    assert r"{*}{[}1] -{}-k \textless{}3 & 90.0" in page
    assert r"\label{tab:a-b-c}" in page
    assert r"\textit{E\$}" in page
    bare = re.sub(r"\\[\\{}$&%#_]", "", page)
    assert bare.count("{") == bare.count("}")
    assert bare.count("$") % 2 == 0
    assert re.findall(r"\\begin\{(\w+)\}", page) == re.findall(r"\\end\{(\w+)\}", page)[::-1]
    body = page[page.index(r"\toprule") : page.index(r"\bottomrule")].replace("\n", " ").split(r"\\")
    lines = [re.sub(r"\\&", "", text) for text in body if "&" in text]
    spans = [text.count("&") + sum(int(n) - 1 for n in re.findall(r"multicolumn\{(\d+)\}", text)) for text in lines]
    assert set(spans) == {5}  # name, two sets, their average, accuracy, speed
    assert r"\begin{tabular}{lrrrrr}" in page


def test_bits_per_dimension_have_a_table_of_their_own():
    from benchmark.reporting.markup import markdown

    def record(ood, bits, seed):
        about = {"kind": "result", "status": "done", "row": "glow@pixels", "method": "glow", "seed": seed, "reason": ""}
        sets = {"id": {"n": 5, "of": 5, "title": "Digits", "notes": [], "split": "test", "name": "digits"}}
        sets["ood"] = {**sets["id"], "name": ood, "title": ood.title(), "group": "far", "stands_in_for": None}
        more = {"train": sets["id"], "resolution": "native", "random_fit": True, "footnotes": [], "accuracy": None}
        metrics = dict.fromkeys(("auroc", "fpr95", "fpr95_ood", "aupr_ood", "aupr_id"), 0.5)
        intervals = {"auroc": [0.4, 0.6], "fpr95": [0.4, 0.6]}
        return {**about, **sets, **more, "metrics": metrics, "intervals": intervals, "bits_per_dimension": bits}

    found = [record("letters", [3.0, 4.0], 0), record("letters", [3.5, 5.0], 1), record("scans", None, 0)]
    rows, ood = [("glow@pixels", "Glow", "pixels")], [("letters", "Letters", "far"), ("scans", "Scans", "far")]
    page = markdown(found, View("x", "x", "Digits", rows, ood))
    assert "| Glow | 3.250 | 4.500 | – |" in page
    assert "Bits per dimension" not in markdown([found[2]], View("x", "x", "Digits", rows, ood))


def test_the_accuracy_of_an_embedding_without_a_head_is_a_note():
    page = terminal.text([{**result("knn", "birds"), "knn_accuracy": 0.8912}], view(["knn"]))
    assert "kNN accuracy of the embedding of ResNet-18 at 32 on the ID test set (k = 20, cosine): 89.1 %." in " ".join(
        page.split()
    )


def test_a_speed_says_where_decoding_went_on_beside_the_rest():
    rows = view(["msp"])
    for overlap, said in ((False, ""), (True, ", the slower of decoding and all that follows")):
        page = terminal.text([result("msp", "birds"), speed("msp", 70.0, overlap=overlap)], rows)
        page = " ".join(page.split())
        assert f"Images/s: from stored bytes to score, median of 5 x 64 images on Some CPU, 2 threads{said}." in page
