"""The feature autoencoder of the DLSR paper."""

import math
from typing import Any

import pytest
import torch

from methods.autoencoder import Autoencoder, Bottleneck
from methods.base import Features
from methods.vectors.layers import normalise
from methods.vectors.noise import normal

SIZES = (4, 8)
TINY: dict[str, Any] = {"blocks": 2, "width": 24, "epochs": 25, "batch_size": 32, "lr": 2e-3}
GENERATOR = torch.Generator().manual_seed(0)
BASIS = torch.randn(3, 12, generator=GENERATOR)


def images(count: int) -> Features:
    """Layers in a subspace of three dimensions."""
    coordinates = torch.randn(count, 3, generator=GENERATOR)
    return Features(layers=coordinates @ BASIS, layer_sizes=SIZES)


TRAIN, ID = images(400), images(100)
OOD = Features(layers=torch.randn(100, 12, generator=GENERATOR), layer_sizes=SIZES)


@pytest.fixture(scope="module")
def fitted() -> Autoencoder:
    return Autoencoder(**TINY).fit(TRAIN, seed=0)


def test_it_has_no_noise_level(fitted: Autoencoder) -> None:
    assert not any("time" in name or "embed" in name for name in fitted.state())


@pytest.mark.parametrize("measure", ["mse", "mfsim"])
def test_what_is_off_the_subspace_is_reconstructed_worse(fitted: Autoencoder, measure: str) -> None:
    method = Autoencoder(**{**TINY, "measure": measure}).load_state(fitted.state())
    assert float((method.score(OOD)[:, None] > method.score(ID)).double().mean()) > 0.9


@pytest.mark.parametrize("std", ["biased", "unbiased"])
def test_scores_with_a_network_that_is_known(fitted: Autoencoder, std: Any) -> None:
    answer, state = torch.randn(12, generator=GENERATOR), fitted.state()
    state |= {"lfdn.leave.weight": torch.zeros(12, 24), "lfdn.leave.bias": answer}
    z = normalise(ID.layers, SIZES, std)
    error = Autoencoder(**TINY, measure="mse", std=std).load_state(state).score(ID)
    assert torch.allclose(error, (z - answer).square().mean(1), atol=1e-5)
    similarity = [
        (a * b).sum(1) / (a.norm(dim=1) * b.norm()) for a, b in zip(z.split(SIZES, 1), answer.split(SIZES), strict=True)
    ]
    scores = Autoencoder(**TINY, std=std).load_state(state).score(ID)
    assert torch.allclose(scores, -(similarity[0] + similarity[1]) / 2, atol=1e-5)


def test_training_is_without_noise() -> None:
    # One image, learned by heart: its error goes to 0, which noise on the input or the target would not let it.
    one = Features(layers=ID.layers[:1].expand(16, -1), layer_sizes=SIZES)
    method = Autoencoder(**{**TINY, "epochs": 300, "measure": "mse", "lr": 5e-3}).fit(one, seed=0)
    assert float(method.score(one).max()) < 1e-3


def test_both_measures_share_a_fit() -> None:
    assert Autoencoder.score_only == ("measure",)
    brief = {**TINY, "epochs": 2}
    one, other = (Autoencoder(**brief, measure=measure).fit(TRAIN, seed=0).state() for measure in ("mse", "mfsim"))
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_losses_are_kept(fitted: Autoencoder) -> None:
    assert len(fitted.losses) == TINY["epochs"]
    assert fitted.losses[-1] < fitted.losses[0] / 2
    assert Autoencoder(**TINY).load_state(fitted.state()).losses == fitted.losses


@pytest.mark.parametrize(("bottleneck", "rank"), [(None, 12), (2, 2), (1, 1)])
def test_everything_goes_through_the_bottleneck(bottleneck: int | None, rank: int) -> None:
    network = Autoencoder(**TINY, bottleneck=bottleneck)._network(12).double()
    with torch.no_grad():  # before training LFDN gives 0, whatever its input
        for weight in network.parameters():
            weight.add_(0.3 * torch.randn(weight.shape, generator=GENERATOR))
    point = torch.randn(12, generator=GENERATOR, dtype=torch.float64)
    jacobian: Any = torch.autograd.functional.jacobian(lambda x: network(x[None])[0], point)
    assert int(torch.linalg.matrix_rank(jacobian, rtol=1e-9)) == rank


def test_blocks_on_both_sides_of_the_bottleneck() -> None:
    with torch.device("meta"):
        network = Autoencoder(bottleneck=64)._network(720)
    assert [type(block) is Bottleneck for block in network.blocks] == [i == 8 for i in range(17)]
    added = 1440 * 64 + 64 + 64 * 1440 + 1440
    assert sum(weight.numel() for weight in network.parameters()) == 68_572_080 + added


def test_noise_of_one_level() -> None:
    # One image, learned by heart: the noise of the highest level keeps the network from copying its input.
    one = Features(layers=ID.layers[:1].expand(64, -1), layer_sizes=SIZES)
    settings: dict[str, Any] = {**TINY, "epochs": 60, "measure": "mse", "lr": 5e-3, "noise_level": 99}
    method = Autoencoder(**settings).fit(one, seed=0)
    target = normalise(ID.layers[:1], SIZES, "biased")
    asked: list[torch.Tensor] = []
    method._lfdn.register_forward_pre_hook(lambda _, inputs: asked.append(inputs[0]))
    scores = method.score(one)
    # What the network sees is z0 at a[99] = .41175, by noise that is each image's own.
    noise = (asked[0] - math.sqrt(0.41175) * target) / math.sqrt(1 - 0.41175)
    assert torch.allclose(noise, normal(one.index, 12, seed=0), atol=1e-3)
    # What it is held against is z0 without noise, and it has learned to give that.
    assert torch.allclose(scores, (method._lfdn(asked[0]) - target).square().mean(1), atol=1e-5)
    assert float(scores.mean()) < 0.1


def test_noise_has_a_hundred_levels() -> None:
    with pytest.raises(ValueError, match="noise_level is 100; it must be a whole number, at least 0 and at most 99"):
        Autoencoder(noise_level=100)
