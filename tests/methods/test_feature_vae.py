"""The feature VAE of the DLSR paper: its layers, its bound, its scores."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal, kl_divergence

from methods.base import Features
from methods.feature_vae import VAE, FeatureVAE
from methods.vectors.layers import normalise

SIZES = (16, 24)
TINY: dict[str, Any] = {"epochs": 40, "batch_size": 32, "lr": 3e-3}
GENERATOR = torch.Generator().manual_seed(0)
BASIS = torch.randn(2, 40, generator=GENERATOR)


def images(count: int) -> Features:
    """Layers in a subspace of two dimensions."""
    return Features(layers=3 + torch.randn(count, 2, generator=GENERATOR) @ BASIS, layer_sizes=SIZES)


TRAIN, ID = images(400), images(60)
OOD = Features(layers=torch.randn(60, 40, generator=GENERATOR), layer_sizes=SIZES)


@pytest.fixture(scope="module")
def fitted() -> FeatureVAE:
    return FeatureVAE(**TINY).fit(TRAIN, seed=0)


def widths(network: nn.Sequential) -> list[int]:
    linear = [layer for layer in network if isinstance(layer, nn.Linear)]
    return [linear[0].in_features, *(layer.out_features for layer in linear)]


def test_layers_of_the_paper() -> None:
    vae = VAE(720)
    assert widths(vae.encoder) == [720, 512, 256, 128, 64, 2 * 32]
    assert widths(vae.decoder) == [32, 64, 64, 128, 128, 256, 256, 512, 720]  # 8 layers, the mirror's widths


@pytest.mark.parametrize(("channels", "first", "latent"), [(1792, 1024, 64), (513, 512, 32), (512, 256, 16), (5, 4, 2)])
def test_widths_follow_the_channels(channels: int, first: int, latent: int) -> None:
    vae = VAE(channels)
    assert widths(vae.encoder)[:2] == [channels, first]
    assert widths(vae.encoder)[-1] == 2 * latent
    assert widths(vae.decoder)[0] == latent
    assert widths(vae.decoder)[-2:] == [first, channels]
    assert len(widths(vae.encoder)) == 6
    assert len(widths(vae.decoder)) == 9


def test_negative_elbo_against_distributions() -> None:
    vae = VAE(40)
    z = torch.randn(6, 40, generator=GENERATOR)
    mean, log_variance = vae.posterior(z)
    posterior = Normal(mean, (log_variance / 2).exp())
    noise = torch.randn(mean.shape, generator=GENERATOR)
    drawn = mean + posterior.scale * noise
    likelihood = Independent(Normal(vae.decoder(drawn), 1.0), 1)
    divergence = kl_divergence(Independent(posterior, 1), Independent(Normal(torch.zeros_like(mean), 1.0), 1))
    constant = 40 / 2 * torch.log(torch.tensor(2 * torch.pi))
    expected = -likelihood.log_prob(z) - constant + divergence
    assert torch.allclose(vae.negative_elbo(z, noise), expected, rtol=1e-5)


def test_training_and_its_losses(fitted: FeatureVAE) -> None:
    assert fitted.losses[-1] < fitted.losses[0] / 2
    assert len(fitted.losses) == TINY["epochs"]
    assert FeatureVAE(**TINY).load_state(fitted.state()).losses == fitted.losses


@pytest.mark.parametrize("measure", ["mse", "mfsim"])
def test_what_is_off_the_subspace_is_reconstructed_worse(fitted: FeatureVAE, measure: Any) -> None:
    method = FeatureVAE(**TINY, measure=measure).load_state(fitted.state())
    assert float((method.score(OOD)[:, None] > method.score(ID)).double().mean()) > 0.95


@pytest.mark.parametrize("std", ["biased", "unbiased"])
def test_scores_are_of_the_posterior_mean(fitted: FeatureVAE, std: Any) -> None:
    z = normalise(ID.layers, SIZES, std)
    state = {name.removeprefix("vae."): value for name, value in fitted.state().items() if name.startswith("vae.")}

    def through(x: Tensor, part: str, layers: int) -> Tensor:
        for i in range(layers):
            x = x @ state[f"{part}.{2 * i}.weight"].T + state[f"{part}.{2 * i}.bias"]
            x = x * torch.sigmoid(x) if i < layers - 1 else x
        return x

    mean = through(z, "encoder", 5)[:, :2]  # 40 channels: 32, 16, 8, 4, latent 2
    back = through(mean, "decoder", 8)
    method = FeatureVAE(**TINY, measure="mse", std=std).load_state(fitted.state())
    assert torch.allclose(method.score(ID), (z - back).square().mean(1), rtol=1e-4, atol=1e-6)
    cosines = [
        (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))
        for a, b in zip(z.split(SIZES, 1), back.split(SIZES, 1), strict=True)
    ]
    method = FeatureVAE(**TINY, std=std).load_state(fitted.state())
    assert torch.allclose(method.score(ID), -(cosines[0] + cosines[1]) / 2, atol=1e-5)
