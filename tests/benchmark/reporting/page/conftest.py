"""A results folder of made-up scores, its page, and a browser to look at it where there is one."""

import json
import re
import shutil
from math import comb
from pathlib import Path

import numpy as np
import pytest

from benchmark import metrics
from benchmark.records import records, score_files, significance
from benchmark.records.frames import View
from benchmark.records.names import path_of, scores_path
from benchmark.reporting import tables
from benchmark.reporting.page import report

SETS = (("near", "Near <set>", "near"), ("birds", "Birds", "far"), ("cars", "Cars & co", "far"))
ROWS = {"msp@net": 1.0, "vim@net": 2.2, "knn@net": 2.1, "ddpm@pixels": 0.4}  # row -> how far OOD scores lie
ENCODERS = {"net": "Net", "pixels": "Pixels"}
NASTY = (
    "</script><script>window.ran = 1</script>",
    "<img src=x onerror='window.ran = 2'>\"'&amp;",
    "two\nlines\r\nand a\ttab",
    "x" * 300,
    "אבג \u202egnp.exe",
    "'; window.ran = 3; //",
    "{{ 7 * 7 }} ${window.ran = 4} \\u003c -->",
)


class Made:
    """A folder, what is in it, and its page."""

    def __init__(self, folder: Path, *, scores: bool = True, rows=ROWS, sets=SETS, names=None, seed: int = 0) -> None:
        self.folder, self.rows, self.sets = folder, rows, sets
        rng = np.random.default_rng(seed)
        self.found = []
        self.both = {}
        for row, shift in rows.items():
            encoder = row.partition("@")[2]
            ids = rng.normal(size=200)
            for place, (name, title, group) in enumerate(sets):
                oods = rng.normal(shift + 0.3 * place, size=150 + 10 * place)
                self.found.append(self._record(row, encoder, (name, title, group), ids, oods, names or {}))
                if not scores:
                    shutil.rmtree(folder / "scores", ignore_errors=True)
        self.view = View(
            "toy",
            "Toy suite",
            "Toys",
            [(row, (names or {}).get(row, row), ENCODERS.get(row.partition("@")[2], "?")) for row in rows],
            sets,
            published={("msp@net", "birds", "auroc"): 75.5, ("msp@net", "birds", "fpr95"): 60.25},
            tests=comb(len(rows), 2),
        )

    def _record(self, row, encoder, ood, ids, oods, names):
        name, title, group = ood
        saved = {
            side: score_files.save(scores_path(self.folder, row, of, 0), values)
            for side, of, values in (("id", "toys", ids), ("ood", name, oods))
        }
        about = {
            "suite": "toy",
            "row": row,
            "title": names.get(row, row),
            "method": row.partition("@")[0],
            "encoder": encoder,
            "encoder_title": ENCODERS.get(encoder, "?"),
            "hyperparameters": {"k": 5, "of": names.get(row, "row")},
            "seed": 0,
            "resolution": "native",
            "id": {"name": "toys", "title": "Toys", "split": "test", "n": len(ids), "of": len(ids), "notes": []},
            "ood": {"name": name, "title": title, "split": "test", "group": group, "n": len(oods), "of": 1000}
            | {"notes": [], "stands_in_for": None},
            "train": {"n": 50, "of": 50, "notes": []},
            "footnotes": [],
        }
        record = records.result(
            about,
            "0",
            "done",
            metrics=metrics.measure(ids, oods),
            intervals=metrics.intervals(ids, oods),
            quantiles={"id": score_files.quantiles(ids), "ood": score_files.quantiles(oods)},
            scores=saved,
        )
        record["provenance"] = {"command": "run_all.py --id toy", "date": "2026-11-27T00:00:00+00:00", "cpu": "A CPU"}
        return record

    def fail(self, row, ood, reason="it is out of memory"):
        (record,) = (r for r in self.found if r["row"] == row and r["ood"]["name"] == ood)
        record |= {"status": "failed", "reason": reason, "metrics": None, "intervals": None, "provenance": None}

    def record(self, row, ood):
        return next(r for r in self.found if r["row"] == row and r["ood"]["name"] == ood)

    def scores(self, row, ood):
        return [score_files.read(self.folder, self.record(row, ood), side) for side in score_files.SIDES]

    def write(self) -> Path:
        for record in self.found:
            path = path_of(self.folder, record["row"], record["ood"]["name"], 0)
            path.parent.mkdir(parents=True, exist_ok=True)
            records.write(path, record)
        (self.folder / "table.csv").write_text(tables.csv(self.found, self.view))
        compared = significance.of_folder(self.folder, self.found, self.view)
        report.write(self.folder, self.found, self.view, compared, self.both)
        return self.folder / report.NAME


def data(page: Path, name: str):
    """What the page's scripts read."""
    text = page.read_text(encoding="utf-8")
    return json.loads(re.search(rf'<script type="application/json" id="data-{name}">(.*?)</script>', text, re.S)[1])


@pytest.fixture
def read():
    return data


@pytest.fixture
def nasty():
    return NASTY


@pytest.fixture
def make(tmp_path):
    return lambda name="toy", **how: Made(tmp_path / name, **how)


@pytest.fixture(scope="session")
def toy(tmp_path_factory):
    """A folder and its page, for tests that only look."""
    made = Made(tmp_path_factory.mktemp("page") / "toy")
    made.page = made.write()
    return made


# The first has no windows of its own: a page takes it half of what it takes the others.
BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def browser():
    """Headless Chromium; the tests that need it are skipped where there is none."""
    sync = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    with sync.sync_playwright() as play:
        try:
            started = play.chromium.launch(executable_path=found, args=["--no-sandbox", "--renderer-process-limit=1"])
        except sync.Error:
            pytest.skip("no Chromium here: apt-get install chromium-headless-shell")
        yield started
        started.close()


@pytest.fixture(scope="session")
def tabs(browser):
    """Tabs that stay open, for a tab compiles Plotly once, which takes a second; what each was told that is wrong."""
    opened, wrong = [], []

    def tab(number):
        while len(opened) <= number:
            context = browser.new_context()
            context.set_default_timeout(120_000)  # milliseconds, on a machine that is busy
            context.grant_permissions(["clipboard-read", "clipboard-write"])
            one = context.new_page()
            one.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
            one.on("pageerror", lambda error: wrong.append(str(error)))
            one.on(
                "request",
                lambda asked: None if asked.url.startswith(("file:", "data:", "blob:")) else wrong.append(asked.url),
            )
            opened.append(one)
        return opened[number]

    return tab, wrong


@pytest.fixture
def look(tabs):
    """Open a page, at a size; whatever it logs as an error, or asks for beside itself, is a failure.

    The size that is not said shows the table alone: plots, which nobody sees, are then not drawn (a second each).
    """
    tab, wrong = tabs
    wrong.clear()
    looking = []

    def opened(page, *, hash="", size=(1400, 300)):
        one = tab(len(looking))
        looking.append(one)
        one.set_viewport_size({"width": size[0], "height": size[1]})
        one.goto(f"{page.as_uri()}{hash}")
        return one

    yield opened
    for one in looking:
        one.goto("about:blank")  # else a page that differs in its hash alone would not be read anew
        one.emulate_media(media="null", color_scheme="null")
    assert not wrong
