"""What is drawn of a training: a loss curve of each stage, and grids of images."""

from types import SimpleNamespace

import matplotlib.image
import numpy as np
import torch

from benchmark.jobs.illustrating import Illustrate, image_grid
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


def test_pixels_of_a_grid_are_those_of_the_images(tmp_path, monkeypatch):
    from matplotlib.axes import Axes

    shown = []
    monkeypatch.setattr(Axes, "imshow", lambda self, canvas, **_: shown.append(canvas))
    images = np.random.default_rng(0).integers(0, 256, (10, 4, 5, 3), dtype=np.uint8)
    image_grid("ten", images, tmp_path / "grid.png")
    assert matplotlib.image.imread(tmp_path / "grid.png").size
    (canvas,) = shown
    assert canvas.shape == (2 * 6, 8 * 7, 3)
    for place, image in enumerate(images):
        top, left = place // 8 * 6, place % 8 * 7
        np.testing.assert_array_equal(canvas[top : top + 4, left : left + 5], image)
    assert (canvas[6:, 2 * 7 :] == 255).all()  # no image there
