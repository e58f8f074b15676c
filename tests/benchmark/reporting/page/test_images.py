"""Which images a page holds."""

import pytest

from benchmark.records.names import mistakes_path
from benchmark.reporting.page.images import Images, shareable
from benchmark.store import files

PNG = "data:image/png;base64,"


def about(name, title, split, of, **more):
    return {"name": name, "title": title, "split": split, "of": of, "n": 5, **more}


DIGITS, TRAIN = about("digits", "Digits", "test", 797), about("digits", "Digits", "train", 1000)
CIFAR = about("cifar10", "CIFAR-10", "test", 10_000, group="far")


def record(id=DIGITS, ood=CIFAR, train=TRAIN):
    return {"row": "knn@net", "key": "k", "id": id, "ood": ood, "train": train}


def written(folder, **changes):
    one = {"score": "0.1", "image": f"{PNG}a", "nearest": [[f"{PNG}b", 0.5]]}
    other = {"score": "0.9", "image": f"{PNG}c", "nearest": [[f"{PNG}b", 0.25]]}
    made = {"key": "x", "measure": "k", "missed": [one], "flagged": [other], **changes}
    path = mistakes_path(folder, "knn@net", "cifar10")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(files.text(files.sealed(made)))


def test_each_image_is_there_once_and_what_may_not_be_passed_on_is_named(tmp_path):
    written(tmp_path)
    images = Images(tmp_path, every=True)
    for _ in range(2):
        found = images.of(record())
    assert found == {
        "missed": [{"score": "0.1", "image": 0, "nearest": [[1, 0.5]]}],
        "flagged": [{"score": "0.9", "image": 2, "nearest": [[1, 0.25]]}],
    }
    assert list(images.uris) == [f"{PNG}a", f"{PNG}b", f"{PNG}c"]
    assert images.notes == [
        "This page holds images of CIFAR-10, whose licences may not let them be passed on: --no-images leaves them out."
    ]


def test_no_images_leaves_only_those_that_may_be_passed_on(tmp_path):
    written(tmp_path)
    images = Images(tmp_path, every=False)
    found = images.of(record())
    assert found["missed"] is None
    assert len(found["flagged"]) == 1
    assert images.notes == ["Images of CIFAR-10 were left out of this page (--no-images)."]
    theirs = Images(tmp_path, every=False)
    assert theirs.of(record(train=about("photos", "Photos", "train", 9)))["flagged"][0]["nearest"] == []


@pytest.mark.parametrize("changes", [{"measure": "other"}, {"missed": [{"score": "1"}]}, {"missed": 5}])
def test_what_is_of_another_record_or_damaged_is_not_shown(tmp_path, changes):
    written(tmp_path, **changes)
    assert Images(tmp_path, every=True).of(record()) is None


def test_a_picture_can_only_be_an_image(tmp_path):
    written(tmp_path, missed=[{"score": "1", "image": "https://example.org/x.png", "nearest": []}])
    assert Images(tmp_path, every=True).of(record()) is None


@pytest.mark.parametrize(
    ("ood", "may"),
    [
        (about("mnist", "MNIST", "test", 10_000), True),
        (about("mnist", "mnist", "test", 12), False),  # a user's folder of that name
        (about("photos", "Photos", "test", 9), False),
        (about("blurred", "Digits, blurred", "test", 797, group="control"), True),
        (CIFAR, False),
    ],
)
def test_what_may_be_passed_on(ood, may):
    assert shareable(record(ood=ood), "ood") is may
