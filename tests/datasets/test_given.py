"""Sets that a caller gives as tensors, datasets and loaders: read once, in order, and known by their content."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from datasets.given import given, name_of

IMAGES = torch.arange(7 * 3 * 2 * 2, dtype=torch.float32).reshape(7, 3, 2, 2)
LABELS = torch.tensor([0, 1, 2, 0, 1, 2, 0])


class Pets(Dataset):
    classes = ("cat", "dog", "fox")
    transform = torch.nn.Identity()

    def __getitem__(self, row):
        return self.transform(IMAGES[row]), int(LABELS[row])

    def __len__(self):
        return 7


class Stream(IterableDataset):
    def __iter__(self):
        return iter(zip(IMAGES, LABELS, strict=True))


@pytest.mark.parametrize(
    "data",
    [
        (IMAGES, LABELS),
        (IMAGES.numpy(), LABELS.tolist()),
        TensorDataset(IMAGES, LABELS),
        DataLoader(TensorDataset(IMAGES, LABELS), 3),
        Pets(),
        Stream(),
        list(zip(IMAGES, LABELS, strict=True)),
        ((IMAGES[start : start + 2], LABELS[start : start + 2]) for start in range(0, 7, 2)),
    ],
)
def test_every_form_gives_the_same_images_and_labels(data, tmp_path):
    found = given("pets", "test", data, tmp_path)
    assert np.array_equal(np.stack(found.read(range(7))), IMAGES.numpy())
    assert np.array_equal(found.labels, LABELS.numpy())
    assert (found.fingerprint == given("x", "test", (IMAGES, LABELS), tmp_path).fingerprint) is not isinstance(
        data, Pets
    )


def test_the_fingerprint_is_of_what_was_given(tmp_path):
    def fingerprint(*data):
        return given("x", "test", data, tmp_path).fingerprint

    other = IMAGES.clone()
    other[3, 0, 0, 0] += 1
    prints = {fingerprint(IMAGES, LABELS), fingerprint(other, LABELS), fingerprint(IMAGES.double(), LABELS)}
    prints |= {fingerprint(IMAGES.reshape(7, 2, 3, 2), LABELS), fingerprint(IMAGES, LABELS.flip(0))}
    assert len(prints) == 5


def test_a_shuffling_loader_is_read_once_and_its_generator_is_as_before(tmp_path):
    generator = torch.Generator().manual_seed(3)
    before = generator.get_state()
    loader = DataLoader(TensorDataset(IMAGES, LABELS), 2, shuffle=True, generator=generator)
    found = given("x", "test", loader, tmp_path)
    assert torch.equal(generator.get_state(), before)
    first = np.stack(found.read(range(7)))
    assert np.array_equal(first, np.stack(found.read(range(7))))
    order = (first[:, 0, 0, 0] / 12).astype(int)
    assert sorted(order) == list(range(7))
    assert np.array_equal(found.labels, LABELS.numpy()[order])


def test_names_of_classes_and_the_transform_are_told(tmp_path):
    found = given("pets", "test", Subset(Pets(), [4, 0]), tmp_path)
    assert (found.classes, found.labels.tolist()) == (("0", "1"), [1, 0])  # a part does not say its classes
    assert found.prepared == "float32 3 x 2 x 2, from 0 to 59, mean 29.5, std 24.2, by Identity()"
    assert given("pets", "test", DataLoader(Pets(), 2), tmp_path).classes == ("cat", "dog", "fox")
    assert name_of(DataLoader(Pets())) == "Pets"
    assert name_of(IMAGES) == name_of(TensorDataset(IMAGES)) == ""


class Broken(Dataset):
    def __getitem__(self, row):
        if row > 4:
            raise KeyError("no such file")
        return IMAGES[row], 0

    def __len__(self):
        return 7


class Undecoded(Dataset):
    def __getitem__(self, row):
        from PIL import Image

        return Image.new("RGB", (2, 2)), 0

    def __len__(self):
        return 2


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (3, "x .test. is a int: give a torch dataset or loader"),
        ({"embedding": IMAGES}, "x .test. is a dict"),
        (IMAGES[:0], "images are .0, 3, 2, 2."),
        ([], "x .test. holds no images"),
        ((IMAGES, LABELS[:3]), "labels are .3,.; it must be .7,."),
        ((IMAGES, LABELS - 2), "a label is -2; labels start at 0"),
        ((IMAGES, LABELS + 0.5), "labels: "),
        (torch.where(IMAGES == 30, torch.nan, IMAGES), "image 2 .from 0. holds NaN or infinity"),
        (DataLoader(TensorDataset(torch.where(IMAGES == 80, torch.inf, IMAGES)), 2), "image 6 .from 0. holds NaN"),
        (IMAGES > 3, "images are bool"),
        (Broken(), "cannot be read: KeyError: 'no such file'"),
        (Undecoded(), "its transform must end in tensors"),
        ([{"pixel_values": IMAGES[0]}], "a batch is a dict of pixel_values"),
        (iter([(IMAGES, LABELS), (IMAGES.double(), LABELS)]), "image 7 is float64 .3, 2, 2., others are float32"),
    ],
)
def test_what_cannot_be_is_one_line(data, said, tmp_path):
    with pytest.raises(ValueError, match=said) as error:
        given("x", "test", data, tmp_path)
    assert "\n" not in str(error.value)


def test_labels_of_an_ood_set_are_not_read(tmp_path):
    found = given("x", "test", (IMAGES, LABELS - 9), tmp_path, labelled=False)
    assert (found.labels == -1).all()
