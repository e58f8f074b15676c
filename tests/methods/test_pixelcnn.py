"""PixelCNN++: causal, normalised, of the published size; its bits by hand; sampled as it scores; resumed exactly."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import kstest, logistic
from torch import Tensor

from methods.base import CannotRun, Features
from methods.networks.pixelcnn import PixelCNN, draw, log_likelihood, sample, to_unit
from methods.pixelcnn import PixelCNNPlusPlus
from methods.pixels.complexity import compressed_bits
from methods.training import loop

TINY: dict[str, Any] = {"blocks": 1, "filters": 4, "mixtures": 2, "epochs": 1, "batch_size": 16, "lr": 2e-3}


def images(count: int, size: int = 8, seed: int = 0) -> Tensor:
    return torch.randint(
        0, 256, (count, size, size, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
    )


TRAIN = Features(pixels=images(40))
TEST = Features(pixels=images(40, seed=1))


@pytest.fixture(scope="module")
def fitted() -> PixelCNNPlusPlus:
    return PixelCNNPlusPlus(**TINY).fit(TRAIN, seed=5)


# The network


def test_parameters_of_the_published_network() -> None:
    with torch.device("meta"):
        network = PixelCNN(**PixelCNNPlusPlus()._sizes())
    assert sum(parameter.numel() for parameter in network.parameters()) == 53_659_080


@pytest.mark.parametrize("start", ["torch", "data"])
def test_no_prediction_sees_its_own_pixel_or_a_later_one(start: str) -> None:
    size = 8
    torch.manual_seed(0)
    network = PixelCNN(blocks=2, filters=4, mixtures=1, dropout=0.5).double().eval()
    x = torch.rand(size**2, 3, size, size, dtype=torch.float64) * 2 - 1
    if start == "data":
        network.initialise(x)
    # Image n asks for prediction n alone, so that one backward pass answers for all of them.
    x = x[:1].expand(size**2, -1, -1, -1).clone().requires_grad_()
    predictions = network(x).flatten(2)
    (predictions[torch.arange(size**2), :, torch.arange(size**2)] * torch.randn(10)).sum().backward()
    assert x.grad is not None
    seen = (x.grad != 0).any(dim=1).flatten(1)  # (prediction, pixel)
    earlier = torch.ones(size**2, size**2, dtype=torch.bool).tril(-1)
    assert not bool((seen & ~earlier).any())
    assert bool((seen == earlier).all())  # and no blind spot: every earlier pixel counts


def test_data_dependent_start() -> None:
    torch.manual_seed(2)
    network = PixelCNN(blocks=1, filters=6, mixtures=2, dropout=0.0)
    x = to_unit(images(20)).permute(0, 3, 1, 2)
    network.initialise(x)
    seen: dict[str, Tensor] = {}
    for name, layer in network.named_modules():
        if isinstance(layer, torch.nn.Conv2d | torch.nn.ConvTranspose2d):
            layer.register_forward_hook(lambda _layer, _inputs, output, name=name: seen.update({name: output}))
    network(x)
    assert len(seen) == 3 + 2 * (3 + 5) * 2 + (3 + 2 * 5) + 4 + 4 + 1  # start, blocks, shortcuts, halves, doubles, end
    for name, output in seen.items():
        expected = 0.1 if name.endswith("leave.convolution") else 1.0
        assert torch.allclose(output.mean((0, 2, 3)), torch.zeros(1), atol=1e-4)
        assert torch.allclose(output.std((0, 2, 3), correction=0), torch.tensor(expected), rtol=1e-2)


def test_sizes_that_cannot_be_halved_twice() -> None:
    with pytest.raises(CannotRun, match="multiples of 4, not 6 x 8"):
        PixelCNN(blocks=1, filters=2, mixtures=1)(torch.zeros(1, 3, 6, 8))


# The likelihood


def mixture(seed: int, mixtures: int = 3) -> Tensor:
    """Parameters (10 K,) with scales from narrow to wide."""
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(mixtures, generator=generator)
    means = torch.rand(3, mixtures, generator=generator) * 2 - 1
    log_scales = torch.rand(3, mixtures, generator=generator) * 4 - 4.5
    coefficients = torch.randn(3, mixtures, generator=generator)
    return torch.cat((weights, means.flatten(), log_scales.flatten(), coefficients.flatten()))


def probabilities(pixels: Tensor, parameters: Tensor) -> Tensor:
    """Of pixels (N, 3), 0 .. 255, under one mixture: by the code under test."""
    x = to_unit(pixels).view(-1, 3, 1, 1)
    return log_likelihood(x, parameters.view(1, -1, 1, 1).expand(len(x), -1, 1, 1)).flatten().double().exp()


def by_scipy(pixels: Tensor, parameters: Tensor, channels: int) -> Tensor:
    """The probability of the first `channels` values of pixels (N, 3): the formula in float64."""
    mixtures = len(parameters) // 10
    weights = parameters[:mixtures].double().softmax(0).numpy()
    means, log_scales, coefficients = parameters[mixtures:].double().view(3, 3, mixtures).numpy()
    x = pixels.double().numpy() / 127.5 - 1
    total = np.zeros(len(x))
    for k in range(mixtures):
        a, b, c = np.tanh(coefficients[:, k])
        centres = (means[0, k], means[1, k] + a * x[:, 0], means[2, k] + b * x[:, 0] + c * x[:, 1])
        product = weights[k]
        for channel in range(channels):
            scaled = logistic(centres[channel], math.exp(max(-7, log_scales[channel, k])))
            above = np.where(x[:, channel] > 0.999, 1, scaled.cdf(x[:, channel] + 1 / 255))
            below = np.where(x[:, channel] < -0.999, 0, scaled.cdf(x[:, channel] - 1 / 255))
            product = product * (above - below)
        total += product
    return torch.from_numpy(total)


def grid(*values: Any) -> Tensor:
    return torch.cartesian_prod(*(torch.as_tensor(list(value)) for value in values))


def test_each_probability_is_the_formula() -> None:
    pixels, parameters = grid(range(0, 256, 15), range(0, 256, 15), range(0, 256, 15)), mixture(0)
    ours, formula = probabilities(pixels, parameters), by_scipy(pixels, parameters, 3)
    # Values far out in a tail take the density for the interval: exact to the interval's width squared.
    assert float((ours - formula).abs().max()) < 1e-7
    likely = formula > 1e-8
    assert float((ours[likely] / formula[likely] - 1).abs().max()) < 2e-2


@pytest.mark.parametrize("seed", [0, 1])
def test_the_values_of_one_sub_pixel_sum_to_one_given_the_others(seed: int) -> None:
    parameters, corners = mixture(seed), range(0, 256, 51)
    # Blue's 256 values, given red and green: what is left is the probability of red and green.
    pixels = grid(corners, corners, range(256))
    given = by_scipy(pixels[::256], parameters, 2)
    assert torch.allclose(probabilities(pixels, parameters).view(-1, 256).sum(1), given, rtol=1e-3, atol=1e-8)
    # Green's and blue's, given red.
    pixels = grid([0, 100, 255], range(256), range(256))
    given = by_scipy(pixels[:: 256**2], parameters, 1)
    assert torch.allclose(probabilities(pixels, parameters).view(3, -1).sum(1), given, rtol=1e-3)
    # Red's: the intervals' ends meet.
    assert float(by_scipy(grid(range(256), [0], [0]), parameters, 1).sum()) == pytest.approx(1)


def test_scales_stop_at_e_to_the_minus_7() -> None:
    narrow = torch.tensor([0.0, 0.0, 0.0, 0.0, -50.0, -50.0, -50.0, 0.0, 0.0, 0.0])
    # The mean, 0, is half-way between 127 and 128: the interval of 128 ends at 0 and at 2 / 255.
    half = logistic.cdf(2 / 255 * math.exp(7)) - 0.5
    assert float(probabilities(torch.tensor([[128, 128, 128]]), narrow)) == pytest.approx(half**3, rel=1e-5)


def test_gradients_are_finite_wherever_the_pixel_lies() -> None:
    parameters = torch.tensor([0.0, 5.0, -5.0, 0.3, -9.0, -7.0, 3.0, 0.0, 9.0, -9.0]).view(1, 10, 1, 1)
    parameters = parameters.expand(27, -1, 1, 1).clone().requires_grad_()
    x = to_unit(grid([0, 128, 255], [0, 128, 255], [0, 128, 255])).view(27, 3, 1, 1)
    log_likelihood(x, parameters).sum().backward()
    assert parameters.grad is not None
    assert bool(parameters.grad.isfinite().all())


def test_a_uniform_model_costs_eight_bits() -> None:
    # 16^3 logistics on a grid over the cube of colours add up to an even density, but at its faces.
    side = 16
    width = 512 / 255 / side
    centres = torch.arange(side) * width + width / 2 - 256 / 255
    means = torch.cartesian_prod(centres, centres, centres).T
    log_scales = torch.full_like(means, math.log(0.7 * width))
    method = PixelCNNPlusPlus(blocks=1, filters=2, mixtures=side**3)
    method._network = PixelCNN(**method._sizes()).eval()
    method._network.leave.weight = torch.full((10 * side**3, 2, 1, 1), 1e-12)
    torch.nn.init.zeros_(method._network.leave.bias)
    with torch.no_grad():
        values = torch.cat((torch.zeros(side**3), means.flatten(), log_scales.flatten(), torch.zeros(3 * side**3)))
        method._network.leave.bias.copy_(values)
    middle = Features(pixels=images(3, size=4) // 16 + 120)  # 120 .. 135
    assert torch.allclose(method.score(middle), torch.full((3,), 8.0, dtype=torch.float64), atol=1e-3)


# Samples


@pytest.mark.parametrize("channel", [0, 1, 2])
def test_pixels_are_drawn_as_they_are_scored(channel: int) -> None:
    # What is drawn, put through its own distribution function given the channels before, is uniform.
    parameters, count = mixture(4), 1000
    drawn = draw(parameters.expand(count, -1), torch.Generator().manual_seed(0))
    drawn = ((drawn + 1) * 127.5).round().long()
    every = drawn.repeat_interleave(256, dim=0)
    every[:, channel] = torch.arange(256).repeat(count)
    chances = by_scipy(every, parameters, channel + 1).view(count, 256)
    chances /= chances.sum(1, keepdim=True)
    place = drawn[:, channel : channel + 1]
    below = (chances.cumsum(1) - chances).gather(1, place)
    inside = chances.gather(1, place) * torch.from_numpy(np.random.default_rng(0).random((count, 1)))
    assert float(kstest((below + inside).flatten(), "uniform").pvalue) > 0.01


def test_sampling_by_rows_is_sampling_from_the_whole() -> None:
    torch.manual_seed(3)
    network = PixelCNN(blocks=1, filters=4, mixtures=2).eval()
    drawn = sample(network, 2, 8, 8, torch.Generator().manual_seed(7))
    assert drawn.shape == (2, 8, 8, 3)
    assert drawn.dtype == torch.uint8
    # The same draws, from passes over the finished image: causality makes them agree.
    generator = torch.Generator().manual_seed(7)
    x = to_unit(drawn).permute(0, 3, 1, 2)
    with torch.no_grad():
        parameters = network(x).flatten(2)
    again = torch.stack([draw(parameters[:, :, place], generator) for place in range(64)], dim=1)
    assert torch.equal(((again + 1) * 127.5).round().to(torch.uint8).view_as(drawn), drawn)


def test_pictures_follow_the_seed_of_the_fit(fitted: PixelCNNPlusPlus) -> None:
    small = Features(pixels=images(3, size=4))
    samples = fitted.pictures(small)["samples"]
    assert samples.shape[1:] == (4, 4, 3)
    assert len(samples.flatten(1).unique(dim=0)) == len(samples)
    restored = PixelCNNPlusPlus(**TINY).load_state(fitted.state())
    assert torch.equal(restored.pictures(small[:1])["samples"], samples)


# The method


def test_scores_are_bits_per_dimension_whatever_the_block(fitted: PixelCNNPlusPlus, monkeypatch: Any) -> None:
    x = to_unit(TEST.pixels).permute(0, 3, 1, 2)
    with torch.no_grad():
        nats = -log_likelihood(x, fitted._network(x)).double().sum((1, 2))
    scores = fitted.score(TEST)
    assert torch.allclose(scores, nats / math.log(2) / (3 * 8 * 8), rtol=1e-6)
    monkeypatch.setattr("methods.pixelcnn._SCORED", 3 * 64)
    assert torch.allclose(fitted.score(TEST), scores, rtol=1e-5)


@pytest.mark.parametrize("codec", ["png", "webp"])
def test_complexity_is_subtracted(fitted: PixelCNNPlusPlus, codec: Any) -> None:
    corrected = PixelCNNPlusPlus(**TINY, complexity=codec).load_state(fitted.state())
    expected = fitted.score(TEST) - compressed_bits(TEST.pixels, codec)
    assert torch.allclose(corrected.score(TEST), expected)


def test_learns_a_colour() -> None:
    grey = (images(64, seed=3) // 32)[..., :1].expand(-1, -1, -1, 3) + 100  # dark grey: 100 .. 107
    method = PixelCNNPlusPlus(**{**TINY, "epochs": 12, "lr": 1e-2, "dropout": 0.0}).fit(Features(pixels=grey))
    assert len(method.losses) == 12
    assert method.losses[-1] < 0.6 * method.losses[0]
    # One of 8 equal values and two copies of it: no model of these images can cost less than 3 bits in 3 values.
    assert method.losses[-1] > 1
    assert float(method.score(Features(pixels=grey)).max()) < float(method.score(TEST).min())


def test_dropout_leaves_something() -> None:
    with pytest.raises(ValueError, match="dropout is 1; it must be a number, at least 0 and below 1"):
        PixelCNNPlusPlus(dropout=1)


def test_an_interrupted_fit_ends_in_the_same_weights(tmp_path: Path, monkeypatch: Any) -> None:
    settings = {**TINY, "epochs": 2, "ema": 0.9}  # of three steps
    whole = PixelCNNPlusPlus(**settings).fit(TRAIN, seed=5)
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    real, steps = loop._Run.update, []

    def update(self: Any, *arguments: Any) -> None:
        steps.append(None)
        if len(steps) == 5:
            raise KeyboardInterrupt
        real(self, *arguments)

    monkeypatch.setattr(loop._Run, "update", update)
    with pytest.raises(KeyboardInterrupt):
        PixelCNNPlusPlus(**settings).fit(TRAIN, seed=5, workdir=tmp_path)
    monkeypatch.setattr(loop._Run, "update", real)
    resumed = PixelCNNPlusPlus(**settings).fit(TRAIN, seed=5, workdir=tmp_path)
    assert all(torch.equal(value, resumed.state()[name]) for name, value in whole.state().items())
