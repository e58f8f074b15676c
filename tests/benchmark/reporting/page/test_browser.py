"""The page in headless Chromium: skipped where there is none."""

import csv
import io
import re

import numpy as np
import pytest
from PIL import Image

from benchmark.jobs import mistaking
from benchmark.records.names import mistakes_path
from benchmark.store import files

ROWS = "[...document.querySelectorAll('#results tbody tr')].filter(tr => !tr.hidden).map(tr => tr.cells[0].innerText)"
COLUMN = "n => [...document.querySelectorAll('#results tbody tr')].map(tr => tr.cells[n].innerText.trim())"


def column(tab, number):
    return [re.match(r"[\d.]+", cell) and float(re.match(r"[\d.]+", cell)[0]) for cell in tab.evaluate(COLUMN, number)]


def test_a_click_sorts_by_number_a_second_the_other_way_missing_cells_last(make, look):
    made = make()
    made.fail("msp@net", "birds")
    tab = look(made.write())
    head = tab.locator("#results thead th").nth(3)
    head.click()
    first = column(tab, 3)
    assert first[:3] == sorted(first[:3], reverse=True)
    head.click()
    second = column(tab, 3)
    assert second[:3] == sorted(second[:3])
    assert tab.evaluate(COLUMN, 3)[3].startswith("failed [1]")
    assert head.get_attribute("aria-sort") == "ascending"
    assert first[3] is second[3] is None


def test_rows_are_filtered_by_words_encoder_and_what_they_read_and_what_is_beside_a_number_goes_and_comes(toy, look):
    tab = look(toy.page)
    for name, selector in (("intervals", "td.cell i"), ("averages", "td.average"), ("published", "td small")):
        assert tab.locator(selector).first.is_visible()
        tab.uncheck(f"[name={name}]")
        assert tab.locator(selector).first.is_hidden()
        tab.check(f"[name={name}]")
        assert tab.locator(selector).first.is_visible()
    tab.fill("[name=text]", "NN")
    assert tab.evaluate(ROWS) == ["knn@net"]
    assert tab.inner_text("#said") == "1 of 4 rows"
    tab.fill("[name=text]", "")
    tab.select_option("[name=encoder]", "Pixels")
    assert tab.evaluate(ROWS) == ["ddpm@pixels"]
    tab.select_option("[name=encoder]", "")
    tab.select_option("[name=reads]", "trained generator")
    assert tab.evaluate(ROWS) == ["ddpm@pixels"]
    tab.select_option("[name=reads]", "logits")
    assert tab.evaluate(ROWS) == ["msp@net"]


def test_the_switch_shows_every_metric_as_the_csv_has_it(toy, look):
    tab = look(toy.page)
    with (toy.folder / "table.csv").open(newline="") as file:
        lines = [line for line in csv.DictReader(file) if line["ood"] == "cars"]
    for metric in ("fpr95", "fpr95_ood", "aupr_ood", "aupr_id", "auroc"):
        tab.select_option("[name=metric]", metric)
        for cell, line in zip(tab.evaluate(COLUMN, 4), lines, strict=True):
            assert abs(float(cell.split()[0]) - float(line[metric])) <= 0.0551
        assert ("published 60.25" in tab.inner_text("#results")) == (metric == "fpr95")
        assert ("metric=" in tab.url) == (metric != "auroc")


def test_a_reference_row_leaves_those_dark_that_do_not_differ(make, look):
    made = make()
    made.fail("ddpm@pixels", "near")
    tab = look(made.write())
    tab.select_option("[name=reference]", "vim@net")
    lines = dict(zip(tab.evaluate(ROWS), tab.locator("tbody tr").all(), strict=True))
    lines = {words.split("\n")[0]: (words, line) for words, line in lines.items()}
    assert "no significant difference: " in lines["knn@net"][0]
    assert "differs" not in (lines["knn@net"][1].get_attribute("class") or "")
    words, line = lines["msp@net"]
    assert "differs" in line.get_attribute("class")
    auroc = [
        sum(100 * made.record(row, name)["metrics"]["auroc"] for name, *_ in made.sets) / 3
        for row in ("msp@net", "vim@net")
    ]
    assert f"−{auroc[1] - auroc[0]:.1f} (corrected p\u00a0<\u00a00.001, " in words
    assert "over 2 sets that both have, unpaired 95\u00a0% interval" in lines["ddpm@pixels"][0]
    tab.select_option("[name=reference]", "")
    assert tab.locator("tr.differs").count() == 0


def test_a_cell_opens_and_its_threshold_is_dragged(toy, look):
    tab = look(toy.page)
    tab.locator("tbody tr").nth(1).locator("td.cell").nth(1).click()
    ids, oods = toy.scores("vim@net", "birds")
    told = tab.locator("#cell output")
    assert tab.locator("#cell .plot svg.main-svg").count() >= 2
    slider = tab.locator("#threshold")
    for key in ("", "ArrowLeft", "Home", "End"):
        if key:
            slider.press(key)
        shown = told.evaluate("output => ({...output.dataset})")
        threshold = float(shown["threshold"])
        assert f"at {threshold:.5g}:" in told.inner_text()
        assert float(shown["accepted"]) == (ids <= threshold).mean()
        assert float(shown["missed"]) == (oods <= threshold).mean()
        assert f"({(ids <= threshold).sum()} of 200)" in told.inner_text()
        if not key:
            assert float(shown["missed"]) == toy.record("vim@net", "birds")["metrics"]["fpr95"]
    assert "run_all.py --id toy" in tab.inner_text("#cell")
    assert "A CPU" in tab.inner_text("#cell")
    tab.keyboard.press("Escape")
    assert tab.locator("#cell").is_hidden()
    tab.wait_for_url(lambda url: "#" not in url)


def test_every_value_cell_is_reached_and_opened_without_a_mouse(toy, look):
    tab = look(toy.page)
    tab.locator("#results thead button").last.focus()
    reached = []
    for _ in range(4 * 6):
        tab.keyboard.press("Tab")
        place = "e => [document.activeElement.parentElement.rowIndex, document.activeElement.cellIndex]"
        reached.append(tuple(tab.evaluate(place)))
    assert len(set(reached)) == 24
    tab.keyboard.press("Enter")
    assert tab.locator("#cell").is_visible()
    tab.keyboard.press("Escape")
    assert tab.evaluate("document.activeElement.className").startswith("cell")


def test_a_link_opens_the_same_view_and_what_cannot_be_read_is_ignored(toy, look):
    page = toy.page
    tab = look(page)
    tab.select_option("[name=metric]", "fpr95")
    tab.locator("#results thead th").nth(2).click()
    tab.uncheck("[name=intervals]")
    tab.locator("td.cell").first.click()
    again = look(page, hash=tab.url.partition("#")[1] + tab.url.partition("#")[2])
    for each in (tab, again):
        assert each.input_value("[name=metric]") == "fpr95"
        assert not each.is_checked("[name=intervals]")
        assert each.locator("th[aria-sort]").count() == 1
        assert each.locator("#cell").is_visible()
    assert again.evaluate(ROWS) == tab.evaluate(ROWS)
    for hash in ("#%E0%A4%A", "#metric=<script>&sort=set:nothing&cell=a|b|c&intervals=perhaps", "#cell=%25E0|x"):
        odd = look(page, hash=hash)
        assert odd.evaluate(ROWS) == list(toy.rows)
        assert odd.input_value("[name=metric]") == "auroc"


def test_the_shown_table_is_copied_and_saved(toy, look):
    tab = look(toy.page)
    tab.fill("[name=text]", "net")
    tab.locator("#results thead th").nth(3).click()
    shown = [row.split("\n")[0] for row in tab.evaluate(ROWS)]
    copied = {}
    for format in ("Markdown", "LaTeX", "CSV"):
        tab.click(f"[data-copy={format}]")
        copied[format] = text = tab.evaluate("navigator.clipboard.readText()")
        with tab.expect_download() as download:
            tab.click(f"[data-save={format}]")
        assert download.value.path().read_text(encoding="utf-8") == text
        assert [text.index(row) for row in shown] == sorted(text.index(row) for row in shown)
        assert "ddpm@pixels" not in text
    head, *lines = csv.reader(io.StringIO(copied["CSV"]))
    assert head[2:5] == ["Near <set> (near)", "Birds (far)", "Cars & co (far)"]
    assert [float(line[3].split()[0]) for line in lines] == column(tab, 3)[:3]
    assert r"Near \<set\> (near)" in copied["Markdown"]
    assert r"Cars \& co (far)" in copied["LaTeX"]


def test_names_from_outside_do_not_run(make, look, nasty):
    rows = {f"{name}@net": 1.0 for name in nasty}
    made = make(rows=rows, sets=tuple((name, name, "far") for name in nasty), names={row: row for row in rows})
    tab = look(made.write())
    assert tab.evaluate("window.ran") is None
    tab.select_option("[name=reference]", index=2)
    for place in range(len(nasty)):
        tab.locator("tbody tr").nth(place).locator("td.cell").nth(place).click()
        assert tab.locator("#threshold").count() == 1
        tab.keyboard.press("Escape")
    tab.click("[data-copy=LaTeX]")
    assert tab.evaluate("window.ran") is None
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("width", [380, 2560])
def test_it_fits_narrow_and_wide_light_and_dark(toy, look, width):
    tab = look(toy.page, size=(width, 700))
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    tab.locator("td.cell").first.click()
    assert tab.evaluate("document.getElementById('cell').getBoundingClientRect().right <= innerWidth")
    for scheme in ("light", "dark"):
        tab.emulate_media(color_scheme=scheme)
        lightness = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
        assert (max(tab.evaluate(lightness)) < 80) == (scheme == "dark")


def test_it_prints_the_whole_table_dark_on_light(make, look):
    sets = tuple((f"set{n}", f"Long set {n}", "far") for n in range(11))
    tab = look(make(sets=sets).write(), size=(1047, 700))  # A4 across, less its margins
    tab.emulate_media(media="print", color_scheme="dark")
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    head = "getComputedStyle(document.querySelector('thead button')).display"
    assert tab.evaluate(head) == "contents"  # Chromium leaves boxes out of the head that it repeats on every sheet
    lightness = "getComputedStyle(document.querySelector('tbody th')).{}.match(/\\d+/g).map(Number)"
    assert min(tab.evaluate(lightness.format("backgroundColor"))) > 200
    assert max(tab.evaluate(lightness.format("color"))) < 80


def test_header_and_first_column_stay_in_sight(make, look):
    tab = look(make(rows={f"msp-{n}@net": 1.0 for n in range(30)}).write(), size=(380, 500))
    tab.evaluate("document.querySelector('.scroll').scrollTo(200, 400)")
    head, corner, scroller = (
        tab.locator(selector).first.bounding_box() for selector in ("thead th:nth-child(4)", "thead th", ".scroll")
    )
    assert head["y"] == pytest.approx(scroller["y"], abs=3)
    assert corner["x"] == pytest.approx(scroller["x"], abs=3)


def test_plots_are_drawn_when_seen_and_a_click_finds_the_row(toy, look):
    tab = look(toy.page, size=(380, 300))
    assert tab.evaluate("globalThis.Plotly === undefined")
    heights = "[...document.querySelectorAll('#plots .plot')].map((plot) => plot.offsetHeight)"
    before = tab.evaluate(heights)
    tab.locator("#plots .plot").first.scroll_into_view_if_needed()
    tab.wait_for_selector("#plots .plot svg.main-svg")
    assert tab.evaluate(heights) == before  # else what is below would move under the pointer
    tab.evaluate("document.querySelector('#plots .plot').emit('plotly_click', { points: [{ customdata: 'knn@net' }] })")
    assert tab.locator("tr.found th").inner_text() == "knn@net"


def test_a_picture_finds_its_row_and_a_stand_in_is_named_wherever_the_table_goes(make, look):
    made = make()
    for record in made.found:
        if record["ood"]["name"] == "birds":
            record["ood"]["stands_in_for"] = "Planes"
    path = made.folder / "figures" / "pictures" / "ddpm@pixels.samples.png"
    path.parent.mkdir(parents=True)
    Image.new("L", (8, 8)).save(path)
    tab = look(made.write())
    tab.locator(".pictures img").click()
    assert tab.locator("tr.found th").inner_text() == "ddpm@pixels"
    tab.click("[data-copy=CSV]")
    head = next(csv.reader(io.StringIO(tab.evaluate("navigator.clipboard.readText()"))))
    assert head[3] == "Birds (far, stands in for Planes)"


def test_the_images_that_a_row_errs_on_are_in_its_cell(make, look):
    made = make()
    made.write()
    image = mistaking._picture(np.zeros((1, 1, 3), dtype=np.uint8))
    one = {"score": "<b>0.1</b>", "image": image, "nearest": [[image, 0.98]]}
    path = mistakes_path(made.folder, "knn@net", "birds")
    path.parent.mkdir(parents=True)
    path.write_text(files.text(files.sealed({"key": "x", "measure": "0", "missed": [one], "flagged": []})))
    tab = look(made.write(), hash="#cell=knn%2540net%7Cbirds")
    shown = tab.locator("#cell .images figure")
    assert shown.count() == 1
    assert shown.locator("img").count() == 2
    assert shown.inner_text().strip() == "score <b>0.1</b> · 0.98"
    assert tab.evaluate("[...document.querySelectorAll('#cell img')].every(image => image.naturalWidth === 1)")
    assert "--no-images" in tab.inner_text(".images-note")
