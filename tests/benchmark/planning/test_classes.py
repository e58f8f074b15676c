"""Classes are matched by name: between ID train, ID test and the head of a file."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmark.jobs.inputs import Selection
from benchmark.planning import classes
from benchmark.planning.classes import Differ, Order
from datasets import catalogue
from datasets.images import ImageSet
from methods.encoders.base import HeadClasses

FILE = Path("net.safetensors")


class Labelled(ImageSet):
    """Labels without images."""

    def read(self, rows):
        raise AssertionError("no image is looked at")

    def content(self):
        return []


def labelled(labels, names=(), split="test", name="own"):
    return Labelled(name, split, title=name, labels=np.array(labels), classes=tuple(names))


def test_a_set_that_lacks_a_class_keeps_the_numbers_of_the_others():
    order = Order(("bird", "cat", "dog"), True)
    assert classes.places(labelled([0, 1], ("bird", "dog")), order) == (0, 2)


def test_names_in_another_order_are_put_in_that_of_the_head():
    assert classes.places(labelled([0, 1, 2], ("dog", "cat", "bird")), Order(("bird", "cat", "dog"), True)) == (2, 1, 0)


def test_classes_without_images_do_not_count_as_more():
    assert classes.places(labelled([0, 0], ("cat", "zebra")), Order(("bird", "cat"), True)) == (1, -1)


@pytest.mark.parametrize(("labels", "names"), [([0, 1], ("cat", "zebra")), ([0, 1, 2], ("a", "b", "c"))])
def test_a_set_with_more_classes_is_refused_with_the_first(labels, names):
    with pytest.raises(Differ, match=r"not among the 2, the first is '(zebra|a)'"):
        classes.places(labelled(labels, names), Order(("bird", "cat"), True))


def test_without_names_the_integers_are_the_names():
    order = Order(tuple(map(str, range(10))), False)
    assert classes.places(labelled(range(10)), order) is None
    assert classes.places(labelled([0, 1, 4]), order) is None  # it may lack some
    for labels in (range(1, 11), range(11)):
        with pytest.raises(Differ, match="not among the 10, the first is '10'"):
            classes.places(labelled(labels), order)
    with pytest.raises(Differ, match="start at 1; count its classes from 0"):
        classes.places(labelled(range(1, 10), split="train"), order)


def test_names_and_integers_meet_where_these_are_0_to_k():
    named = Order(("bird", "cat", "dog"), True)
    assert classes.places(labelled([2, 1, 0], split="train"), named) is None
    for labels, why in (([1, 2, 3], "start at 1; count its"), ([0, 1], "not 0 to 2"), ([1, 2], "start at 1")):
        with pytest.raises(Differ, match=why):
            classes.places(labelled(labels, split="train"), named)
    with pytest.raises(Differ, match="not 0 to 3"):  # three folders, four outputs
        classes.places(labelled([0, 1, 2], ("a", "b", "c"), "train"), Order(tuple("0123"), False))


def test_folders_called_1_to_10_are_no_positions():
    """Sorted as texts they are 1, 10, 2, ..: by position every class but the first would be another."""
    folders = sorted(map(str, range(1, 11)))
    found = classes.places(labelled(range(10), folders), Order(tuple(map(str, range(1, 11))), True))
    assert found == tuple(int(name) - 1 for name in folders)


def test_no_labels_need_no_place():
    assert classes.places(labelled([-1, -1]), Order(("a", "b"), True)) is None


def test_a_head_is_what_its_file_says():
    own = labelled([0, 1, 2], ("a", "b", "c"), "train")
    assert classes.of_head(HeadClasses(3, ("c", "b", "a")), FILE, own, None) == Order(("c", "b", "a"), True)
    assert classes.of_head(HeadClasses(3), FILE, own, ("b", "a", "c")) == Order(("b", "a", "c"), True)
    with pytest.raises(Differ, match="the suite names other classes"):
        classes.of_head(HeadClasses(3, ("c", "b", "a")), FILE, own, ("a", "b", "c"))


def test_a_head_that_says_nothing_has_the_id_sets_classes_and_that_is_told():
    own = labelled([0, 1, 2], ("a", "b", "c"), "train")
    order = classes.of_head(HeadClasses(3), FILE, own, None)
    assert order.names == ("a", "b", "c")
    assert order.note == "net.safetensors does not name its classes; taken as own's in this order: a, b, c"
    with pytest.raises(Differ, match="does not name its 4 classes, and own has 3"):
        classes.of_head(HeadClasses(4), FILE, own, None)


@pytest.mark.parametrize("said", ["cifar10", "CIFAR-10"])
def test_a_network_that_was_trained_on_a_set_of_the_catalogue_has_its_order(said):
    head = HeadClasses(10, None, said)
    own = labelled([0, 1], ("ship", "airplane"), "train")
    order = classes.of_head(head, FILE, own, None)
    assert order == Order(catalogue.get("cifar10").class_names, True)
    assert classes.places(own, order) == (
        8,
        0,
    )  # the first is airplane, the last but one ship
    with pytest.raises(Differ, match="not among the 10"):
        classes.places(labelled([0, 1], ("ship", "pizza"), "train"), order)


def test_1000_outputs_of_imagenet_are_its_wnids():
    order = classes.of_head(HeadClasses(1000, None, "ImageNet-1k"), FILE, labelled([0], ("x",), "train"), None)
    assert classes.places(labelled([0, 1], ("n01443537", "n01440764")), order) == (1, 0)  # goldfish, tench


def test_what_only_test_images_have_comes_behind_the_training_classes():
    train, test = labelled([0, 1], ("b", "c"), "train"), labelled([0, 1], ("a", "b"))
    order = classes.together(train, test)
    assert order == Order(("b", "c", "a"), True)
    assert classes.places(test, order) == (2, 0)


def told(train, test):
    return classes.differing(Selection(train), Selection(test))


def test_test_classes_that_train_lacks_are_named_and_counted():
    train = labelled([0, 2, 2], ("ant", "bee", "cat"), "train")  # has no image of a bee
    assert told(train, labelled([0, 1], ("ant", "cat"))) == ()
    (note,) = told(train, labelled([0, 0, 1, 2, 2, 2], ("bee", "cat", "dog")))
    assert note == "5 of its 6 images are of 2 classes that the ID training set lacks: bee (2), dog (3)"
    assert told(labelled([0, 1], split="train"), labelled([0, 1, 2, 2])) == (
        "2 of its 4 images are of 1 class that the ID training set lacks: 2 (2)",
    )
    (note,) = told(train, labelled(range(30), tuple(f"c{n:02}" for n in range(30))))
    assert note.endswith("c08 (1), c09 (1), ...")


def test_training_labels_that_start_at_1_are_told():
    """Rows that need labels said that there are none."""
    (note,) = told(labelled([1, 2, 3], split="train"), labelled([1, 2]))
    assert note.startswith("its training labels are not used: the labels of ")
    assert note.endswith(" start at 1; count its classes from 0")


def test_labels_that_cannot_be_matched_are_told():
    (note,) = told(labelled([0, 1], ("ant", "bee"), "train"), labelled([1, 2]))
    assert note.startswith("its labels cannot be matched to those of the ID training set, so there is no ID accuracy: ")
    assert note.endswith("are the numbers 1 to 2, not 0 to 1")
    for train, test in (([0, 1], [-1, -1]), ([-1, -1], [0, 1])):
        assert told(labelled(train, ("ant", "bee"), "train"), labelled(test)) == ()


# Through a run: the numbers that came out wrong.


def images(trial, names, lacking=(), files=None):
    """Folders of embedded digits, one a class, called by `names`."""
    from PIL import Image

    from datasets.sources import find

    for split, limit in (("train", 400), ("test", 120)):
        found = find("digits", split, None)
        for number, (label, pixels) in enumerate(zip(found.labels, found.read(range(limit)), strict=False)):
            if split == "test" and label in lacking:
                continue
            folder = trial.folder / "own" / split / names[label]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / f"{number:04d}.png")


@pytest.fixture
def shipped():
    """The network that `digits` ships, an honest one: right for nine images of ten at least."""
    return next((Path(__file__).parents[3] / "benchmark" / "suites").glob("digits_resnet8*.safetensors"))


def accuracies(trial, shipped, header, **settings):
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    with safe_open(shipped, "pt") as file:
        kept = {name: file.metadata()[name] for name in ("mean", "std")}
    (trial.folder / "weights").mkdir(exist_ok=True)
    save_file(load_file(shipped), trial.folder / "weights" / "mine.safetensors", {**kept, **header})
    trial.write(
        id={"set": "./own"},
        encoders={
            "net": {"kind": "classifier", "settings": {"architecture": "resnet8", "checkpoint": "mine", **settings}}
        },
        rows=[{"method": "msp", "encoder": "net"}, {"method": "mahalanobis", "encoder": "net"}],
    )
    status = trial.run("--ood", "letters", "--limit", "120", small=False)
    records = trial.records("mini+limit=120").values()
    return status, {record["method"]: (record["status"], record["accuracy"], record["reason"]) for record in records}


WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@pytest.mark.parametrize("lacking", [(), (0, 4)])
@pytest.mark.parametrize("way", ["header", "suite"])
def test_accuracy_is_right_whatever_the_order_and_whatever_test_lacks(trial, shipped, lacking, way):
    images(trial, WORDS, lacking)  # sorted: eight, five, four, ..: no digit but 9 keeps its place
    status, found = accuracies(
        trial,
        shipped,
        {"classes": json.dumps(WORDS)} if way == "header" else {},
        **({"classes": list(WORDS)} if way == "suite" else {}),
    )
    assert status == 0
    assert found["msp"][0] == found["mahalanobis"][0] == "done"
    assert found["msp"][1] > 0.9


def test_a_head_of_other_classes_is_not_offered_but_the_embedding_is(trial, shipped):
    images(trial, [name.upper() for name in WORDS])
    _, found = accuracies(trial, shipped, {"classes": json.dumps(WORDS)})
    status, accuracy, reason = found["msp"]
    assert (status, accuracy) == ("skipped", None)
    assert "which net does not offer: the classes of its head are not the ID set's" in reason
    assert found["mahalanobis"][:2] == ("done", None)


def test_a_suite_that_names_other_classes_is_refused(trial, shipped, capsys):
    images(trial, [name.upper() for name in WORDS])
    status, _ = accuracies(trial, shipped, {}, classes=list(WORDS))
    assert status == 2
    assert (
        "encoders.net.settings.classes: own (train) has 10 classes that are not among the 10" in capsys.readouterr().err
    )
