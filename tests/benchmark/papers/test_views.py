"""Views of papers: that they select what exists, and what they show of it."""

import csv
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
import yaml
from PIL import Image

import run_all
from benchmark.metrics import threshold_at_tpr
from benchmark.papers import reading, sources, tables, views
from benchmark.papers.lacking import lacking
from benchmark.planning import changing, suite
from benchmark.planning.options import Options, results_folder
from benchmark.planning.suite import UsageError
from benchmark.records import records, reference
from benchmark.records.names import path_of, scores_path
from datasets import catalogue
from tests.benchmark.conftest import undrawn

PUBLISHED = {  # as printed in Table 3, CIFAR-10
    ("MSP", "iSUN"): 92.23,
    ("MSP", "Textures"): 95.93,
    ("DLSR-MFsim", "Textures"): 100.0,
}


@pytest.fixture(autouse=True)
def committed(tmp_path, monkeypatch):
    """Committed results: none, until a test writes some here."""
    monkeypatch.setattr(sources, "PUBLISHED", tmp_path / "results" / "published")
    return tmp_path / "results" / "published"


@pytest.fixture
def options(tmp_path):
    return Options(data=tmp_path, weights=tmp_path, results=tmp_path / "results", cache=tmp_path / "cache", limit=40)


def write(options, suite_name, row, ood, auroc, *, seed=0, title=None, stands_in_for=None, scores=True):
    """One record, and scores of 40 ID and 30 OOD images, as a run would leave them."""
    folder = results_folder(suite_name, options)
    about = {"split": "test", "of": 100, "notes": []}
    metrics = {"auroc": auroc, "fpr95": 1 - auroc, "fpr95_ood": 0.5, "aupr_ood": 0.5, "aupr_id": 0.5}
    record = records.result(
        {
            "suite": suite_name,
            "row": row,
            "title": row,
            "method": row.partition("-")[0].partition("@")[0],
            "encoder": row.partition("@")[2],
            "encoder_title": "a stand-in",
            "hyperparameters": {},
            "seed": seed,
            "random_fit": True,
            "resolution": "native",
            "id": {"name": "cifar10", "title": "CIFAR-10", "n": 40, **about},
            "train": {"n": 50, "of": 100, "notes": []},
            "footnotes": ["--limit 40: at most 40 test images of each set."],
            "ood": {
                "name": ood,
                "title": title or ood,
                "n": 30,
                "group": "far",
                "stands_in_for": stands_in_for,
                **about,
            },
        },
        key="0",
        status="done",
        metrics=metrics,
        intervals={"auroc": [auroc - 0.02, auroc + 0.02], "fpr95": [1 - auroc - 0.02, 1 - auroc + 0.02]},
        provenance={},
    )
    records.write(path_of(folder, row, ood, seed), record)
    if scores:
        for number, (name, n) in enumerate((("cifar10", 40), (ood, 30))):
            path = scores_path(folder, row, name, seed)
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, np.random.default_rng(len(name)).normal(number, 1, n))


@pytest.mark.parametrize("name", reading.names())
def test_a_view_selects_rows_and_cells_that_exist(name):
    view = reading.read(name)
    selected = list(reading.rows_of(view))
    there = {suite_name: {row.label for row in suite.read(suite_name).rows} for suite_name, _, _ in selected}
    for suite_name, label, _ in selected:
        assert label in there[suite_name], f"{suite_name}/{label}"
    for ood in reading.sets_of(view):
        assert catalogue.get(ood)
    if view.kind == "table":
        for part in view.parts:
            cells = reference.published(part.reference, part.id)
            methods, sets = {method for method, _, _ in cells}, {ood for _, ood, _ in cells}
            assert {row.published for row in part.rows if row.published} <= methods
            if name not in ("table4", "oal"):  # which have averages alone
                assert set(part.ood.values()) <= sets


def test_every_published_row_of_the_paper_is_in_its_view():
    for number in range(1, 13):
        table = f"table{number:02}"
        with (reference.REFERENCE / f"{table}.csv").open(encoding="utf-8", newline="") as file:
            printed = {(line["id"], line["method"]) for line in csv.DictReader(file) if line["id"] != "all"}
        parts = reading.read(f"table{number}").parts
        assert printed == {(part.id, row.published) for part in parts for row in part.rows if row.published}, table


def test_a_misprint_is_that_of_a_published_cell():
    with (reference.REFERENCE / "misprints.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    assert lines
    for line in lines:
        cells = reference.published((line["table"],), line["id"])
        assert (line["method"], line["ood"], line["metric"].lower()) in cells, line


def test_how_a_published_method_was_made_is_told_wherever_it_is_shown(options):
    with (reference.REFERENCE / "notes.csv").open(encoding="utf-8", newline="") as file:
        noted = {line["method"] for line in csv.DictReader(file)}
    printed = set()
    for path in reference.REFERENCE.glob("*.csv"):
        with path.open(encoding="utf-8", newline="") as file:
            printed |= {line["method"].partition("|")[0] for line in csv.DictReader(file) if "value" in line}
    assert noted <= printed
    (note,) = reference.remarks(["OAL", "MSP", "OAL"])
    assert note.startswith("Published OAL: a ViT teacher")
    assert "another method, not a repetition" in " ".join(views.show("oal", options).split())
    # GLOW's 88.3 on SVHN cannot be of a raw likelihood: it stands beside the one that is corrected
    for name, methods in (("table1", {"GLOW", "PixelCNN++"}), ("table8", {"GLOW"})):
        rows = {row.published: row.row for row in reading.read(name).parts[0].rows if row.published in methods}
        assert rows.keys() == methods
        assert all("-png@" in row for row in rows.values())
        assert "corrected by complexity" in " ".join(views.show(name, options).split())
    trained = {row.published: row for row in suite.read("cifar10-trained").rows}
    assert trained["GLOW"].settings["complexity"] == trained["PixelCNN++"].settings["complexity"] == "png"


def test_nothing_of_a_machine_stands_in_a_written_table(options):
    for name in ("table3", "table12"):
        views.show(name, options)
        for path in results_folder("papers", options).glob(f"{name}.*"):
            assert str(options.data) not in path.read_text(), path


def test_ours_published_and_their_difference(options):
    write(options, "cifar10", "msp@probe", "isun", 0.90)
    write(options, "cifar10", "msp@probe", "textures", 0.97)
    page = views.show("table3", options)
    lines = page.splitlines()
    ours = next(number for number, line in enumerate(lines) if line.startswith("  MSP"))
    assert "–" in lines[ours]  # the sets that were not measured
    assert "90.0" in lines[ours]
    assert str(PUBLISHED["MSP", "iSUN"]) in lines[ours + 1]
    assert "-2.2" in lines[ours + 2]
    markdown = (results_folder("papers", options) / "table3.md").read_text()
    assert "90.0 ±2.0<br><sub>published 92.23 (-2.2)</sub>" in markdown
    assert "–<br><sub>published 94.53</sub>" in markdown  # SVHN
    # over the two sets that were measured: (90 + 97) / 2 beside (92.23 + 95.93) / 2 = 94.08
    assert "93.5 ±2.0<br><sub>published 94.08 (-0.6)</sub>" in markdown
    assert "–<br><sub>published 94.74</sub>" in markdown  # the paper's average over six
    assert "average of these 2" in markdown
    assert "Not measured: run_all.py --id cifar10 --methods ebo@probe" in markdown
    assert "at most 40 test images" in markdown


def test_packed_records_make_the_same_table(options, tmp_path):
    for ood in ("isun", "textures"):
        write(options, "cifar10", "msp@probe", ood, 0.90)
    page = views.show("table3", options)
    folder = results_folder("cifar10", options)
    published = replace(options, results=tmp_path / "published")
    there = results_folder("cifar10", published)
    there.mkdir(parents=True)
    records.pack(folder, there / records.PACKED)
    assert views.show("table3", published).split("\nwrote")[0] == page.split("\nwrote")[0]


def test_committed_results_are_shown_where_nothing_is_measured_with_these_flags(options, committed):
    write(options, "cifar10", "msp@probe", "isun", 0.90)
    for name in ("cifar10+pretrained=other+limit=40", "cifar10+pretrained=other+resolution=id+limit=40"):
        (committed / "cpu" / name).mkdir(parents=True)
        records.pack(results_folder("cifar10", options), committed / "cpu" / name / records.PACKED)
    elsewhere = replace(options, results=options.results / "none", limit=None)
    page = " ".join(views.show("table3", elsewhere).split())
    assert "90.0" in page
    said = "Nothing of cifar10 is measured with these flags: shown is what is committed in"
    assert f"{said} results/published/cpu/cifar10+pretrained=other+limit=40." in page
    assert page.endswith("0 of 192 cells at the paper's setting, 1 with a stand-in")
    assert said in (elsewhere.results / "papers" / "table3.md").read_text()
    # a folder with fewer flags and none of the table's rows is not taken in its place
    write(other := replace(options, limit=7), "cifar10", "pca@probe", "isun", 0.10)
    (committed / "cuda" / "cifar10+pretrained=other").mkdir(parents=True)
    records.pack(results_folder("cifar10", other), committed / "cuda" / "cifar10+pretrained=other" / records.PACKED)
    assert " ".join(views.show("table3", elsewhere).split()) == page
    # a table of another network takes none but that network's
    assert "shown is what is committed" not in views.show("table6", elsewhere)
    # what is measured with the flags themselves goes before
    assert "shown is what is committed" not in views.show("table3", options)


def test_what_is_made_as_the_paper_has_it_is_counted_apart(options, monkeypatch):
    write(options, "cifar10", "msp@probe", "isun", 0.90)
    write(options, "cifar10", "msp@probe", "miniplaces", 0.8, stands_in_for="Places365")
    folder = results_folder("cifar10", options)
    for path in folder.glob("records/*/*.json"):
        record = records.read(path)
        record["footnotes"] = []
        for images in ("id", "ood", "train"):
            record[images]["of"] = record[images]["n"]
        records.write(path, record)
    assert views.show("table3", options).endswith("1 of 192 cells at the paper's setting, 1 with a stand-in")


def test_both_signs_of_lr_stand_beside_the_published_number(options):
    for name in reading.names():
        view = reading.read(name)
        for part in view.parts if view.kind == "table" else ():
            lr = [row for row in part.rows if (row.published or "").startswith("DLSR-LR")]
            assert 2 * sum("released" in row.row for row in lr) == len(lr), name
    write(options, "cifar10", "dlsr-lr@imagenet", "isun", 0.20)
    write(options, "cifar10", "dlsr-lr-released@imagenet", "isun", 0.80)
    page = views.show("table3", options)
    assert "-74.3" in page  # published 94.31
    assert "-14.3" in page
    assert "Published DLSR-LR: printed by the released code" in page


def test_the_command_has_the_flags_of_the_view_and_its_network(options):
    trial = replace(options, quick=True, resolution="id")
    page = " ".join(views.show("table6", trial).split())
    flags = "--pretrained resnet50.tv_in1k --resolution id --limit 40 --quick"
    assert f"lowlevel@pixels {flags}" in page
    network = changing.with_pretrained(suite.read("cifar10"), "resnet50.tv_in1k").encoders["imagenet"]
    assert network.settings["layers"] == ["layer1", "layer2", "layer3"]  # 256 + 512 + 1024 = 1,792 channels


def test_csv_and_latex_of_both_parts(options):
    write(options, "cifar10", "msp@probe", "isun", 0.90)
    views.show("table5", options)
    folder = results_folder("papers", options)
    lines = list(csv.DictReader((folder / "table5.csv").read_text().splitlines()))
    assert {line["id"] for line in lines} == {"CIFAR-10", "CIFAR-100"}
    (cell,) = (x for x in lines if (x["id"], x["row"], x["ood"]) == ("CIFAR-10", "cifar10/msp@probe", "isun"))
    assert (cell["fpr95"], cell["published_fpr95"]) == ("10.00", "46.89")
    assert (folder / "table5.tex").read_text().count(r"\begin{table}") == 2


def test_what_stands_in_for_a_set_has_its_own_column_and_no_published_number(options):
    row = "dlsr-mfsim@imagenet"
    write(options, "cifar10", row, "textures", 0.99)
    write(options, "cifar10", row, "miniplaces", 0.8, title="MiniPlaces", stands_in_for="Places365")
    ((found, page), _) = tables.pages("table3", reading.read("table3"), options)
    assert ("miniplaces", "MiniPlaces for Places365", "stand-in") in page.ood
    assert not [cell for cell in page.published if cell[1] == "miniplaces"]
    assert page.common == ["textures"]
    assert page.published[f"cifar10/{row}", "average of measured", "auroc"] == PUBLISHED["DLSR-MFsim", "Textures"]
    assert len(found) == 2


def test_averages_over_all_pairs_of_table_10(options):
    row = "dlsr-mse@imagenet"
    for suite_name, ood, auroc in (("cifar10", "cifar100", 0.9), ("cifar100", "cifar10", 0.7)):
        write(options, suite_name, row, ood, auroc)
    _, _, (found, page) = tables.pages("table10", reading.read("table10"), options)
    assert page.published["DLSR-MSE", "average", "auroc"] == 84.83
    assert page.published["DLSR-MSE", "average of measured", "auroc"] == pytest.approx((87.54 + 70.52) / 2)
    assert page.published["LMD", "CIFAR-100 svhn", "auroc"] == 98.5
    markdown = tables.render([(found, page)])["md"]
    assert "80.0 ±2.0<br><sub>published 79.03 (+1.0)</sub>" in markdown
    assert "CIFAR-10 → SVHN" in markdown


def test_rows_that_the_project_does_not_build_are_published_alone(options):
    markdown = tables.render(tables.pages("table9", reading.read("table9"), options))["md"]
    assert "As published alone: DiffGuard, DiffGuard+EBO, DiffGuard+Deep Ens." in markdown
    assert "published 89.88 / 52.67" in markdown


def test_another_network_of_a_table_is_looked_for_in_its_own_folder(options):
    write(replace(options, pretrained="resnet50.tv_in1k"), "cifar10", "msp@probe", "isun", 0.90)
    assert "difference" in views.show("table6", options)
    assert "difference" not in views.show("table3", options)


def test_all_views_and_how_much_of_each_is_measured(options):
    write(options, "cifar10", "msp@probe", "cifar100", 0.9)
    said = views.show("all", options)
    assert "Table 8: CIFAR-10 against CIFAR-100: 0 of 16 cells at the paper's setting, 1 with a stand-in" in said
    assert len(said.splitlines()) == len(reading.names()) + 1
    page = (Path(said.splitlines()[-1].removeprefix("wrote ")) / "report.html").read_text(encoding="utf-8")
    for name in reading.names():
        assert f'<section id="{name}">' in page
    table8 = page.split('<section id="table8">')[1].split("</section>")[0]
    assert "<b>90.0 / " in table8  # ours
    assert "published " in table8
    assert "0 of 16 cells at the paper" in table8
    assert "script-src &#39;none&#39;" in page
    contents = page.split("</header>")[0]
    assert (
        '<a href="#table8"><bdi>Table 8: CIFAR-10 against CIFAR-100</bdi></a>: <span class="faint">0 of 16' in contents
    )
    assert contents.count("</li>") == len(reading.names())
    before_table = re.sub("<[^>]*>", "", table8.split("<table")[0])
    assert "Not measured: run_all.py --id cifar10 --methods ebo@probe" in before_table
    index = (options.results / "index.html").read_text(encoding="utf-8")
    assert f'href="{quote(results_folder("papers", options).name)}/report.html"' in index


def test_an_unknown_view_names_the_nearest(options):
    with pytest.raises(UsageError, match="no view 'tabel3'; did you mean 'table3'"):
        views.show("tabel3", options)


def test_figures_are_drawn_as_png_and_pdf(options, request):
    for row in ("dlsr-mfsim-first@imagenet", "dlsr-mfsim@imagenet"):
        write(options, "cifar10", row, "textures", 0.9)
    for line in reading.read("figure4").lines:
        for row in line.rows.values():
            write(options, "cifar10-dlsr", row.partition("/")[2], "isun", 0.8)
    for pair in reading.read("figure5").groups[1].bars.values():
        for row in pair:
            write(options, "cifar100-dlsr", row.partition("/")[2], "isun", 0.7)
    path = results_folder("papers", options) / "figure3"
    assert "wrote" in views.show("figure3", options)
    assert min(Image.open(f"{path}.png").size) > 300
    assert path.with_suffix(".pdf").read_bytes().startswith(b"%PDF")
    laid_out = request.getfixturevalue("laid_out")
    for name in ("figure4", "figure5", "figure9"):
        assert "wrote" in views.show(name, options)
    assert len(laid_out) == 6


def test_densities_name_the_encoder_that_they_show_and_can_come_from_quantiles(options, laid_out):
    for row in ("dlsr-mfsim-first@imagenet", "dlsr-mfsim@imagenet"):
        write(options, "cifar10", row, "textures", 0.9, scores=False)
        path = path_of(results_folder("cifar10", options), row, "textures", 0)
        kept = {"id": list(np.linspace(0, 1, 200)), "ood": list(np.linspace(1, 2, 200))}
        records.write(path, {**records.read(path), "quantiles": kept})
    assert "wrote" in views.show("figure3", options)
    figure = laid_out[0]
    assert [axes.get_title() for axes in figure.axes] == ["first epoch, a stand-in", "last epoch, a stand-in"]
    assert "EfficientNet" not in figure.get_suptitle()
    assert "200 score quantiles" in " ".join(text.get_text() for text in figure.texts)


def test_bars_begin_at_zero(options, laid_out):
    for pair in reading.read("figure5").groups[1].bars.values():
        for row in pair:
            write(options, "cifar100-dlsr", row.partition("/")[2], "isun", 0.7)
    views.show("figure5", options)
    for axes in laid_out[0].axes:
        assert axes.get_ylim()[0] == 0
        assert all(bar.get_y() == 0 for bar in axes.patches)


def test_a_figure_without_its_records_or_scores_says_what_to_run(options):
    for name in ("figure3", "figure4", "figure5", "figure10"):
        said = views.show(name, options)
        assert "not measured" in said
        assert "cifar10" in said
    for row in ("dlsr-mfsim-first@imagenet", "dlsr-mfsim@imagenet"):
        write(options, "cifar10", row, "textures", 0.9, scores=False)
    assert "run_all.py --id cifar10 --methods dlsr-mfsim" in views.show("figure3", options)
    assert not results_folder("papers", options).exists()


def test_a_gallery_has_the_images_that_a_row_errs_on(trial, monkeypatch, capsys, drawn, laid_out):
    monkeypatch.setattr(suite, "SUITES", trial.folder)
    monkeypatch.setattr(reading, "PAPERS", trial.folder / "papers")
    (trial.folder / "papers").mkdir()
    for name, shown in (("figure1", "id"), ("figure2", ["halves", "letters", "svhn"])):
        view = {"kind": "gallery", "title": "Errors", "row": "mini/sim@net", "show": shown}
        (trial.folder / "papers" / f"{name}.yaml").write_text(yaml.safe_dump(view))
    arguments = ["--results", str(trial.results), "--limit", "30", "--limit-train", "60", "--device", "cpu"]
    assert run_all.main([*arguments, "--paper", "figure1"]) == 0
    assert "not measured" in capsys.readouterr().out
    with undrawn():
        trial.run("--methods", "sim@net")
    for name in ("figure1", "figure2"):
        assert run_all.main([*arguments, "--paper", name]) == 0
        assert (trial.results / "papers+limit=30+limit-train=60" / f"{name}.png").exists()
    ids = np.load(scores_path(trial.results / "mini+limit=30+limit-train=60", "sim@net", "digits", 0))
    flagged, accepted = laid_out[-4], laid_out[-2]  # each as PNG and PDF

    def scores_in(figure):
        return [float(t.split("\n")[-1]) for axes in figure.axes if "\n" in (t := axes.get_title(loc="left"))]

    threshold = threshold_at_tpr(ids)
    np.testing.assert_allclose(scores_in(flagged), np.sort(ids[ids > threshold])[::-1], atol=1e-3)
    assert scores_in(accepted)
    assert all(score <= threshold + 1e-3 for score in scores_in(accepted))
    assert "Not measured: SVHN." in " ".join(" ".join(text.get_text() for text in accepted.texts).split())

    for passed in (trial.results / ".cache" / "encode").glob("*/*"):
        if json.loads((passed / "done.json").read_text())["meta"]["title"] == "encode halves with net":
            shutil.rmtree(passed)
    capsys.readouterr()
    assert run_all.main([*arguments, "--paper", "figure2"]) == 0
    said = " ".join(" ".join(text.get_text() for text in laid_out[-1].texts).split())
    assert "Features no longer in the cache: Halves." in said
    shutil.rmtree(trial.results / ".cache" / "encode")
    for name in ("figure1", "figure2"):
        assert run_all.main([*arguments, "--paper", name]) == 0
        assert "no longer in" in (said := capsys.readouterr().out.splitlines()[-1])
        assert "run_all.py --id mini --methods sim@net, with an empty --cache" in said


def test_lacking_names_sets_and_weights(tmp_path):
    assert lacking(reading.read("table8"), tmp_path, tmp_path) == [
        "cifar10",
        "cifar100",
        "tf_efficientnet_b4.aa_in1k",
    ]
    (tmp_path / "tf_efficientnet_b4.safetensors").touch()
    assert lacking(reading.read("figure10"), tmp_path, tmp_path) == ["cifar10"]
