"""DDPM-OOD: its network, its samplers against closed forms and diffusers, and its calibration."""

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import PNDMScheduler
from torch import Tensor
from torch.nn import functional

from methods import ddpm
from methods.base import CannotRun, Features, hold_out
from methods.ddpm import DDPM, unet
from methods.training import loop
from methods.vectors.noise import normal

TINY: dict[str, Any] = {"steps": 10, "skip": 4, "width": 8, "epochs": 3, "batch_size": 32, "lr": 5e-3}
SIZE = 8
CENTRE, SPREAD = 0.5, 0.12

# The schedule, written down from the paper: the square root of beta rises evenly.
BETAS = torch.linspace(math.sqrt(0.0015), math.sqrt(0.0195), 1000, dtype=torch.float64) ** 2
ALPHAS = (1 - BETAS).cumprod(0)


def squares(count: int, *, seed: int = 0, first: int = 0) -> Features:
    """A bright square of 4 x 4 somewhere on a dark ground, with a little noise."""
    random = torch.Generator().manual_seed(seed)
    pixels = torch.randint(20, 40, (count, SIZE, SIZE, 3), generator=random)
    corners = torch.randint(0, SIZE - 4, (count, 2), generator=random)
    for image, (row, column) in zip(pixels, corners.tolist(), strict=True):
        image[row : row + 4, column : column + 4] += 150
    return Features(pixels=pixels.to(torch.uint8), index=torch.arange(first, first + count))


TRAIN, ID = squares(320), squares(16, seed=1)


@pytest.fixture(scope="module")
def fitted() -> DDPM:
    return DDPM(**TINY).fit(TRAIN, seed=0)


def restored(method: DDPM, **settings: Any) -> DDPM:
    return DDPM(**{**TINY, **settings}).load_state(method.state())


class Gaussian:
    """The ideal network where every pixel is N(CENTRE, spread^2); counts the images it is asked about."""

    def __init__(self, spread: float = SPREAD) -> None:
        self.spread = spread
        self.calls: list[tuple[int, int]] = []

    def __call__(self, x: Tensor, level: int, return_dict: bool) -> tuple[Tensor]:
        self.calls.append((level, len(x)))
        a = float(ALPHAS[level])
        return ((x - math.sqrt(a) * CENTRE) * math.sqrt(1 - a) / (a * self.spread**2 + 1 - a),)


def with_network(network: Any, **settings: Any) -> DDPM:
    method = DDPM(**settings)
    method._network, method._seed = network, 0
    return method


def gaussian_images(count: int) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    return CENTRE + SPREAD * torch.randn(count, 3, SIZE, SIZE, generator=random), torch.arange(count)


def parameters(width: int) -> int:
    with torch.device("meta"):
        return sum(weight.numel() for weight in unet(width).parameters())


def test_the_published_network() -> None:
    assert parameters(DDPM().width) == 17_714_563
    with torch.device("meta"):
        network = unet(128)
    attention = {name for name, part in network.named_modules() if type(part).__name__ == "Attention"}
    assert {name.rpartition(".attentions")[0] for name in attention} == {"down_blocks.2", "mid_block", "up_blocks.0"}
    heads = {part.heads for part in network.modules() if type(part).__name__ == "Attention"}
    assert heads == {1}  # 256 channels, 256 a head


def test_published_starts() -> None:
    assert DDPM().starts == (10, 170, 330, 490, 650, 810, 970)
    assert len(DDPM(skip=4).starts) == 25


@pytest.mark.parametrize("sampler", ["plms", "ddim"])
def test_starts_share_calls(sampler: Any) -> None:
    network = Gaussian()
    method = with_network(network, sampler=sampler)
    clean, index = gaussian_images(2)
    method.reconstruct(clean, index, method.starts)
    again = len(method.starts) if sampler == "plms" else 0  # PLMS asks twice at each start's second level
    assert sum(images for _, images in network.calls) == 2 * (350 + again)
    assert len(network.calls) == 98 + again
    assert [level for level, _ in network.calls] == sorted((level for level, _ in network.calls), reverse=True)


@pytest.mark.parametrize(("sampler", "tolerance"), [("plms", 0.06), ("ddim", 0.2)])
def test_reconstruction_of_a_gaussian(sampler: Any, tolerance: float) -> None:
    # The probability-flow ODE keeps an image's place in the (Gaussian) distribution of its level; the samplers
    # follow it with 100 steps, of which the last, from a[0] = .9985 to 1, is a coarse one here.
    method = with_network(Gaussian(), sampler=sampler)
    clean, index = gaussian_images(4)
    for start, image in zip(method.starts, method.reconstruct(clean, index, method.starts), strict=True):
        a = float(ALPHAS[start])
        noise = normal(index, clean[0].numel(), seed=0, stream=start).view_as(clean)
        noisy = math.sqrt(a) * clean + math.sqrt(1 - a) * noise
        expected = CENTRE + SPREAD * (noisy - math.sqrt(a) * CENTRE) / math.sqrt(a * SPREAD**2 + 1 - a)
        assert float((image - expected).abs().mean()) < tolerance * SPREAD
        # E (x - x~)^2 = 2 s^2 (1 - sqrt(a) s / deviation at the level)
        error = 2 * SPREAD**2 * (1 - math.sqrt(a) * SPREAD / math.sqrt(a * SPREAD**2 + 1 - a))
        assert float((image - clean).square().mean()) == pytest.approx(error, rel=tolerance + 0.05)


def test_ddim_is_its_formula(fitted: DDPM) -> None:
    method = restored(fitted, sampler="ddim")
    clean, index = torch.rand(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0)), torch.arange(3)
    x = normal(index, clean[0].numel(), seed=0, stream=300).view_as(clean)
    x = ALPHAS[300].sqrt() * clean + (1 - ALPHAS[300]).sqrt() * x
    for level, following in ((300, 200), (200, 100), (100, 0), (0, None)):
        with torch.no_grad():
            noise = method._network(x.float(), level).sample
        predicted = (x - (1 - ALPHAS[level]).sqrt() * noise) / ALPHAS[level].sqrt()
        a = torch.tensor(1.0) if following is None else ALPHAS[following]
        x = a.sqrt() * predicted + (1 - a).sqrt() * noise
    assert torch.allclose(method.reconstruct(clean, index, [300])[0], x.float().clamp(0, 1), atol=1e-4)


def test_plms_is_that_of_diffusers(fitted: DDPM) -> None:
    method = restored(fitted, sampler="plms")
    clean, index = torch.rand(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0)), torch.arange(3)
    scheduler: Any = PNDMScheduler(1000, 0.0015, 0.0195, "scaled_linear", skip_prk_steps=True, set_alpha_to_one=True)
    scheduler.set_timesteps(10)
    noise = normal(index, clean[0].numel(), seed=0, stream=900).view_as(clean)
    x = scheduler.add_noise(clean, noise, torch.tensor([900]))
    for level in scheduler.timesteps.tolist():  # 900, 800, 800, 700, ...
        with torch.no_grad():
            x = scheduler.step(method._network(x, level).sample, level, x).prev_sample
    assert torch.allclose(method.reconstruct(clean, index, [900])[0], x.clamp(0, 1), atol=1e-5)


@pytest.mark.parametrize("sampler", ["plms", "ddim"])
def test_no_state_leaks_from_one_start_to_the_next(fitted: DDPM, sampler: Any) -> None:
    method = restored(fitted, sampler=sampler)
    clean, index = ddpm._images(ID.pixels[:3], True), ID.index[:3]
    starts = [500, 100, 900, 0]
    together = method.reconstruct(clean, index, starts)
    for start, image in zip(starts, together, strict=True):
        assert torch.allclose(method.reconstruct(clean, index, [start])[0], image, atol=1e-5)


def test_start_0_gives_the_image_back(fitted: DDPM) -> None:
    clean = ddpm._images(ID.pixels, True)
    assert torch.equal(fitted.reconstruct(clean, ID.index, [0])[0], clean)


def test_the_error_grows_with_the_start(fitted: DDPM) -> None:
    method = restored(fitted, skip=2)
    assert method.starts == (100, 300, 500, 700, 900)
    errors = method.errors(ID).mean(dim=1)
    assert bool((errors.diff() > 0).all())
    assert float(errors[0]) < float(errors[-1]) / 3


def test_training_teaches_the_noise(fitted: DDPM) -> None:
    clean = ddpm._images(ID.pixels, True)
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    noisy = (ALPHAS[600].sqrt() * clean + (1 - ALPHAS[600]).sqrt() * noise).float()
    with torch.no_grad():
        predicted = fitted._network(noisy, 600).sample
    assert float((predicted - noise).square().mean()) < 0.35  # 1 where nothing is predicted
    assert fitted.losses == sorted(fitted.losses, reverse=True)
    assert len(fitted.losses) == TINY["epochs"]
    assert restored(fitted).losses == fitted.losses


def test_an_interrupted_training_ends_in_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    short, train = {**TINY, "epochs": 2, "ema": 0.9}, squares(64)
    undisturbed = DDPM(**short).fit(train, seed=0).state()
    calls = []

    def stop_at_the_third(*arguments: Tensor) -> Tensor:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return functional.mse_loss(*arguments)

    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    with monkeypatch.context() as patch:
        patch.setattr(ddpm, "functional", SimpleNamespace(mse_loss=stop_at_the_third))
        with pytest.raises(KeyboardInterrupt):
            DDPM(**short).fit(train, seed=0, workdir=tmp_path)
    assert (tmp_path / "training.pt").exists()
    resumed = DDPM(**short).fit(train, seed=0, workdir=tmp_path).state()
    assert all(torch.equal(resumed[name], value) for name, value in undisturbed.items())


def test_calibration_is_on_the_hold_out_alone(fitted: DDPM) -> None:
    held = hold_out(len(TRAIN))[1]
    errors = fitted.errors(TRAIN[held])
    mean, deviation = errors.mean(dim=1, keepdim=True), errors.std(dim=1, keepdim=True)
    expected = ((fitted.errors(ID) - mean) / deviation).mean(dim=0)
    method = restored(fitted)
    method.score(squares(5, seed=9))  # not on the images before
    assert torch.allclose(method.score(ID), expected, rtol=1e-4, atol=1e-4)
    assert float(method.score(TRAIN[held]).mean()) == pytest.approx(0, abs=1e-4)


def test_the_network_does_not_train_on_the_hold_out() -> None:
    train = TRAIN[:64]
    kept, held = hold_out(len(train))

    def weights(changed: Tensor) -> dict[str, Tensor]:
        pixels = train.pixels.clone()
        pixels[changed] = 255 - pixels[changed]
        state = DDPM(**{**TINY, "epochs": 1}).fit(Features(pixels=pixels), seed=0).state()
        return {name: value for name, value in state.items() if name.startswith("network.")}

    plain = weights(held[:0])
    assert all(torch.equal(value, plain[name]) for name, value in weights(held).items())
    assert not all(torch.equal(value, plain[name]) for name, value in weights(kept[:1]).items())


def test_calibration_images_that_are_given_are_not_held_out_again() -> None:
    short, train = {**TINY, "epochs": 1}, TRAIN[:64]
    kept, held = hold_out(len(train))
    whole = DDPM(**short).fit(train, seed=0).state()
    apart = DDPM(**short).fit(replace(train[kept], validation=train[held]), seed=0).state()
    assert all(torch.equal(apart[name], value) for name, value in whole.items())


def test_stretching_takes_out_brightness_and_contrast(fitted: DDPM) -> None:
    dimmed = Features(pixels=ID.pixels // 2 * 2, index=ID.index)
    changed = Features(pixels=dimmed.pixels // 2 + 60, index=ID.index)
    assert torch.allclose(fitted.score(changed), fitted.score(dimmed), rtol=1e-4, atol=1e-4)
    plain = restored(fitted, stretch=False)
    assert not torch.allclose(plain.score(changed), plain.score(dimmed), rtol=0.1, atol=0.1)


def test_an_image_of_one_grey_level_is_black_when_stretched() -> None:
    grey = torch.full((1, SIZE, SIZE, 3), 77, dtype=torch.uint8)
    assert float(ddpm._images(grey, True).abs().max()) == 0
    assert float(ddpm._images(grey, False).min()) == pytest.approx(77 / 255)


def test_small_calls_change_nothing(fitted: DDPM, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = fitted.errors(ID)
    monkeypatch.setattr(ddpm, "_CALL_PIXELS", 5 * len(fitted.starts) * SIZE * SIZE)
    assert torch.allclose(fitted.errors(ID), expected, rtol=1e-4)


def test_calibration_takes_smaller_blocks_where_memory_ends(fitted: DDPM, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever scores fewer images at a time does not help it: the held-out ones are its own."""
    expected, method, sizes = fitted.score(ID), restored(fitted), list[int]()
    whole = method.errors

    def small(x: Features) -> Tensor:
        sizes.append(len(x))
        if len(x) > limit:
            raise RuntimeError(said)
        return whole(x)

    monkeypatch.setattr(method, "errors", small)
    limit = 0
    for said in ("CUDA out of memory. Tried to allocate", "cuDNN error: CUDNN_STATUS_ALLOC_FAILED"):
        with pytest.raises(RuntimeError, match=said[:20]):  # not even one image
            method.score(ID)
        assert sizes == [16, 8, 4, 2, 1]
        sizes.clear()
    limit = 16
    assert len(method._held) == 16
    assert torch.allclose(method.score(ID), expected, rtol=1e-4)
    limit, method._calibration = 5, None
    assert torch.allclose(method._held_errors(), whole(method._held), rtol=1e-4)
    monkeypatch.setattr(method, "errors", lambda x: 1 / 0)
    with pytest.raises(ZeroDivisionError):  # another fault is not met by smaller blocks
        method.score(ID)


def test_pictures(fitted: DDPM, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ddpm, "_PICTURE_STEPS", 10)
    pictures = fitted.pictures(ID)
    assert pictures["samples"].shape == (16, SIZE, SIZE, 3)
    assert pictures["samples"].dtype == torch.uint8
    grid = pictures["reconstructions"]
    assert grid.shape == (8 * (1 + len(fitted.starts)), SIZE, SIZE, 3)
    # An image, then its reconstructions from low to high starts.
    clean = ddpm._images(ID.pixels[:8], True)
    rows = grid.view(8, 1 + len(fitted.starts), SIZE, SIZE, 3)
    assert torch.equal(rows[:, 0], (clean * 255).round().byte().permute(0, 2, 3, 1))
    for place, start in enumerate(fitted.starts):
        back = fitted.reconstruct(clean, ID.index[:8], [start])[0].permute(0, 2, 3, 1)
        assert torch.allclose(rows[:, place + 1].float(), back * 255, atol=0.51)
    assert torch.equal(restored(fitted).pictures(ID)["samples"], pictures["samples"])


def test_samples_are_of_the_distribution() -> None:
    # Wider than the noise of the last levels, whose steps are coarse.
    samples = with_network(Gaussian(2.0))._sample(torch.Size((3, SIZE, SIZE)), torch.device("cpu"))
    assert samples.shape == (16, 3, SIZE, SIZE)
    assert float(samples.mean()) == pytest.approx(CENTRE, abs=0.15)  # 3,072 values: a standard error of .04
    assert float(samples.std()) == pytest.approx(2, rel=0.06)
    assert float((samples[0] - samples[1]).abs().mean()) > 1


def test_bad_input(fitted: DDPM) -> None:
    for steps in (1, 1001):
        with pytest.raises(ValueError, match=f"steps is {steps}; it must be a whole number, at least 2 and at most"):
            DDPM(steps=steps)
    with pytest.raises(ValueError, match="ddpm: width must be a multiple of 4, not 10"):
        DDPM(width=10)
    with pytest.raises(CannotRun, match="10 x 12 are no multiples of 4"):
        DDPM(**TINY).fit(Features(pixels=torch.zeros(64, 10, 12, 3, dtype=torch.uint8)))
    with pytest.raises(CannotRun, match="needs 2 images to calibrate on, a hold-out of 30"):
        DDPM(**TINY).fit(squares(20))
    with pytest.raises(ValueError, match="fitted on images of 8 x 8; these have 16 x 8"):
        fitted.score(Features(pixels=torch.zeros(1, 16, 8, 3, dtype=torch.uint8)))
    with pytest.raises(ValueError, match=r"a start is a level of the sampler: 0, 100, .*; not 150"):
        fitted.reconstruct(torch.zeros(1, 3, SIZE, SIZE), torch.zeros(1, dtype=torch.int64), [150])
