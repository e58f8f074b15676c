import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Literal

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_image
from torch.nn import functional
from torchvision import transforms

from methods.encoders.images import preprocessing
from methods.encoders.images.augmentation import random_crop, random_flip
from methods.encoders.registry import create
from tests.waiting import Waits


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("size", [(32, 32), (300, 400), (48, 512), (224, 224), (500, 100)])
def test_stretch_is_pils_bilinear(size: tuple[int, int]) -> None:
    """PIL rounds to whole grey levels after each of its two passes, hence up to 1.5."""
    image = noise(*size)
    expected = np.asarray(Image.fromarray(image).resize((224, 224), Image.Resampling.BILINEAR), dtype=float)
    ours = preprocessing.stretch(torch.from_numpy(image)[None], 224, "cpu")
    assert ours.shape == (1, 3, 224, 224)
    np.testing.assert_allclose(ours[0].permute(1, 2, 0).numpy(), expected, atol=1.5)


@pytest.mark.parametrize("size", [(32, 32), (64, 64), (28, 28), (300, 401), (97, 60), (33, 32), (20, 51)])
def test_resize_and_crop_is_torchvisions(size: tuple[int, int]) -> None:
    image = noise(*size)
    reference = transforms.Compose([transforms.Resize(32), transforms.CenterCrop(32)])
    expected = np.asarray(reference(Image.fromarray(image)), dtype=float)
    ours = preprocessing.resize_and_crop(torch.from_numpy(image)[None], 32, "cpu")
    np.testing.assert_allclose(ours[0].permute(1, 2, 0).numpy(), expected, atol=1.5)


def test_to_size_is_antialiased_bicubic() -> None:
    rows, columns = np.mgrid[0:120, 0:90] / 120  # smooth: PIL clips between its passes, which noise would show
    image = np.stack([rows, columns, (np.sin(9 * rows * columns) + 1) / 2], -1)
    image = (image * 255).round().astype(np.uint8)
    reference = transforms.Compose(
        [transforms.Resize(32, transforms.InterpolationMode.BICUBIC), transforms.CenterCrop(32)]
    )
    expected = np.asarray(reference(Image.fromarray(image))).astype(int)
    ours = preprocessing.to_size([torch.from_numpy(image)], 32, "cpu")
    assert ours.dtype == torch.uint8
    assert np.abs(ours[0].numpy() - expected).max() <= 1


def test_pixels_of_the_right_size_are_unchanged_and_others_saturate_instead_of_wrapping() -> None:
    encoder = create("pixels", resolution=8).open(None)
    images = torch.from_numpy(np.stack([noise(8, 8, 1), noise(8, 8, 2)]))
    assert torch.equal(encoder.encode(images)["pixels"], images)
    edge = torch.zeros((1, 16, 16, 3), dtype=torch.uint8)
    edge[:, :, 7:] = 255  # bicubic overshoots both ways at a step
    row = encoder.encode(edge)["pixels"][0, 0, :, 0].int()
    assert row[0] == 0
    assert row[-1] == 255
    assert (row.diff() >= 0).all()


def test_images_of_many_sizes_keep_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = [(20, 30), (32, 32), (20, 30), (40, 16), (32, 32), (20, 30)]
    images = [torch.from_numpy(noise(*size, seed=i)) for i, size in enumerate(sizes)]
    one_by_one = torch.cat([preprocessing.stretch(image[None], 24, "cpu") for image in images])
    torch.testing.assert_close(preprocessing.stretch(images, 24, "cpu"), one_by_one)
    monkeypatch.setattr(preprocessing, "BLOCK_BYTES", 2 * 20 * 30 * 3 * 4)  # two images of 20 x 30 at once
    torch.testing.assert_close(preprocessing.stretch(images, 24, "cpu"), one_by_one)
    batch = torch.stack([images[0], images[2], images[5]])
    torch.testing.assert_close(preprocessing.stretch(batch, 24, "cpu"), one_by_one[[0, 2, 5]])


def test_normalise_by_hand() -> None:
    pixels = torch.tensor([0.0, 127.5, 255.0]).view(1, 3, 1, 1)
    out = preprocessing.normalise(pixels, (0.5, 0.25, 0.2), (0.5, 0.5, 0.1)).flatten()
    torch.testing.assert_close(out, torch.tensor([-1.0, 0.5, 8.0]))


def test_a_batch_does_not_wait_for_its_mean_and_std() -> None:
    pixels = torch.zeros((2, 3, 4, 4), device="meta")  # for the rules of a device that is not where the numbers are
    with Waits("meta") as waits:
        preprocessing.normalise(pixels, (0.5, 0.25, 0.2), (0.5, 0.5, 0.1))
    assert waits.seen["_to_copy"] == 2
    assert not waits.found


@pytest.mark.parametrize(
    "images",
    [
        torch.zeros(2, 8, 8, 3),
        torch.zeros((2, 3, 8, 8), dtype=torch.uint8),
        torch.zeros((8, 8, 3), dtype=torch.uint8),
        torch.zeros((1, 0, 8, 3), dtype=torch.uint8),
        [torch.zeros((8, 8), dtype=torch.uint8)],
    ],
)
def test_what_is_not_images_is_named(images: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="images are uint8"):
        preprocessing.stretch(images, 8, "cpu")


def test_random_crop_is_a_window_of_the_padded_image() -> None:
    images = torch.arange(1, 2 * 3 * 6 * 6 + 1).view(2, 3, 6, 6).repeat(40, 1, 1, 1)
    crops = random_crop(images, 2, torch.Generator().manual_seed(0))
    padded = torch.nn.functional.pad(images, (2, 2, 2, 2))
    places = set()
    for crop, whole in zip(crops, padded, strict=True):
        windows = {(y, x): whole[:, y : y + 6, x : x + 6] for y in range(5) for x in range(5)}
        matching = [place for place, window in windows.items() if torch.equal(window, crop)]
        assert len(matching) == 1
        places.add(matching[0])
    assert len(places) > 15  # 80 draws of 25 places: 24.0 are expected
    assert {y for y, _ in places} == {x for _, x in places} == set(range(5))


def test_random_flip_mirrors_half_of_the_images() -> None:
    images = torch.arange(2 * 3).view(1, 1, 2, 3).repeat(1000, 1, 1, 1)
    out = random_flip(images, torch.Generator().manual_seed(0))
    mirrored = (out == images.flip(3)).flatten(1).all(1)
    assert (mirrored ^ (out == images).flatten(1).all(1)).all()
    assert 440 < int(mirrored.sum()) < 560  # 500 +- 3.8 standard deviations


def _pixels(seed, height, width):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_to_size_leaves_alone_what_fits():
    images = torch.from_numpy(np.stack([_pixels(seed, 32, 32) for seed in range(3)]))
    assert torch.equal(preprocessing.to_size(images, 32, "cpu"), images)


def test_to_size_does_not_depend_on_the_batch():
    sizes = [(64, 48), (64, 48), (30, 90)]
    images = [torch.from_numpy(_pixels(seed, *size)) for seed, size in enumerate(sizes)]
    together = preprocessing.to_size(images, 32, "cpu")
    assert together.shape == (3, 32, 32, 3)
    assert torch.equal(together[:2], preprocessing.to_size(torch.stack(images[:2]), 32, "cpu"))
    for image, one in zip(images, together, strict=True):
        assert torch.equal(preprocessing.to_size([image], 32, "cpu")[0], one)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(37, 53), (300, 41), (41, 300), (5, 90), (90, 5), (32, 32), (64, 64), (1, 50)])
@pytest.mark.parametrize("crop", [False, True])
def test_a_large_image_gives_the_same_pixels_from_its_centre_alone(
    size: tuple[int, int], mode: Literal["bilinear", "bicubic"], crop: bool
) -> None:
    """The bound is what float32 rounds: sums of at most 60 products of 255, so 60 x 255 x 2^-24 a pass."""
    pixels = torch.from_numpy(noise(*size)).permute(2, 0, 1)[None]
    height, width = preprocessing.Shrinking(32, mode, crop=crop).whole(*size)
    top, left = round((height - 32) / 2), round((width - 32) / 2)
    whole = preprocessing._resize(pixels.float(), (height, width), mode)[:, :, top : top + 32, left : left + 32]
    alone = preprocessing._window(pixels, (height, width), (top, left), 32, mode)
    torch.testing.assert_close(alone, whole, rtol=0, atol=2 * 60 * 255 * 2**-24)


@pytest.mark.parametrize("size", [(1, 10_000_000), (10_000_000, 1), (3, 400_000)])
def test_a_very_long_image_is_its_middle(size: tuple[int, int]) -> None:
    """Whole, the first would ask for 122 GB. Around the middle there is one colour, so every pixel has it."""
    image = torch.zeros((1, *size, 3), dtype=torch.uint8)
    rows, columns = (slice(max(0, length // 2 - 100), length // 2 + 100) for length in size)
    image[:, rows, columns] = 77
    assert (preprocessing.to_size(image, 32, "cpu") == 77).all()


def passes(image: np.ndarray, size: tuple[int, int], mode: str) -> np.ndarray:
    """Pillow's two passes, in the order that Pillow 13 chooses (older ones always go along the rows first)."""
    (height, width), picture = image.shape[:2], Image.fromarray(image)
    tall = height - size[0] > 2 * max(width - size[1], 0)
    for between in ((width, size[0]) if tall else (size[1], height), (size[1], size[0])):
        picture = picture.resize(between, Image.Resampling[mode.upper()])
    return np.asarray(picture).astype(int)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("crop", [False, True])
@pytest.mark.parametrize("target", [32, 224])
@pytest.mark.parametrize("size", [(300, 400), (400, 300), (900, 250), (225, 230), (1000, 700), (600, 600), (250, 900)])
def test_shrunk_in_uint8_as_pillow_does(
    size: tuple[int, int], target: int, crop: bool, mode: Literal["bilinear", "bicubic"]
) -> None:
    """At most 2 grey levels apart anywhere, at all on at most .5 % of the values of a photograph."""
    photograph = np.array(Image.fromarray(load_sample_image("china.jpg")).resize(size[::-1], Image.Resampling.BICUBIC))
    shrinking = preprocessing.Shrinking(target, mode, crop=crop)
    for image, share in ((noise(*size), 0.01), (photograph, 0.005)):
        whole = passes(image, shrinking.whole(*size), mode)
        top, left = (round((length - target) / 2) for length in whole.shape[:2])
        ours = shrinking(torch.from_numpy(image)).numpy().astype(int)
        apart = np.abs(ours - whole[top : top + target, left : left + target])
        assert apart.max() <= 2
        assert (apart > 0).mean() <= share


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(300, 400), (400, 300), (900, 250), (250, 900), (20, 30), (90, 30), (1, 50), (50, 1)])
def test_one_pass_of_torch_gives_what_its_two_give_one_after_the_other(
    size: tuple[int, int], mode: Literal["bilinear", "bicubic"]
) -> None:
    """Rounded to whole grey levels between them: along the rows first, but for tall images."""
    pixels = torch.from_numpy(noise(*size)).permute(2, 0, 1)[None]
    tall = size[0] - 32 > 2 * max(size[1] - 32, 0)
    for side in ((32, size[1]) if tall else (size[0], 32), (32, 32)):
        pixels = functional.interpolate(pixels, side, mode=mode, antialias=True)
    shrunk = preprocessing.Shrinking(32, mode, always=True)(torch.from_numpy(noise(*size)))
    assert torch.equal(shrunk, pixels[0].permute(1, 2, 0))
    assert shrunk.is_contiguous()


def test_what_is_smaller_is_left_to_the_device_and_what_ends_as_uint8_is_not() -> None:
    small, wide = torch.from_numpy(noise(20, 30)), torch.from_numpy(noise(10, 90))
    assert preprocessing.Shrinking(32)(small) is small
    assert preprocessing.Shrinking(32)(wide).shape == (32, 32, 3)  # larger on one side: whole, there
    assert preprocessing.Shrinking(32, crop=True)(wide) is wide  # its short side is to grow, and so the other
    for image in (small, wide):
        there = preprocessing.to_id_size(32)(image)
        assert there.dtype == torch.uint8
        assert there.shape == (32, 32, 3)
        assert torch.equal(preprocessing.to_size([image], 32, "cpu")[0], there)


@pytest.mark.parametrize("crop", [False, True])
def test_an_image_gives_the_same_whether_it_was_shrunk_before_or_not(crop: bool) -> None:
    resize = preprocessing.resize_and_crop if crop else preprocessing.stretch
    shrinking = preprocessing.Shrinking(32, crop=crop)
    images = [torch.from_numpy(noise(*size, seed)) for seed, size in enumerate([(90, 70), (20, 30), (32, 32), (8, 99)])]
    before = resize([shrinking(image) for image in images], 32, "cpu")
    assert torch.equal(resize(images, 32, "cpu"), before)
    assert torch.equal(resize(images[0][None], 32, "cpu"), before[:1])
    assert torch.equal(resize(images[0].flip(0)[None].flip(1), 32, "cpu"), before[:1])  # not contiguous


DIGEST = """
import hashlib, torch
from methods.encoders.images.preprocessing import Shrinking
image = torch.randint(0, 256, (397, 603, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
digest = hashlib.sha256()
for mode in ("bilinear", "bicubic"):
    for size in (32, 224, 500):
        digest.update(Shrinking(size, mode, always=True)(image).numpy().tobytes())
digest = digest.hexdigest()
"""


def test_the_same_pixels_on_every_processor() -> None:
    """Whole numbers all the way: what the machine can do with vectors changes nothing. torch asks as it starts."""
    here: dict[str, str] = {}
    exec(DIGEST, here)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[4]), "ATEN_CPU_CAPABILITY": "default"}
    command = [sys.executable, "-c", f"{DIGEST}\nprint(digest)"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == here["digest"]


def test_training_images_stay_where_a_tenth_of_the_memory_does_not_hold_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(total_memory=10 * 2**20))
    assert preprocessing._room("cuda:0") == 2**20
    images = torch.zeros((2**10, 20, 20, 3), dtype=torch.uint8)
    assert preprocessing.to_train_on(images, "cuda:0") is images


@pytest.mark.parametrize(("height", "width"), [(301, 299), (300, 512), (64, 63), (235, 236), (48, 47), (500, 235)])
def test_the_centre_of_what_is_shrunk_is_that_of_the_whole(height: int, width: int) -> None:
    """torchvision's Resize(47), CenterCrop(40), where the two crops' halves round in opposite ways."""
    from torchvision.transforms import v2

    shrinking = preprocessing.Shrinking(47, "bicubic", crop=True, centre=40)
    image = torch.randint(0, 256, (height, width, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    resize = v2.Resize(47, interpolation=v2.InterpolationMode.BICUBIC)
    wanted = v2.CenterCrop(40)(resize(image.permute(2, 0, 1))).float()
    once = preprocessing.prepared([image], shrinking, "cpu")[0]
    twice = preprocessing.prepared([shrinking(image)], shrinking, "cpu")[0]
    assert torch.equal(once, twice)
    assert (once - wanted).abs().max() <= 2
