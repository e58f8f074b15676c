import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy.stats import binom
from torch import Tensor, nn

from methods.base import CannotRun, Features
from methods.encoders import simclr
from methods.encoders.networks import cifar
from methods.encoders.registry import create
from methods.encoders.simclr import SimCLR, nt_xent
from methods.training import loop

TINY = {
    "architecture": "resnet8",
    "resolution": 8,
    "epochs": 7,
    "warmup_epochs": 1,
    "batch_size": 32,
    "lr": 0.05,
}


def toy(n: int = 96, seed: int = 0) -> Features:
    """Blobs of several colours and places on noise; 8 x 8 pixels, no labels."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 100, (n, 8, 8, 3))
    for image, (row, column) in zip(pixels, rng.integers(0, 5, (n, 2)), strict=True):
        image[row : row + 4, column : column + 4] += rng.integers(0, 150, 3)
    return Features(pixels=torch.from_numpy(pixels.astype(np.uint8)))


@pytest.fixture(scope="module")
def trained() -> SimCLR:
    encoder = create("simclr", **TINY)
    assert isinstance(encoder, SimCLR)
    assert encoder.find_weights(None) is encoder.find_start(None) is None
    return encoder.open(None).fit(toy(), seed=1)


def test_nt_xent_is_equation_1() -> None:
    """Chen et al. 2020, equation 1, term by term: l(i, j) averaged over both orders of all pairs."""
    generator = torch.Generator().manual_seed(0)
    projected = torch.randn(10, 6, generator=generator, dtype=torch.float64)
    z = projected.numpy()
    cosine = [[float(a @ b / np.linalg.norm(a) / np.linalg.norm(b)) for b in z] for a in z]
    terms = []
    for i in range(10):
        others = [math.exp(cosine[i][k] / 0.5) for k in range(10) if k != i]
        terms.append(-math.log(math.exp(cosine[i][(i + 5) % 10] / 0.5) / sum(others)))
    assert float(nt_xent(projected, 0.5)) == pytest.approx(sum(terms) / 10, rel=1e-6)
    assert float(nt_xent(7 * projected, 0.5)) == pytest.approx(sum(terms) / 10, rel=1e-6)


def test_nt_xent_where_it_is_known() -> None:
    same = torch.ones(8, 3)
    assert float(nt_xent(same, 0.5)) == pytest.approx(math.log(7))  # 2B - 1 candidates, all alike
    views = torch.eye(4).repeat(2, 1)  # each image's own direction: exp(1 / T) against 6 of exp(0)
    assert float(nt_xent(views, 0.5)) == pytest.approx(math.log((math.e**2 + 6) / math.e**2))
    apart = torch.eye(4).repeat_interleave(2, 0)  # partners in the wrong rows
    assert float(nt_xent(apart, 0.5)) == pytest.approx(math.log(math.e**2 + 6))
    with torch.autocast("cpu", torch.bfloat16):
        assert nt_xent(views.bfloat16(), 0.5).dtype == torch.float32


def test_the_steps_are_those_of_ssds_code() -> None:
    """Its loss is NT-Xent times 0.5 / 0.07, at lr .5 and weight decay 1e-4."""
    recipe = create("simclr")._recipe
    assert (recipe.optimizer, recipe.momentum, recipe.nesterov, recipe.batch_size) == ("sgd", 0.9, False, 512)
    assert (recipe.epochs, recipe.warmup_epochs, recipe.schedule) == (510, 10, "cosine")
    torch.manual_seed(0)
    ours, theirs = nn.Linear(5, 3), nn.Linear(5, 3)
    theirs.load_state_dict(ours.state_dict())
    pairs = (
        (ours, torch.optim.SGD(ours.parameters(), recipe.lr, momentum=0.9, weight_decay=recipe.weight_decay), 1.0),
        (theirs, torch.optim.SGD(theirs.parameters(), 0.5, momentum=0.9, weight_decay=1e-4), 7.142857),
    )
    before = ours.weight.detach().clone()
    for step in range(6):
        x = torch.randn(16, 5, generator=torch.Generator().manual_seed(step))
        for model, optimizer, factor in pairs:
            optimizer.zero_grad()
            (nt_xent(model(x), 0.5) * factor).backward()
            optimizer.step()
    assert (ours.weight - before).abs().max() > 0.1
    torch.testing.assert_close(ours.weight, theirs.weight, rtol=1e-4, atol=1e-5)


def test_the_head_is_two_layers_and_is_dropped(trained: SimCLR) -> None:
    network, width = simclr._trunk("resnet18")
    head = simclr._Projected(network, width).head
    # Linear(512, 512) and Linear(512, 128)
    assert sum(p.numel() for p in head.parameters()) == 512 * 512 + 512 + 512 * 128 + 128
    assert [type(layer) for layer in head] == [nn.Linear, nn.ReLU, nn.Linear]
    expected = {f"network.{name}" for name in cifar.build("resnet8", 2).state_dict() if "linear" not in name}
    assert set(trained.state()) == expected | {"mean", "std", "losses"}
    assert trained.head is None
    assert trained.offers == ("embedding", "layers")


def test_the_loss_falls(trained: SimCLR) -> None:
    assert len(trained.losses) == TINY["epochs"] + TINY["warmup_epochs"]
    assert trained.losses[-1] < trained.losses[0] - 0.1
    assert trained.losses[0] < math.log(63) + 0.5  # 63 candidates at random


def test_labels_are_not_looked_at(trained: SimCLR) -> None:
    labelled = Features(pixels=toy().pixels, labels=torch.arange(96) % 5)
    again = create("simclr", **TINY).open(None).fit(labelled, seed=1)
    assert not SimCLR.supervised
    ours, theirs = trained.encode(toy().pixels), again.encode(toy().pixels)
    torch.testing.assert_close(ours["embedding"], theirs["embedding"])


def test_training_is_a_function_of_data_and_seed(trained: SimCLR) -> None:
    torch.manual_seed(123)
    before = torch.random.get_rng_state()
    other = create("simclr", **TINY).open(None).fit(toy(), seed=2)
    assert torch.equal(torch.random.get_rng_state(), before)
    difference = trained.encode(toy().pixels)["embedding"] - other.encode(toy().pixels)["embedding"]
    assert difference.abs().max() > 0.01


def test_an_interrupted_training_ends_in_the_same_weights(
    trained: SimCLR, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def stop_at_the_fourth(projected: Tensor, temperature: float) -> Tensor:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return nt_xent(projected, temperature)

    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    with monkeypatch.context() as patch:
        patch.setattr(simclr, "nt_xent", stop_at_the_fourth)
        with pytest.raises(KeyboardInterrupt):
            create("simclr", **TINY).open(None).fit(toy(), seed=1, workdir=tmp_path)
    assert (tmp_path / "training.pt").exists()
    resumed = create("simclr", **TINY).open(None).fit(toy(), seed=1, workdir=tmp_path).state()
    assert all(torch.equal(resumed[name], value) for name, value in trained.state().items())


def test_both_views_go_through_the_network_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []

    def train(model: nn.Module, batch: Any, loss: Any, n: int, *_: Any, **__: Any) -> list[float]:
        def record(x: Tensor) -> Tensor:
            seen.append(x)
            return torch.ones(len(x), 4)

        loss(record, *batch(torch.tensor([3, 0, 5]), torch.Generator()))
        return [1.0]

    monkeypatch.setattr(simclr.loop, "train", train)
    monkeypatch.setattr(SimCLR, "_augment", lambda self, images, generator: images)
    encoder = create("simclr", **TINY).open(None).fit(toy())
    (x,) = seen
    values = toy().pixels[[3, 0, 5]] / 255
    mean, std = encoder.state()["mean"], encoder.state()["std"]
    expected = ((values - mean) / std).permute(0, 3, 1, 2)
    torch.testing.assert_close(x, torch.cat([expected, expected]), rtol=1e-4, atol=1e-5)
    whole = toy().pixels.numpy().reshape(-1, 3) / 255
    np.testing.assert_allclose(mean, whole.mean(0), rtol=1e-5)
    np.testing.assert_allclose(std, whole.std(0), rtol=1e-5)


def test_views_of_digits_are_never_mirrored_nor_coloured() -> None:
    n = 400
    ramp = torch.linspace(250, 0, 8).expand(n, 3, 8, 8).clone()  # bright on the left
    ramp[:, 1] *= 0.5
    digits = create("simclr", augment="digits")._augment(ramp, torch.Generator().manual_seed(0))
    assert ((digits[..., 0] - digits[..., -1]) > 0).all()
    torch.testing.assert_close(digits[:, 1], digits[:, 0] * 0.5)
    ssd = create("simclr")._augment(ramp, torch.Generator().manual_seed(0))
    for count, share in (
        (int((ssd[:, 0, 0, 0] < ssd[:, 0, 0, -1]).sum()), 0.5),
        (int(torch.isclose(ssd[:, 0], ssd[:, 1], atol=1e-2).flatten(1).all(1).sum()), 0.2),
    ):
        low, high = binom.interval(0.999, n, share)
        assert low <= count <= high


def test_features_do_not_depend_on_the_batch(trained: SimCLR) -> None:
    x = toy(8, seed=4).pixels
    whole = trained.encode(x)
    assert set(whole) == set(trained.offers)
    assert {values.dtype for values in whole.values()} == {torch.float32}
    assert whole["layers"].shape == (8, sum(trained.layer_sizes)) == (8, 16 + 32 + 64)
    for rows in ([0], [4, 1], [5, 3, 0, 7]):
        part = trained.encode(x[rows])
        for name in trained.offers:
            torch.testing.assert_close(part[name], whole[name][rows], rtol=1e-4, atol=1e-5)
    mixed = trained.encode([x[0], torch.zeros((9, 20, 3), dtype=torch.uint8)])
    torch.testing.assert_close(mixed["embedding"][0], whole["embedding"][0], rtol=1e-4, atol=1e-5)


def test_state_goes_to_a_fresh_instance_without_a_fit(trained: SimCLR, tmp_path: Path) -> None:
    fresh = create("simclr", **TINY).open(None)
    assert fresh.state() == {}
    save_file(trained.state(), tmp_path / "state.safetensors")
    fresh.load_state(load_file(tmp_path / "state.safetensors"))
    ours, theirs = trained.encode(toy().pixels), fresh.encode(toy().pixels)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert {k: v.tolist() for k, v in fresh.state().items()} == {k: v.tolist() for k, v in trained.state().items()}


def test_a_checkpoint_gives_the_networks_own_features(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = cifar.build("resnet20", 2)
    network.train()(torch.randn(8, 3, 32, 32))
    body = {name: values for name, values in network.eval().state_dict().items() if "linear" not in name}
    header = {"mean": "[0.4, 0.5, 0.6]", "std": "[0.2, 0.25, 0.3]"}
    save_file(body, tmp_path / "x.safetensors", metadata=header)
    encoder = create("simclr", architecture="resnet20", checkpoint="x")
    encoder.open(encoder.find_weights(tmp_path))
    x = torch.randint(256, (3, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    mean, std = (torch.tensor(json.loads(header[name])) for name in ("mean", "std"))
    with torch.no_grad():
        expected = network.stages(((x / 255 - mean) / std).permute(0, 3, 1, 2))[-1].mean((2, 3))
    torch.testing.assert_close(encoder.encode(x)["embedding"], expected, rtol=1e-3, atol=1e-4)
    assert encoder.state() == {}  # nothing was trained here
    with pytest.raises(ValueError, match=r"x.safetensors does not fit resnet32"):
        create("simclr", architecture="resnet32").open(tmp_path / "x.safetensors")
    save_file(body, tmp_path / "bare.safetensors")
    with pytest.raises(ValueError, match=r"bare.safetensors does not say its mean and std"):
        create("simclr", architecture="resnet20").open(tmp_path / "bare.safetensors")


def test_bf16_is_near(trained: SimCLR) -> None:
    half = create("simclr", **TINY).open(None, precision="bf16").load_state(trained.state())
    exact, out = trained.encode(toy(8).pixels)["embedding"], half.encode(toy(8).pixels)["embedding"]
    assert out.dtype == torch.float32
    assert 0 < (out - exact).norm() / exact.norm() < 0.05


def test_what_it_cannot_be_trained_on() -> None:
    with pytest.raises(CannotRun, match="pixels"):
        create("simclr", **TINY).open(None).fit(Features(embedding=torch.zeros(3, 2)))
    with pytest.raises(ValueError, match="at least 2 training images"):
        create("simclr", **TINY).open(None).fit(toy(1))
    with pytest.raises(RuntimeError, match="before encode"):
        create("simclr").open(None).encode(toy(1).pixels)


@pytest.mark.parametrize(
    "wrong",
    [
        {"architecture": "resnet19"},
        {"augment": "digit"},
        {"resolution": 4},
        {"batch_size": 1},
        {"epochs": 0},
        {"warmup_epochs": -1},
        {"temperature": 0.0},
        {"lr": 0.0},
    ],
)
def test_settings_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=str(next(iter(wrong.values())))):
        create("simclr", **wrong)
