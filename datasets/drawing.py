"""How the embedded sets were made: `python -m datasets.drawing` writes datasets/embedded.npz anew.

The UCI digits are 1-bit images of 32 x 32, of which the ink was counted in blocks of 4 x 4: 8 x 8 values of 0 to 16.
The OOD sets go the same way, with as much ink as a digit has, so that neither resolution nor brightness tells them
apart. `halves` is near the digits, the others are far.
"""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from datasets.embedded import CLASSES, COUNTS, Counts
from datasets.images import Labels

Bitmaps = NDArray[np.bool_]  # (N, 32, 32), True = ink

FONTS = (
    "DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSans-BoldOblique",
    "DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic", "DejaVuSerif-BoldItalic",
    "DejaVuSansMono", "DejaVuSansMono-Bold", "DejaVuSansMono-Oblique", "DejaVuSansMono-BoldOblique",
    "STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic", "STIXGeneralBolIta",
)  # fmt: skip


def draw() -> dict[str, NDArray[np.uint8]]:
    """Every array of the file."""
    arrays = {}
    for split in ("train", "test"):
        arrays[f"digits.{split}"], arrays[f"digits.{split}.labels"] = digits(split)
    arrays["letters.test"], arrays["letters.test.labels"] = letters()
    arrays |= {"halves.test": halves(), "scans.test": scans(), "shuffled.test": shuffled()}
    return {name: values.astype(np.uint8) for name, values in arrays.items()}


def count_ink(bitmaps: Bitmaps) -> Counts:
    """Ink in each block of 4 x 4: (N, 32, 32) -> (N, 8, 8), 0 to 16."""
    counts: Counts = bitmaps.reshape(-1, 8, 4, 8, 4).sum(axis=(2, 4), dtype=np.int64)
    return counts


@cache
def digits(split: str) -> tuple[Counts, Labels]:
    """1,000 digits to train and 797 to test, every class in the same share."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    every = load_digits()
    counts, labels = every.images.astype(np.int64), every.target.astype(np.int64)
    train, test = train_test_split(np.arange(len(labels)), train_size=1000, stratify=labels, random_state=0)
    rows = np.sort(train if split == "train" else test)
    return counts[rows], labels[rows]


def _ink_of_digits(number: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """How many of the 1,024 pixels of a bitmap are ink, in digits drawn from the training set."""
    counts, _ = digits("train")
    ink: NDArray[np.int64] = counts[rng.integers(len(counts), size=number)].sum(axis=(1, 2))
    return ink


def _most_ink(darkness: NDArray[np.float64], ink: NDArray[np.int64], rng: np.random.Generator) -> Bitmaps:
    """Threshold each image (N, 32, 32) so that its `ink` darkest pixels are ink; ties are drawn."""
    flat = darkness.reshape(len(darkness), -1)
    order = np.lexsort((rng.random(flat.shape), -flat), axis=1)
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.arange(flat.shape[1])[None], axis=1)
    return (ranks < ink[:, None]).reshape(darkness.shape)


def letters() -> tuple[Counts, Labels]:
    """A to J in matplotlib's text fonts: turned and slanted a little, scaled to the box as the digits are."""
    import matplotlib
    from scipy.ndimage import gaussian_filter

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    fonts = [ImageFont.truetype(str(folder / f"{name}.ttf"), 64) for name in FONTS]
    rng = np.random.default_rng(0)
    labels = np.arange(800) % len(CLASSES["letters"])
    drawn = np.stack([_draw(CLASSES["letters"][label], fonts[rng.integers(len(fonts))], rng) for label in labels])
    # Blurred, so that a threshold makes strokes thicker or thinner; the wide blur ranks what is far from a stroke.
    darkness = gaussian_filter(drawn, (0, 1, 1)) + gaussian_filter(drawn, (0, 4, 4)) / 100
    return count_ink(_most_ink(darkness, _ink_of_digits(len(drawn), rng), rng)), labels


def _draw(letter: str, font: Any, rng: np.random.Generator) -> NDArray[np.float64]:
    """One letter, as darkness (32, 32)."""
    image = Image.new("L", (128, 128), 0)
    ImageDraw.Draw(image).text((64, 64), letter, font=font, fill=255, anchor="mm")
    turn, slant = rng.uniform(-0.15, 0.15), rng.uniform(-0.2, 0.2)
    matrix = np.array([[1, slant], [0, 1]]) @ [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    shift = 64 - matrix @ [64, 64]  # the middle stays where it is
    affine = (*matrix[0], shift[0], *matrix[1], shift[1])
    image = image.transform(image.size, Image.Transform.AFFINE, affine, Image.Resampling.BILINEAR)
    image = image.crop(image.point([0] * 128 + [255] * 128).getbbox())
    width = round(max(8, 32 * min(1, image.width / image.height) * rng.uniform(0.65, 0.9)))
    box = Image.new("L", (32, 32), 0)
    box.paste(image.resize((width, 32), Image.Resampling.BOX), ((32 - width) // 2, 0))
    return np.asarray(box, dtype=np.float64)


def halves() -> Counts:
    """The top half of each test digit on the bottom half of one of another class, each used once as either."""
    counts, labels = digits("test")
    rng = np.random.default_rng(0)
    other = rng.permutation(len(counts))
    while (same := np.flatnonzero(labels[other] == labels)).size:
        for row in same:
            swap = rng.integers(len(counts))
            other[[row, swap]] = other[[swap, row]]
    return np.concatenate([counts[:, :4], counts[other][:, 4:]], axis=1)


def scans() -> Counts:
    """Patches of 32 x 32 of scikit-learn's two photographs, thresholded to the ink of a digit."""
    from sklearn.datasets import load_sample_images

    rng = np.random.default_rng(0)
    patches = []
    for photograph in load_sample_images().images:
        grey = np.asarray(Image.fromarray(photograph).convert("L"), dtype=np.float64)
        tops = rng.integers(grey.shape[0] - 31, size=400)
        lefts = rng.integers(grey.shape[1] - 31, size=400)
        patches += [255 - grey[top : top + 32, left : left + 32] for top, left in zip(tops, lefts, strict=True)]
    return count_ink(_most_ink(np.stack(patches), _ink_of_digits(len(patches), rng), rng))


def shuffled() -> Counts:
    """The 64 values of each test digit in an order of its own."""
    counts, _ = digits("test")
    order = np.random.default_rng(0).random((len(counts), 64)).argsort(axis=1)
    return np.take_along_axis(counts.reshape(-1, 64), order, axis=1).reshape(counts.shape)


if __name__ == "__main__":
    np.savez_compressed(COUNTS, allow_pickle=False, **draw())
