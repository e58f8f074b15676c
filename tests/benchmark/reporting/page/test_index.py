"""All folders on one page, and any two of them compared."""

import math

import pytest

from benchmark.records.names import path_of
from benchmark.reporting import index

ROWS = {"msp@net": 1.0, "vim@net": 2.2}


def folders(make):
    """Two folders: the first has a row that the second has not, and a cell that failed there."""
    first = make("toy+limit=5+100 %", rows={**ROWS, "knn@net": 2.0})
    second = make("toy+resolution=id", rows={**ROWS, "dice@other": 1.0}, seed=1)
    second.fail("msp@net", "cars")
    for record in second.found:
        if record["provenance"]:
            record["provenance"]["date"] = "2026-11-28T10:11:12+00:00"
    for made in (first, second):
        made.write()
    return first, second


def test_every_folder_has_a_line_the_newest_first(make, tmp_path):
    folders(make)
    (tmp_path / "reference").mkdir()
    broken = tmp_path / "broken" / "records"
    broken.mkdir(parents=True)
    (tmp_path / "broken" / "table.csv").write_text("row,ood\n1,2,3\n")
    index.write(tmp_path)
    text = (tmp_path / index.NAME).read_text()
    lines = text.split("<tbody>")[1].split("</tbody>")[0].split("</tr>")[:-1]
    assert len(lines) == 3
    assert 'href="toy%2Bresolution%3Did/report.html"' in lines[0]
    assert 'href="toy%2Blimit%3D5%2B100%20%25/report.html"' in lines[1]
    assert "2026-11-28 10:11" in lines[0]
    assert "<td>limit=5 100 %</td>" in lines[1]
    assert "A CPU" in lines[1]
    assert "table.csv cannot be read" in lines[2]
    assert "no page yet" in lines[2]


def test_a_folder_is_read_again_only_where_a_file_has_changed(make, tmp_path, monkeypatch):
    first, second = folders(make)
    index.write(tmp_path)
    text = (tmp_path / index.NAME).read_text()
    read = []
    monkeypatch.setattr(index, "_about", lambda folder, about=index._about: read.append(folder) or about(folder))
    index.write(tmp_path)
    assert (tmp_path / index.NAME).read_text() == text
    assert not read
    record = path_of(second.folder, "vim@net", "birds", 0)
    record.write_text(record.read_text()[:-20])
    (first.folder / "report.html").unlink()  # which the index links to, and does not read
    index.write(tmp_path)
    assert read == [second.folder]
    text = (tmp_path / index.NAME).read_text()
    assert f"damaged: {record.relative_to(second.folder)}: it is no JSON object" in text
    assert text.count("no page yet") == 1
    (tmp_path / index.KNOWN).write_text("{")
    index.write(tmp_path)
    assert len(read) == 3
    assert (tmp_path / index.NAME).read_text() == text


def test_the_best_rows_are_those_with_whole_means(make, tmp_path):
    first, _ = folders(make)
    index.write(tmp_path)
    text = (tmp_path / index.NAME).read_text()
    near = max(100 * first.record(row, "near")["metrics"]["auroc"] for row in first.rows)
    assert f"{near:.1f} " in text
    assert "(1 row without this mean aside)" in text  # the mean over far sets of the row that failed on one


def test_a_value_of_a_sweep_is_never_the_best(make, tmp_path):
    made = make("toy", rows={"msp@net": 1.0, "knn@net": 3.0})
    for record in made.found:
        if record["row"] == "knn@net":
            record["sweep"] = {"hyperparameter": "k", "value": 3}
    made.write()
    index.write(tmp_path)
    line = (tmp_path / index.NAME).read_text().split("<tbody>")[1]
    near = 100 * made.record("msp@net", "near")["metrics"]["auroc"]
    assert f"{near:.1f} MSP" in line.upper()


def test_cells_carry_the_bounds_that_an_unpaired_interval_needs(make, tmp_path, read):
    first, _ = folders(make)
    index.write(tmp_path)
    (about,) = (each for each in read(tmp_path / index.NAME, "folders") if each["name"] == first.folder.name)
    record = first.record("vim@net", "birds")
    value, low, high = about["cells"]["vim@net"]["birds"]["auroc"]
    assert value == pytest.approx(100 * record["metrics"]["auroc"], abs=0.006)
    assert [low, high] == pytest.approx([100 * end for end in record["intervals"]["auroc"]], abs=0.02)


def test_two_folders_are_compared(make, tmp_path, look):
    first, second = folders(make)
    index.write(tmp_path)
    tab = look(tmp_path / index.NAME)
    tab.select_option("[name=first]", first.folder.name)
    tab.select_option("[name=second]", second.folder.name)
    rows = "[...document.querySelectorAll('#compared tbody tr')].map(tr => [...tr.cells].map(td => td.innerText))"
    found = {line[0]: line[1:] for line in tab.evaluate(rows)}
    assert found["msp@net, Net"][2] == "! failed on the second"
    assert found["knn@net, Net"] == ["◧ only first"] * 3 + ["–"]
    assert found["dice@other, ?"] == ["◨ only second"] * 3 + ["–"]
    ours, theirs = (made.record("vim@net", "birds") for made in (first, second))
    a, b = (100 * record["metrics"]["auroc"] for record in (ours, theirs))
    (la, ha), (lb, hb) = ([100 * end for end in record["intervals"]["auroc"]] for record in (ours, theirs))
    low, high = a - b - math.hypot(a - la, hb - b), a - b + math.hypot(ha - a, b - lb)
    shown = found["vim@net, Net"][1].replace("−", "-").replace("≈", "").split()
    assert [float(word) for word in shown if word != "to"] == pytest.approx([a - b, low, high], abs=0.07)
    assert ("≈" in found["vim@net, Net"][1]) == (low <= 0 <= high)
    assert "2 sets" in found["msp@net, Net"][3]
    again = look(tmp_path / index.NAME, hash=f"#{tab.url.partition('#')[2]}")
    assert again.evaluate(rows) == tab.evaluate(rows)


def test_rows_of_one_method_on_two_encoders_belong_together(make, tmp_path, look):
    first, second = make("a", rows={"vim@net": 2.0}), make("b", rows={"vim@pixels": 2.0})
    for made in (first, second):
        made.write()
    index.write(tmp_path)
    tab = look(tmp_path / index.NAME, hash="#first=a&second=b")
    assert tab.locator("#compared tbody tr").count() == 1
    assert tab.locator("#compared tbody th").inner_text() == "vim@net, Net / vim@pixels, Pixels"


def test_names_of_folders_do_not_run(make, tmp_path, look, nasty):
    for place, name in enumerate(nasty):
        folder = "".join(sign for sign in name if sign not in "/\n\r\t\u202e")[:200]
        make(f"{place}{folder}", rows={f"{name}@net": 1.0}, names={f"{name}@net": name}).write()
    index.write(tmp_path)
    tab = look(tmp_path / index.NAME)
    assert tab.locator("#folders tbody tr").count() == len(nasty)
    tab.select_option("[name=first]", index=1)
    tab.select_option("[name=second]", index=2)
    assert tab.evaluate("window.ran") is None
    tab.locator("#folders a").nth(1).click()
    assert tab.locator("#results").count() == 1
