"""`--onnx` of every method of the registry behind a tiny network: the graph scores as the method, or says why not."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

import methods
from benchmark.detectors import graph
from benchmark.detectors.detector import Detector
from benchmark.detectors.examples import colours
from benchmark.detectors.verdicts import p_values
from benchmark.jobs.inputs import EncoderUse
from benchmark.jobs.worker import Worker
from benchmark.store.entries import Store
from methods.base import CannotRun, Features, Head
from methods.encoders import base

onnxruntime = pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.usefixtures("exporter")
SIDE, WIDTH, CLASSES = 6, 12, 4
TINY = {"blocks": 1, "epochs": 20, "width": 8, "batch_size": 50}  # of less the scores hardly differ
MORE = {
    "autoencoder": [TINY],
    "feature_vae": [{"epochs": 1}],
    "dlsr": [{**TINY, "measure": measure, "k": 3} for measure in ("mse", "lr", "mfsim")],
    "ash": [{"variant": variant} for variant in "sbp"],
    "ddu": [{}, methods.get("ddu").presets["pytorch-ood"]],
    "kpca": [{}, {"kernel": "rff", "features": 64}],
    "knn": [{"k": 3}, {"feature": "layers", "k": 3}],
    "layer_knn": [{"k": 3}],
    "mahalanobis": [{}, {"feature": "layers", "per_class": False}, {"normalise": True}],
    "she": [{"similarity": "inner"}, {"similarity": "cosine"}, {"similarity": "euclidean"}],
    "pca": [{"components": 4}],
    "rmds": [{}, {"normalise": True}],
}
# Of pixels, which is no arithmetic on tensors; and of what the tiny network does not offer: test_rerun_detectors.
OTHERS = {"adascale", "combood", "ddpm", "glmcm", "glow", "gram", "lowlevel", "neglabel", "pixelcnn", "vae"}
NOT = {"random": "Random: no graph of plain arithmetic"}
ROWS = [
    (name, settings)
    for name in methods.names()
    if name not in OTHERS and not methods.get(name).__module__.startswith("methods.margin")
    for settings in MORE.get(name, [{}])
]
QUICK = ("optfs", "ddu")


@dataclass
class Tiny(base.Encoder):
    """Two layers of random weights, and a head that finds every class about as often."""

    @property
    def offers(self):
        return ("embedding", "logits", "layers")

    @property
    def resolution(self):
        return SIDE

    def open(self, weights, *, device="cpu", precision="32"):
        generator = torch.Generator().manual_seed(1)
        draw = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
        self.first, self.second = draw(3 * SIDE**2, WIDTH) / 5, draw(WIDTH, WIDTH) / 2
        self.own = Head(draw(CLASSES, WIDTH), torch.zeros(CLASSES))
        logits = self.encode(colours(300, SIDE, seed=90))["logits"]
        self.own = Head(self.own.weight / logits.std(dim=0)[:, None], -logits.mean(dim=0) / logits.std(dim=0))
        return self

    @property
    def layer_sizes(self):
        return (WIDTH, WIDTH)

    @property
    def head(self):
        return self.own

    def encode(self, images):
        return self.encode_pixels(images.permute(0, 3, 1, 2).float())

    def encode_pixels(self, pixels: Tensor):
        first = (((pixels / 255 - 0.5).flatten(1)) @ self.first).relu()
        embedding = (first @ self.second).relu()
        return {"embedding": embedding, "logits": self.own(embedding), "layers": torch.cat([first, embedding], 1)}


@pytest.fixture
def encoded(tmp_path, monkeypatch):
    """A detector without a method, and the features of training images."""
    monkeypatch.setattr(base, "_ENCODERS", {**base.registered(), "tiny": Tiny})
    use = EncoderUse("tiny", "tiny", {}, "tiny")
    worker = Worker(Store(tmp_path / "store"), device="cpu")
    out = worker.open(use).encode(colours(300, SIDE, seed=90))
    labels = out["logits"].argmax(dim=1)
    train = Features(**out, layer_sizes=(WIDTH, WIDTH), head=worker.open(use).head, labels=labels)
    about = {"row": "x", "thresholds": {}}
    return Detector(about, use, None, "x", np.empty(0), worker), train


def fitted(encoded, name, settings):
    bare, train = encoded
    if name == "tempscale":  # that all are classified right has no best temperature
        train = Features(**{**vars(train), "labels": train.labels.roll(40)})
    method = methods.create(name, **settings).fit(train)
    unscored = Detector(bare.about, bare.use, method, name, np.empty(0), bare.worker)
    calibration = np.sort(unscored.scores(colours(60, SIDE, seed=91).numpy()))
    return Detector(bare.about, bare.use, method, name, calibration, bare.worker)


def holds(detector, path):
    graph.export(detector, path)
    session = onnxruntime.InferenceSession(path)
    for count in (1, 2, 7):
        images = colours(count, detector.use.chain[0].resolution, seed=500 + count).numpy()
        wanted = detector.scores(images)
        score, p_value = session.run(["score", "p_value"], {"images": images})
        off = graph.tolerance(detector) * detector.spread
        assert np.abs(score - wanted).max() <= off
        least, most = (p_values(detector.calibration, wanted + side) for side in (off, -off))
        assert (least <= p_value).all()
        assert (p_value <= most).all()


@pytest.mark.parametrize("name", QUICK)
def test_the_graph_of_a_row_scores_as_it_does(encoded, name, tmp_path):
    holds(fitted(encoded, name, MORE.get(name, [{}])[0]), tmp_path / "x.onnx")


@pytest.mark.real  # a minute
@pytest.mark.parametrize(("name", "settings"), ROWS)
def test_every_graph(encoded, name, settings, tmp_path):
    detector = fitted(encoded, name, settings)
    if name in NOT:
        with pytest.raises(CannotRun, match=NOT[name]):
            graph.export(detector, tmp_path / "x.onnx")
    else:
        holds(detector, tmp_path / "x.onnx")
