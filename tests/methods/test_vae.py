"""The VAE with 256 classes a sub-pixel: its network, its two bounds and its regret."""

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Normal, kl_divergence

from methods import vae
from methods.base import CannotRun, Features
from methods.networks.vae import VAE, scaled
from methods.pixels import complexity
from methods.training import loop
from methods.vae import LikelihoodRegret
from methods.vectors.noise import normal

SIZE, NZ = 8, 1
DIMENSIONS = 3 * SIZE * SIZE
TINY: dict[str, Any] = {
    "nz": NZ, "width": 4, "epochs": 10, "batch_size": 16, "lr": 1e-2, "samples": 4, "steps": 10
}  # fmt: skip


def images(count: int, *, seed: int, first: int = 0) -> Features:
    """A ramp of random brightness: one factor of variation, for one dimension of z."""
    random = np.random.default_rng(seed)
    ramp = np.linspace(30, 120, SIZE)[:, None, None] * np.array([1, 0.8, 0.5])
    pixels = ramp * random.uniform(0.5, 2, (count, 1, 1, 1)) + random.uniform(0, 40, (count, SIZE, SIZE, 3))
    return Features(pixels=pixels.astype(np.uint8), index=np.arange(first, first + count))


TRAIN, ID = images(192, seed=0), images(12, seed=1, first=1000)
NOISE = np.random.default_rng(2).integers(0, 256, (12, SIZE, SIZE, 3)).astype(np.uint8)
OOD = Features(pixels=NOISE, index=np.arange(2000, 2012))


@pytest.fixture(scope="module")
def fitted() -> LikelihoodRegret:
    return LikelihoodRegret(**TINY).fit(TRAIN, seed=5)


def scores(fitted: LikelihoodRegret, x: Features = ID, **settings: Any) -> Tensor:
    return LikelihoodRegret(**{**TINY, **settings}).load_state(fitted.state()).score(x)


def parameters(network: nn.Module) -> int:
    return sum(values.numel() for values in network.parameters())


def test_published_sizes() -> None:
    grey, colour = VAE(32, 32, 100, channels=1), VAE(32, 64, 200)
    # Convolutions 4 x 4 x in x out, two numbers a batch-norm channel, a bias a dimension of mu and logvar.
    assert parameters(grey.encoder) == 16 * (1 * 32 + 32 * 64 + 64 * 128 + 2 * 128 * 100) + 2 * 224 + 2 * 100
    assert parameters(grey.decoder) == 16 * (100 * 128 + 128 * 64 + 64 * 32 + 32 * 256) + 2 * 224
    counted = [parameters(half) / 1e6 for network in (grey, colour) for half in (network.encoder, network.decoder)]
    assert counted == pytest.approx([0.575, 0.500, 2.30, 2.26], abs=5e-3)  # baselines.md, section 3
    default = LikelihoodRegret()
    assert (default.width, default.nz, default.samples, default.steps) == (64, 200, 5 * 200, 100)


@pytest.mark.parametrize("size", [8, 12, 28, 32])
def test_each_pixel_and_channel_has_256_logits(size: int) -> None:
    network = VAE(size, 2, 3).eval()
    z = torch.randn(2, 3, generator=torch.Generator().manual_seed(0))
    logits = network.decoder(z)
    assert logits.shape == (2, size, size, 3, 256)
    maps = network.decoder.final(network.decoder.body(z[:, :, None, None]))
    assert torch.equal(logits[1, 4, 7, 2, 9], maps[1, 2 * 256 + 9, 4, 7])  # the paper's order of channels
    mu, logvar = network.posterior(torch.zeros(2, size, size, 3, dtype=torch.uint8))
    assert mu.shape == logvar.shape == (2, 3)


def test_log_likelihood_is_that_of_a_categorical(fitted: LikelihoodRegret) -> None:
    network, z = fitted._vae, torch.linspace(-2, 2, len(ID))[:, None]
    expected = Categorical(logits=network.decoder(z).double()).log_prob(ID.pixels).sum((1, 2, 3))
    assert torch.allclose(network.log_likelihood(z, ID.pixels), expected, rtol=1e-6)


def test_first_weights() -> None:
    torch.manual_seed(0)
    network = VAE(32, 16, 32).requires_grad_(False)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            assert float(layer.weight.std()) == pytest.approx(0.02, rel=0.1)
        elif isinstance(layer, nn.BatchNorm2d):
            assert float(layer.weight.mean()) == pytest.approx(1, abs=0.02)
            assert 0.01 < float(layer.weight.std()) < 0.03


def test_a_uniform_decoder_has_8_bits_per_dimension(fitted: LikelihoodRegret) -> None:
    state = fitted.state()
    state["vae.decoder.final.weight"] = torch.zeros_like(state["vae.decoder.final.weight"])
    method = LikelihoodRegret(**{**TINY, "measure": "elbo"}).load_state(state)
    mu, logvar = method._vae.posterior(ID.pixels)
    divergence = kl_divergence(Normal(mu, (logvar / 2).exp()), Normal(0, 1)).sum(1)
    assert torch.allclose(method.score(ID), 8 + divergence.double() / DIMENSIONS / math.log(2), atol=1e-6)
    for name in [name for name in state if "encoder.mu" in name or "encoder.logvar" in name]:
        state[name] = torch.zeros_like(state[name])  # the posterior is the prior
    for measure in ("elbo", "iwae"):
        bits = LikelihoodRegret(**{**TINY, "measure": measure}).load_state(state).score(ID)
        assert torch.allclose(bits, torch.full_like(bits, 8), atol=1e-6)


def test_one_importance_sample_is_its_log_weight(fitted: LikelihoodRegret) -> None:
    network = fitted._vae
    mu, logvar = network.posterior(ID.pixels)
    posterior = Normal(mu, (logvar / 2).exp())
    z = mu + posterior.stddev * normal(ID.index, NZ, seed=5, stream=0)
    weight = Normal(0, 1).log_prob(z).sum(1) - posterior.log_prob(z).sum(1) + network.log_likelihood(z, ID.pixels)
    expected = -weight / DIMENSIONS / math.log(2)
    assert torch.allclose(scores(fitted, measure="iwae", samples=1), expected, rtol=1e-6)


@pytest.fixture(scope="module")
def exact(fitted: LikelihoodRegret) -> Tensor:
    """log p(x) in nats of the first six images: the integral over the one dimension of z, on a grid."""
    pixels, terms = ID.pixels[:6].long(), []
    for z in torch.linspace(-6, 6, 1201).split(100):
        likelihoods = fitted._vae.decoder(z[:, None]).log_softmax(-1)
        chosen = [likelihoods.gather(-1, image.expand(len(z), -1, -1, -1)[..., None]) for image in pixels]
        terms.append(torch.stack([c.double().sum((1, 2, 3, 4)) for c in chosen], 1) + Normal(0, 1).log_prob(z)[:, None])
    return torch.cat(terms).logsumexp(0) + math.log(12 / 1200)


def test_bounds_lie_in_order_below_the_likelihood(fitted: LikelihoodRegret, exact: Tensor) -> None:
    nats = DIMENSIONS * math.log(2)
    elbo = -nats * scores(fitted, ID[:6], measure="elbo", samples=64)
    bounds = [-nats * scores(fitted, ID[:6], measure="iwae", samples=samples) for samples in (4, 32, 256)]
    assert float((exact - elbo).mean()) > 0.1  # there is a gap to close
    means = [float(bound.mean()) for bound in (elbo, *bounds, exact)]
    assert means == sorted(means)
    assert float((bounds[-1] - exact).max()) < 0.2
    assert float((exact - bounds[-1]).median()) < 0.1  # where the posterior is off, 256 samples are too few


def reference(fitted: LikelihoodRegret, image: Features, regret_of: str) -> float:
    """The regret of one image, by the paper's own loop: copy the encoder, Adam, before minus after."""
    network, pixels = fitted._vae, image.pixels
    encoder = copy.deepcopy(network.encoder).eval().requires_grad_(True)
    fixed = [part.detach().clone().requires_grad_() for part in encoder(scaled(pixels))]

    def posterior() -> tuple[Tensor, Tensor]:
        mu, logvar = encoder(scaled(pixels)) if regret_of == "encoder" else fixed
        return mu, logvar

    def draw(stream: int) -> tuple[Tensor, Normal]:
        mu, logvar = posterior()
        return mu + (logvar / 2).exp() * normal(image.index, NZ, seed=5, stream=stream), Normal(mu, (logvar / 2).exp())

    def likelihood() -> float:
        weights = []
        for k in range(4):
            z, q = draw(2 * k)
            ratio = Normal(0, 1).log_prob(z).sum() - q.log_prob(z).sum()
            weights.append(network.log_likelihood(z, pixels)[0].double() + ratio)
        return float(torch.stack(weights).detach().logsumexp(0)) - math.log(4)

    before = likelihood()
    if regret_of == "encoder":
        optimizer = torch.optim.Adam(encoder.parameters(), lr=2e-4, weight_decay=5e-5)
    else:
        optimizer = torch.optim.Adam(fixed, lr=0.1)
    for step in range(10):
        z, q = draw(2 * step + 1)
        loss = kl_divergence(q, Normal(0, 1)).sum() - network.log_likelihood(z, pixels)[0]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return likelihood() - before


@pytest.mark.parametrize("regret_of", ["encoder", "posterior"])
def test_batched_regret_is_the_papers_loop(fitted: LikelihoodRegret, regret_of: str) -> None:
    both = Features(pixels=torch.cat((ID.pixels[:4], OOD.pixels[:4])), index=torch.arange(8))
    expected = torch.tensor([reference(fitted, both[i : i + 1], regret_of) for i in range(8)], dtype=torch.float64)
    regret = scores(fitted, both, regret_of=regret_of)
    assert float(regret.abs().max()) > 0.05
    assert torch.allclose(regret, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("regret_of", ["encoder", "posterior"])
def test_regret_is_not_negative_beyond_noise(fitted: LikelihoodRegret, exact: Tensor, regret_of: str) -> None:
    x = ID[:6]
    before = -DIMENSIONS * math.log(2) * scores(fitted, x, measure="iwae", samples=64)
    regret = scores(fitted, x, regret_of=regret_of, samples=64, steps=40)
    assert float(regret.min()) > -0.5  # of 64 samples, and of a posterior that one draw a step moves about
    assert float(regret.mean()) > 0
    assert bool((regret < exact - before + 0.5).all())  # no posterior lifts the bound above the likelihood


def test_more_steps_give_more_regret(fitted: LikelihoodRegret) -> None:
    few, many = (float(scores(fitted, OOD, steps=steps).mean()) for steps in (2, 40))
    assert many > few > 0


@pytest.mark.parametrize("regret_of", ["encoder", "posterior"])
def test_before_and_after_share_their_draws(fitted: LikelihoodRegret, regret_of: str) -> None:
    assert float(scores(fitted, regret_of=regret_of, regret_lr=1e-12).abs().max()) < 1e-3


@pytest.mark.parametrize("measure", ["elbo", "iwae", "regret"])
def test_memory_bound_does_not_matter(fitted: LikelihoodRegret, measure: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = scores(fitted, measure=measure)
    monkeypatch.setattr(vae, "_LOGITS", {"cpu": 3 * 4 * 256 * DIMENSIONS})  # three images in a pass
    assert torch.allclose(scores(fitted, measure=measure), whole, rtol=1e-5, atol=1e-4)


def test_regret_leaves_the_network_alone(fitted: LikelihoodRegret) -> None:
    before = fitted.state()
    fitted.score(OOD)
    assert all(torch.equal(values, before[name]) for name, values in fitted.state().items())
    assert not any(values.requires_grad for values in fitted._vae.parameters())


def test_complexity_is_taken_off(fitted: LikelihoodRegret) -> None:
    for codec in ("png", "webp"):
        expected = scores(fitted, measure="iwae") - complexity.compressed_bits(ID.pixels, codec)
        assert torch.allclose(scores(fitted, measure="iwae", complexity=codec), expected)


def test_it_learns(fitted: LikelihoodRegret) -> None:
    assert len(fitted.losses) == TINY["epochs"]
    assert fitted.losses[-1] < 0.9 * fitted.losses[0]
    assert fitted.losses[0] == pytest.approx(DIMENSIONS * math.log(256), rel=0.1)  # nats; it starts out uniform
    known, noise = scores(fitted, measure="elbo"), scores(fitted, OOD, measure="elbo")
    assert float(known.mean()) < 7
    assert float(noise.min()) > float(known.max())


def test_pictures(fitted: LikelihoodRegret) -> None:
    grids, kind = fitted.pictures(ID), ((16, SIZE, SIZE, 3), torch.uint8)
    assert [(grid.shape, grid.dtype) for grid in grids.values()] == [kind, kind]
    assert list(grids) == ["samples", "reconstructions"]
    originals, reconstructions = grids["reconstructions"][::2].float(), grids["reconstructions"][1::2].float()
    assert torch.equal(originals, ID.pixels[:8].float())
    brightness = torch.stack((originals.mean((1, 2, 3)), reconstructions.mean((1, 2, 3))))
    assert float(torch.corrcoef(brightness)[0, 1]) > 0.9
    assert float(grids["samples"].float().std(0).mean()) > 0
    again = LikelihoodRegret(**TINY).load_state(fitted.state()).pictures(ID)
    assert all(torch.equal(grid, again[name]) for name, grid in grids.items())


def test_an_interrupted_training_ends_in_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {**TINY, "epochs": 2, "batch_size": 32}
    undisturbed = LikelihoodRegret(**settings).fit(TRAIN, seed=1).state()
    calls = [0]
    loss = vae._negative_elbo

    def killed(*arguments: Any) -> Tensor:
        calls[0] += 1
        if calls[0] == 12:
            raise InterruptedError
        return loss(*arguments)

    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(vae, "_negative_elbo", killed)
    with pytest.raises(InterruptedError):
        LikelihoodRegret(**settings).fit(TRAIN, seed=1, workdir=tmp_path)
    resumed = LikelihoodRegret(**settings).fit(TRAIN, seed=1, workdir=tmp_path).state()
    assert calls[0] == 12 + 12 - 11  # eleven steps were kept
    assert all(torch.equal(values, undisturbed[name]) for name, values in resumed.items())


@pytest.mark.parametrize(
    ("settings", "bits"),
    [
        ({}, False),
        ({"measure": "elbo"}, True),
        ({"measure": "iwae"}, True),
        ({"measure": "iwae", "complexity": "png"}, False),
    ],
)
def test_it_says_whether_scores_are_bits_per_dimension(settings: dict[str, Any], bits: bool) -> None:
    assert LikelihoodRegret(**settings).bits_per_dimension is bits


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"measure": "elb"}, "measure is 'elb'; it must be 'elbo' or 'iwae' or 'regret'"),
        ({"regret_lr": 0.0}, "regret_lr is 0.0; it must be a number, above 0 or null"),
        ({"complexity": "png"}, "set measure to elbo or iwae"),
    ],
)
def test_bad_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LikelihoodRegret(**settings)


def test_bad_images(fitted: LikelihoodRegret) -> None:
    for height, width in ((9, 9), (4, 4), (36, 36), (8, 16)):
        with pytest.raises(CannotRun, match=f"vae: images of {height} x {width}"):
            LikelihoodRegret(**TINY).fit(Features(pixels=np.zeros((4, height, width, 3), np.uint8)))
    with pytest.raises(ValueError, match="vae: images of 16 x 16, not 8 x 8"):
        fitted.score(Features(pixels=np.zeros((4, 16, 16, 3), np.uint8)))
