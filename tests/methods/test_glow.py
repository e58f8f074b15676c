"""Glow: a bijection whose determinant is autograd's, at the size of the paper, counted in bits."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from methods import glow
from methods.base import CannotRun, Features
from methods.glow import Glow, dequantise, in_bits
from methods.networks.glow import ActNorm, GlowNetwork, InvertibleConv, NormConv, Step, ZeroConv
from methods.pixels.complexity import compressed_bits
from methods.training import loop
from methods.training.loop import seeded

SMALL: dict[str, Any] = {"levels": 2, "steps": 1, "width": 8, "lr": 0.01, "warmup_epochs": 0.5, "epochs": 3}


def network(*sizes: int, spread: float = 0.1, seed: int = 0) -> GlowNetwork:
    """In float64, with every parameter moved at random: zeros at the start would hide what they multiply."""
    with seeded(seed):
        made = GlowNetwork(*sizes).double()
        for parameter in made.parameters():
            parameter.data += spread * torch.randn_like(parameter)
    return made


def images(n: int, size: int = 8, seed: int = 0) -> Tensor:
    """uint8 (n, size, size, 3): grey ramps of different slopes, a little noisy."""
    generator = torch.Generator().manual_seed(seed)
    slope = 10 * torch.rand(n, 1, 1, 1, generator=generator)
    noise = torch.randint(8, (n, size, size, 3), generator=generator)
    return (100 + slope * torch.arange(size)[:, None, None] + noise).to(torch.uint8)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


# The network


def test_parameters_of_the_published_network() -> None:
    with seeded(0):
        assert sum(parameter.numel() for parameter in GlowNetwork().parameters()) == 44_235_312
    method = Glow()
    assert (method.levels, method.steps, method.width, method.epochs, method.lr) == (3, 32, 512, 150, 5e-4)


@pytest.mark.parametrize("sizes", [(1, 2, 5), (2, 2, 4), (3, 1, 4)])
def test_there_and_back(sizes: tuple[int, int, int]) -> None:
    flow = network(*sizes, spread=0.03)
    x = torch.rand(3, 3, 8, 16, dtype=torch.float64) - 0.5
    latents, _ = flow(x)
    assert latents.shape == (3, 3 * 8 * 16)
    assert torch.allclose(flow.inverse(latents, (8, 16)), x, atol=1e-9)
    z = torch.randn(3, 3 * 8 * 16, dtype=torch.float64)
    assert torch.allclose(flow(flow.inverse(z, (8, 16)))[0], z, atol=1e-9)


@pytest.mark.parametrize(("sizes", "size"), [((1, 2, 5), 2), ((2, 2, 4), 4), ((3, 1, 4), 8)])
def test_determinant_is_autograd_s(sizes: tuple[int, int, int], size: int) -> None:
    flow = network(*sizes)
    x = torch.rand(2, 3, size, size, dtype=torch.float64) - 0.5
    dimensions = 3 * size * size
    latents, logdet = flow(x)
    assert abs(float((logdet[0] - logdet[1]).detach())) > 1e-6  # it depends on the image
    for image, z, found in zip(x, latents, logdet, strict=True):
        whole = torch.autograd.functional.jacobian(lambda x: flow(x[None])[0][0], image).view(dimensions, dimensions)
        expected = torch.linalg.slogdet(whole).logabsdet
        assert torch.allclose(found, expected, atol=1e-8)
        normal = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum()
        assert torch.allclose(flow.log_density(image[None]), normal + expected, atol=1e-8)


def test_a_step_at_its_start_by_hand() -> None:
    step = Step(4, 8)
    x = torch.randn(2, 4, 3, 5)
    y, logdet = step(x)
    first, second = torch.einsum("ij,njhw->nihw", step.mix.matrix(), x).chunk(2, dim=1)
    scale = 1 / (1 + math.exp(-2))
    assert torch.allclose(y, torch.cat((first, second * scale), dim=1), atol=1e-6)
    # 2 channels of 3 x 5 places are scaled; a rotation changes no volume.
    assert torch.allclose(logdet, torch.tensor(30 * math.log(scale)), atol=1e-4)


def test_the_1x1_convolution_is_a_rotation_then_an_lu_product() -> None:
    with seeded(1):
        mix = InvertibleConv(6).double()
    assert torch.allclose(mix.matrix() @ mix.matrix().T, torch.eye(6, dtype=torch.float64), atol=1e-6)
    with torch.no_grad():
        for parameter in mix.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2))
    matrix = mix.matrix()
    assert torch.allclose(torch.linalg.slogdet(matrix).logabsdet, mix.logs.sum())
    with torch.no_grad():
        mix.lower += torch.ones(6, 6).triu()
        mix.upper += torch.ones(6, 6).tril()
    assert torch.equal(mix.matrix(), matrix)


def test_first_images_set_every_actnorm() -> None:
    flow = network(2, 2, 6, spread=0.05).float()
    x = 3 + 0.2 * torch.randn(64, 3, 8, 8)
    flow.start(x)
    seen: list[Tensor] = []
    normed = [step.norm for step in flow.modules() if isinstance(step, Step)]
    for module in (*normed, *(module for module in flow.modules() if isinstance(module, NormConv))):
        module.register_forward_hook(lambda module, inputs, output: seen.append(output.detach().clone()))
    with torch.no_grad():
        flow(x)
    assert len(seen) == sum(isinstance(module, ActNorm) for module in flow.modules()) == 2 * 2 * 3
    for output in seen:
        assert torch.allclose(output.mean((0, 2, 3)), torch.zeros(output.shape[1]), atol=1e-3)
        assert torch.allclose(output.var((0, 2, 3), correction=0), torch.ones(output.shape[1]), atol=1e-2)
    before = [parameter.clone() for parameter in flow.parameters()]
    flow(10 * x)  # only the first images do
    assert all(torch.equal(a, b) for a, b in zip(before, flow.parameters(), strict=True))


def test_actnorm_by_hand() -> None:
    norm = ActNorm(2)
    norm.waiting = True
    x = torch.tensor([[[[1.0, 3.0]], [[10.0, 10.0]]], [[[5.0, 7.0]], [[30.0, 30.0]]]])
    # Channel 0: mean 4, variance 5; channel 1: mean 20, variance 100.
    y = norm(x)
    assert torch.allclose(y[:, 0].flatten(), (torch.tensor([1.0, 3.0, 5.0, 7.0]) - 4) / math.sqrt(5), atol=1e-5)
    assert torch.allclose(y[:, 1].flatten(), torch.tensor([-1.0, -1.0, 1.0, 1.0]), atol=1e-5)
    assert torch.allclose(norm.inverse(y), x, atol=1e-5)


def test_convolutions_by_hand() -> None:
    x = torch.randn(2, 3, 5, 5)
    conv = NormConv(3, 4, 3)
    conv.norm.bias.data, conv.norm.logs.data = torch.randn(4), 0.1 * torch.randn(4)
    expected = conv.norm(nn.functional.conv2d(x, conv.weight, padding=1))
    assert torch.allclose(conv(x), expected, atol=1e-5)
    zero = ZeroConv(3, 4)
    assert torch.equal(zero(x), torch.zeros(2, 4, 5, 5))
    zero.weight.data, zero.bias.data, zero.logs.data = torch.randn(4, 3, 3, 3), torch.randn(4), torch.randn(4) / 5
    expected = nn.functional.conv2d(x, zero.weight, zero.bias, padding=1) * (3 * zero.logs).exp()[:, None, None]
    assert torch.allclose(zero(x), expected, atol=1e-4)


# Bits


class Uniform(nn.Module):
    """Density 1 in the cube [-.5, .5]^D, 0 outside."""

    def log_density(self, x: Tensor) -> Tensor:
        inside = (x.abs() <= 0.5).flatten(1).all(1)
        return torch.where(inside, 0.0, -math.inf)


def test_a_uniform_model_takes_8_bits() -> None:
    method = Glow()
    method._network, method._seed = Uniform(), 0
    pixels = torch.randint(256, (7, 16, 16, 3), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    pixels[0], pixels[1] = 0, 255
    assert method.score(Features(pixels=pixels)).tolist() == [8.0] * 7


def test_bits_by_hand() -> None:
    # Uniform over one grey level of every value: density 256^D, nothing left to say; over two: 1 bit.
    for levels in (1, 2, 256):
        log_density = torch.tensor([12 * math.log(256 / levels)], dtype=torch.float64)
        assert float(in_bits(log_density, 12)) == pytest.approx(math.log2(levels), abs=1e-9)


def test_dequantised_values_stay_in_their_grey_level() -> None:
    pixels = torch.arange(256, dtype=torch.uint8).view(1, 16, 16, 1).expand(2, -1, -1, 3)
    for noise in (0.0, 0.5, 0.999):
        x = dequantise(pixels, torch.full(pixels.shape, noise))
        assert x.shape == (2, 3, 16, 16)
        level = ((x + 0.5) * 256).permute(0, 2, 3, 1)
        assert torch.allclose(level, pixels + noise, atol=1e-3)
        assert torch.equal(level.floor().to(torch.uint8), pixels)


def test_noise_belongs_to_the_image_and_its_place() -> None:
    caught: list[Tensor] = []

    class Catch(nn.Module):
        def log_density(self, x: Tensor) -> Tensor:
            caught.append(x)
            return torch.zeros(len(x))

    method = Glow()
    method._network, method._seed = Catch(), 5
    pixels = torch.full((40, 8, 8, 3), 128, dtype=torch.uint8)
    method.score(Features(pixels=pixels))
    method.score(Features(pixels=pixels[:2], index=torch.tensor([7, 3])))
    noise = caught[0] * 256
    assert torch.equal(caught[1], caught[0][[7, 3]])
    assert len(noise.unique()) > 0.99 * noise.numel()
    # Uniform on (0, 1): mean 1/2, variance 1/12, over 7,680 values.
    assert float(noise.mean()) == pytest.approx(0.5, abs=5 * math.sqrt(1 / 12 / 7680))
    assert float(noise.var()) == pytest.approx(1 / 12, rel=0.05)


# The method


def fitted(pixels: Tensor, *, workdir: Path | None = None, **settings: Any) -> Glow:
    return Glow(**{**SMALL, **settings}).fit(Features(pixels=pixels), seed=1, workdir=workdir)


def test_learns_and_keeps_its_losses() -> None:
    method = fitted(images(256), epochs=8)
    assert len(method.losses) == 8
    # Noise of 8 grey levels and a slope: about 3 bits a value, where the start knows mean and variance only.
    assert method.losses[-1] < method.losses[0] - 0.2
    restored = Glow(**SMALL).load_state(method.state())
    assert restored.losses == method.losses
    scores = method.score(Features(pixels=images(32, seed=1)))
    assert 3 < float(scores.mean()) < method.losses[0]
    assert torch.equal(restored.score(Features(pixels=images(32, seed=1))), scores)


def test_scores_do_not_depend_on_the_network_s_own_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    method, x = fitted(images(64)), Features(pixels=images(20, seed=1))
    whole = method.score(x)
    monkeypatch.setattr(glow, "BLOCK", 3)
    assert torch.allclose(method.score(x), whole, rtol=1e-5)


@pytest.mark.parametrize("codec", ["png", "webp"])
def test_complexity_is_taken_off(codec: Any) -> None:
    method, x = fitted(images(64)), Features(pixels=images(20, seed=1))
    corrected = Glow(**SMALL, complexity=codec).load_state(method.state())
    assert torch.allclose(corrected.score(x), method.score(x) - compressed_bits(x.pixels, codec))


def test_samples_resemble_the_training_images() -> None:
    method = fitted(images(256), epochs=8)
    samples = method.pictures(Features(pixels=images(2)))["samples"]
    assert samples.shape == (16, 8, 8, 3)
    assert samples.dtype == torch.uint8
    assert torch.equal(method.pictures(Features(pixels=images(2)))["samples"], samples)
    assert len(samples.unique(dim=0)) == 16
    # Training images: 103 on average in the first row, 103 + 7 x 5 in the last.
    rows = samples.float().mean((0, 2, 3))
    assert float(rows[0]) == pytest.approx(103.5, abs=12)
    assert float(rows[7] - rows[0]) == pytest.approx(35, abs=15)


def test_resumed_training_ends_in_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = images(128)
    undisturbed = fitted(pixels)
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    calls = []

    def stop_at_the_fourth(*arguments: Any) -> Tensor:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return in_bits(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(glow, "in_bits", stop_at_the_fourth)
        with pytest.raises(KeyboardInterrupt):
            fitted(pixels, workdir=tmp_path)
    assert (tmp_path / "training.pt").exists()
    resumed = fitted(pixels, workdir=tmp_path).state()
    assert all(torch.equal(resumed[name], value) for name, value in undisturbed.state().items())


def test_what_it_does_not_take() -> None:
    with pytest.raises(CannotRun, match="3 levels need sides that 8 divides, not 12 x 12"):
        Glow().fit(Features(pixels=images(4, 12)))
