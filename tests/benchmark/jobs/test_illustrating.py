"""What is drawn of a training: a loss curve of each stage, and grids of images."""

from types import SimpleNamespace

import matplotlib.image
import numpy as np
import pytest
import torch

from benchmark.jobs.illustrating import Illustrate, image_grid, loss_curve
from benchmark.jobs.worker import Worker
from benchmark.store.entries import Store


def test_every_stage_has_its_loss_curve(tmp_path):
    store = Store(tmp_path / "cache")
    tensors = {"losses": torch.tensor([2.0, 1.0]), "diffusion_losses": torch.tensor([3.0, 2.0, 1.0])}
    store.put("fit", "two", tensors=tensors, meta={})
    store.put("fit", "none", tensors={"losses": torch.tensor([2.0]), "diffusion_losses": torch.zeros(0)}, meta={})
    for key, drawn in (("two", {"oal.png", "oal.diffusion.png"}), ("none", set())):
        folder = tmp_path / key
        job = Illustrate(folder, "oal", "training of OAL", SimpleNamespace(key=key))
        assert not job.done(store)
        job.run(Worker(store, device="cpu", batch_size=8))
        assert job.done(store)
        assert {path.name for path in folder.glob("figures/losses/*")} == drawn


def test_pdf_beside_png(tmp_path):
    store = Store(tmp_path / "cache")
    store.put("fit", "one", tensors={"losses": torch.tensor([2.0, 1.0])}, meta={})
    for pdf, drawn in ((False, {"x.png"}), (True, {"x.png", "x.pdf"})):
        job = Illustrate(tmp_path, "x", "training of x", SimpleNamespace(key="one"), pdf=pdf)
        assert not job.done(store)
        job.run(Worker(store, device="cpu", batch_size=8))
        assert {path.name for path in tmp_path.glob("figures/losses/*")} == drawn


@pytest.mark.parametrize(
    ("losses", "scale", "some"),
    [
        ([60 * 0.9**i for i in range(30)], "log", {"50"}),
        ([6e3 * 0.1**i for i in range(9)], "log", {"0.01", "0.001"}),
        ([2.0, 1.0], "linear", {"1.4"}),
    ],
)
def test_ticks_of_a_loss_curve_are_plain_numbers(tmp_path, monkeypatch, losses, scale, some):
    from matplotlib.figure import Figure

    kept = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *given, **more: (kept.append(self), save(self, *given, **more)))
    loss_curve("a training that costs $5", losses, tmp_path / "a.png")
    (axes,) = kept[0].axes
    assert axes.get_yscale() == scale
    labels = [label.get_text() for which in ("major", "minor") for label in axes.yaxis.get_ticklabels(which=which)]
    assert some & set(labels)  # of decades each second one has a label: which, differs by version
    assert not [label for label in labels if set(label) - set("0123456789.,e+-")]


def test_a_grid_says_what_it_holds(tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    kept = []
    monkeypatch.setattr(Figure, "savefig", lambda self, *_, **__: kept.append(self))
    image_grid("DDPM: reconstructions", np.zeros((4, 8, 8, 3), np.uint8), tmp_path / "a.png", "ID test images")
    assert kept[0].get_suptitle() == "DDPM: reconstructions"
    assert "ID test images" in [text.get_text() for text in kept[0].texts]


def test_pixels_of_a_grid_are_those_of_the_images(tmp_path, monkeypatch):
    from matplotlib.axes import Axes

    shown = []
    monkeypatch.setattr(Axes, "imshow", lambda self, canvas, **_: shown.append(canvas))
    images = np.random.default_rng(0).integers(0, 256, (10, 4, 5, 3), dtype=np.uint8)
    image_grid("ten", images, tmp_path / "grid.png")
    assert matplotlib.image.imread(tmp_path / "grid.png").size
    (canvas,) = shown
    assert canvas.shape == (2 * 6 - 2, 8 * 7 - 2, 3)  # two pixels between
    for place, image in enumerate(images):
        top, left = place // 8 * 6, place % 8 * 7
        np.testing.assert_array_equal(canvas[top : top + 4, left : left + 5], image)
    assert (canvas[6:, 2 * 7 :] == 255).all()  # no image there
