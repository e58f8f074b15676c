"""A suite that runs in a second: embedded digits, a network of one epoch, few images."""

import json
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

import run_all
from benchmark.jobs.encoding import Encode, TrainEncoder
from benchmark.jobs.fitting import FitMethod
from benchmark.jobs.measuring import Measure
from benchmark.jobs.scoring import Score
from methods.encoders.classifier import Classifier
from methods.encoders.pixels import Pixels

SUITE = {
    "title": "A trial on digits",
    "id": {"set": "digits"},
    "ood": [{"set": "halves", "group": "near"}, {"set": "letters"}],
    "encoders": {
        "net": {"kind": "classifier", "settings": {"architecture": "resnet8", "epochs": 1, "augment": "none"}},
        "pixels": {"kind": "pixels", "settings": {"resolution": 32}},
    },
    "rows": [
        {"method": "msp", "encoder": "net"},
        {"method": "knn", "encoder": "net", "settings": {"k": 5}},
        {"name": "mse", "method": "dlsr", "encoder": "net", "settings": {"measure": "mse", "blocks": 1, "epochs": 2}},
        {"name": "sim", "method": "dlsr", "encoder": "net", "settings": {"measure": "mfsim", "blocks": 1, "epochs": 2}},
        {"method": "lowlevel", "encoder": "pixels"},
    ],
}
SMALL = ("--limit", "30", "--limit-train", "60", "--no-speed")


class Trial:
    """One results folder and its cache, and the suite that runs in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.results = folder / "results"
        self.suite = folder / "mini.yaml"
        self.write()

    def write(self, **changes) -> None:
        self.suite.write_text(yaml.safe_dump({**SUITE, **changes}))

    def arguments(self, *more: str, small: bool = True) -> list[str]:
        where = ["--results", str(self.results), "--data", str(self.folder / "data"), "--device", "cpu"]
        where += ["--weights", str(self.folder / "weights")]
        return ["--id", str(self.suite), *where, *(SMALL if small else ("--no-speed",)), *more]

    def run(self, *more: str, small: bool = True) -> int:
        return run_all.main(self.arguments(*more, small=small))

    def records(self, name: str = "mini+limit=30+limit-train=60") -> dict[str, dict]:
        """Records by their path below the results folder, without what differs from run to run."""
        found = {}
        for path in sorted((self.results / name / "records").rglob("*.json")):
            record = json.loads(path.read_text())
            for name in ("provenance", "training", "checksum"):
                record.pop(name, None)
            found[str(path.relative_to(self.results))] = record
        return found


@pytest.fixture
def trial(tmp_path):
    return Trial(tmp_path)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """The trial suite, measured once for all tests of a file; without figures."""
    trial = Trial(tmp_path_factory.mktemp("measured"))
    with undrawn():
        assert trial.run() == 0
    return trial


@pytest.fixture
def drawn():
    """For a test of whole runs that looks at their figures and pictures: all others do without, at half their time."""


@pytest.fixture(autouse=True)
def _figures(request, monkeypatch):
    if {"trial", "copied"} & set(request.fixturenames) and "drawn" not in request.fixturenames:
        _draw_nothing(monkeypatch)


@contextmanager
def undrawn():
    """Runs without their figures, pictures and page, for a fixture of a whole file."""
    with pytest.MonkeyPatch.context() as patch:
        _draw_nothing(patch)
        yield


def _draw_nothing(monkeypatch):
    monkeypatch.setattr("benchmark.reporting.drawing.draw", lambda *what, **how: None)
    monkeypatch.setattr("benchmark.reporting.ahead.Ahead.measured", lambda self, row: None)
    monkeypatch.setattr("benchmark.reporting.page.report.write", lambda *what, **how: None)
    monkeypatch.setattr("benchmark.jobs.illustrating.loss_curve", sketched)
    monkeypatch.setattr("benchmark.jobs.illustrating.image_grid", sketched)
    monkeypatch.setattr("benchmark.jobs.mistaking._nearest", lambda search, passes, chosen: [[] for _ in chosen])


def sketched(title, values, path, **how):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


@pytest.fixture
def laid_out(monkeypatch):
    """The matplotlib figures that were to be written, laid out; no pixel of them is drawn."""
    from matplotlib.figure import Figure

    kept = []

    def keep(figure, *args, **kwargs):
        figure.draw_without_rendering()
        kept.append(figure)

    monkeypatch.setattr(Figure, "savefig", keep)
    return kept


@pytest.fixture
def written(monkeypatch):
    """The same, written."""
    from matplotlib.figure import Figure

    kept, save = [], Figure.savefig

    def keep(figure, *args, **kwargs):
        save(figure, *args, **kwargs)
        kept.append(figure)

    monkeypatch.setattr(Figure, "savefig", keep)
    return kept


@pytest.fixture
def counted(monkeypatch):
    """How often each kind of job is carried out, and how many images each encoder sees."""
    counts = Counter()
    for job in (TrainEncoder, Encode, FitMethod, Score, Measure):

        def run(self, worker, before=job.run, name=job.__name__):
            counts[name] += 1
            before(self, worker)

        monkeypatch.setattr(job, "run", run)
    for encoder in (Classifier, Pixels):

        def encode(self, images, before=encoder.encode, name=encoder.__name__):
            counts[f"images {name}"] += len(images)
            return before(self, images)

        monkeypatch.setattr(encoder, "encode", encode)
    return counts
