import itertools
import math

import numpy as np
import pytest
import torch
from scipy.stats import binom, chisquare, ks_2samp, kstest
from torch import Tensor
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms import functional as reference

from methods.encoders.images import augmentation

CHANGES = {
    "brightness": reference.adjust_brightness,
    "contrast": reference.adjust_contrast,
    "saturation": reference.adjust_saturation,
    "hue": reference.adjust_hue,
}


def images(n: int, height: int = 12, width: int = 12, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (n, 3, height, width), generator=generator).float()


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def within(count: int, n: int, p: float) -> bool:
    """Whether a count lies in the binomial 99.9 % interval."""
    low, high = binom.interval(0.999, n, p)
    return bool(low <= count <= high)


def test_crops_are_torchvisions() -> None:
    x = images(6, 12, 10)
    parts = [(0, 0, 12, 10), (3, 2, 5, 7), (11, 9, 1, 1), (0, 4, 12, 1), (2, 0, 8, 10), (6, 5, 6, 5)]
    top, left, height, width = torch.tensor(parts, dtype=torch.float32).T
    ours = augmentation.resized_crop(x, top, left, height, width)
    for image, part, out in zip(x, parts, ours, strict=True):
        expected = reference.resized_crop(image, *part, size=[12, 10], antialias=True)
        torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-2)


def test_the_whole_image_is_left_alone() -> None:
    x = images(2)
    zero, side = torch.zeros(2), torch.full((2,), 12.0)
    torch.testing.assert_close(augmentation.resized_crop(x, zero, zero, side, side), x, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("scale", [(0.2, 1.0), (0.5, 1.0)])
def test_random_crops_are_drawn_as_torchvisions(monkeypatch: pytest.MonkeyPatch, scale: tuple[float, float]) -> None:
    side, n = 32, 4000
    drawn: list[Tensor] = []
    monkeypatch.setattr(augmentation, "resized_crop", lambda x, *part: drawn.extend(part) or x)
    augmentation.random_resized_crop(torch.zeros(n, 1, side, side), scale, draws(1))
    top, left, height, width = (values.numpy() for values in drawn)
    for start, length in ((top, height), (left, width)):
        assert (start == start.round()).all()
        assert (length == length.round()).all()
        assert length.min() >= 1
        assert start.min() >= 0
        assert (start + length).max() <= side
    torch.manual_seed(0)
    blank = torch.zeros(3, side, side)
    theirs = np.array([RandomResizedCrop.get_params(blank, list(scale), [3 / 4, 4 / 3]) for _ in range(n)])
    pairs = [(top, theirs[:, 0]), (left, theirs[:, 1]), (height, theirs[:, 2]), (width, theirs[:, 3])]
    pairs += [(height * width, theirs[:, 2] * theirs[:, 3]), (height / width, theirs[:, 2] / theirs[:, 3])]
    for ours, other in pairs:
        assert ks_2samp(ours, other).pvalue > 1e-3
    assert np.corrcoef(top, left)[0, 1] < 0.5  # each side has its own place


def test_where_nothing_fits_the_image_stays() -> None:
    x = images(5)
    torch.testing.assert_close(augmentation.random_resized_crop(x, (9.0, 10.0), draws()), x, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("name", CHANGES)
def test_colours_are_torchvisions(name: str) -> None:
    x = images(7)
    x[1], x[2] = 0, 255  # grey: no hue
    x[3, 0] = x[3, 1]  # two channels alike
    amounts = torch.tensor([0.6, 1.4, 0.0, 1.0, 0.83, 1.17, 1.9])
    if name == "hue":
        amounts = torch.tensor([0.1, -0.1, 0.3, 0.0, -0.37, 0.5, -0.5])
    ours = getattr(augmentation, name)(x, amounts)
    theirs = torch.stack([CHANGES[name](a / 255, float(f)) * 255 for a, f in zip(x, amounts, strict=True)])
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-2)


def test_greyscale_is_torchvisions() -> None:
    x = images(3)
    torch.testing.assert_close(augmentation.greyscale(x), reference.rgb_to_grayscale(x))


@pytest.mark.parametrize(("which", "low", "high"), [(0, 0.6, 1.4), (1, 0.6, 1.4), (2, 0.6, 1.4), (3, -0.1, 0.1)])
def test_jitters_amounts_are_uniform(monkeypatch: pytest.MonkeyPatch, which: int, low: float, high: float) -> None:
    drawn: list[Tensor] = []
    name = list(CHANGES)[which]
    monkeypatch.setattr(augmentation, name, lambda x, amount: drawn.append(amount) or x)
    augmentation.color_jitter(torch.zeros(3000, 3, 1, 1), draws(2), strength=(0.4, 0.4, 0.4, 0.1), probability=1.0)
    amounts = torch.cat(drawn).numpy()
    assert len(amounts) == 3000
    assert kstest(amounts, "uniform", (low, high - low)).pvalue > 1e-3


def test_jitter_has_every_order_and_leaves_a_fifth_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for digit, name in enumerate(CHANGES, 1):
        monkeypatch.setattr(augmentation, name, lambda x, amount, digit=digit: 10 * x + digit)
    n = 6000
    out = augmentation.color_jitter(torch.zeros(n, 3, 1, 1), draws(), strength=(0.4,) * 4, probability=0.8)
    found = out[:, 0, 0, 0].int().tolist()
    assert within(found.count(0), n, 0.2)
    orders = [int("".join(map(str, order))) for order in itertools.permutations((1, 2, 3, 4))]
    counts = [found.count(order) for order in orders]
    assert sum(counts) == n - found.count(0)
    assert chisquare(counts).pvalue > 1e-3


def test_jitter_is_torchvisions_in_some_order() -> None:
    """With a fixed strength of one change at a time there is one order; each image by itself."""
    x = images(4)
    out = augmentation.color_jitter(x, draws(3), strength=(0.4, 0.0, 0.0, 0.0), probability=1.0)
    for before, after in zip(x, out, strict=True):
        dark = before < 100  # far from the clamp at 255 for factors up to 1.4
        factor = float((after[dark].sum() / before[dark].sum()).item())
        torch.testing.assert_close(after, (before * factor).clamp(0, 255), rtol=1e-3, atol=0.1)
    assert len({round(float(after.mean() / before.mean()), 4) for before, after in zip(x, out, strict=True)}) == 4


def test_a_fifth_becomes_grey() -> None:
    x = images(3000, 2, 2)
    out = augmentation.random_greyscale(x, 0.2, draws())
    grey = (out == augmentation.greyscale(x)).flatten(1).all(1)
    assert within(int(grey.sum()), 3000, 0.2)
    assert torch.equal(out[~grey], x[~grey])


def test_each_image_is_cropped_for_itself_and_the_generator_decides() -> None:
    x = images(1).expand(8, -1, -1, -1)
    for change in (
        lambda x, g: augmentation.random_resized_crop(x, (0.2, 1.0), g),
        lambda x, g: augmentation.color_jitter(x, g, strength=(0.4, 0.4, 0.4, 0.1), probability=1.0),
    ):
        before = x.clone()
        out, again, other = (change(x, draws(seed)) for seed in (1, 1, 2))
        assert torch.equal(x, before)
        assert torch.equal(out, again)
        assert not torch.equal(out, other)
        assert all(not torch.equal(a, b) for a, b in itertools.combinations(out, 2))
        assert 0 <= float(out.min()) <= float(out.max()) <= 255 + 1e-3


def test_aspect_ratios_are_log_uniform(monkeypatch: pytest.MonkeyPatch) -> None:
    """At a fixed small area nothing is rejected, and rounding to pixels is fine at 512."""
    drawn: list[Tensor] = []
    monkeypatch.setattr(augmentation, "resized_crop", lambda x, *part: drawn.extend(part) or x)
    augmentation.random_resized_crop(torch.zeros(1).expand(2000, 1, 512, 512), (0.3, 0.3), draws())
    height, width = drawn[2].numpy(), drawn[3].numpy()
    np.testing.assert_allclose(height * width / 512**2, 0.3, rtol=0.01)
    edge = math.log(4 / 3) + 0.005
    assert kstest(np.log(width / height), "uniform", (-edge, 2 * edge)).pvalue > 1e-3
