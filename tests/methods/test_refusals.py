"""What data cannot give is refused with a reason; odd features never score NaN."""

import pytest
import torch

import methods
from methods.base import CannotRun, Features, Head
from methods.vectors.head import positive
from tests.methods.test_posthoc import CLASSES, HEAD, LABELS, TEST, TEST_Z, TRAIN, TRAIN_Z, WIDTH, features, same, score
from tests.methods.test_toy import TRAIN as TOY
from tests.methods.test_toy import toy


def test_a_class_that_nobody_is_predicted_as() -> None:
    level = HEAD.bias - TRAIN.logits.mean(dim=0)
    labels = Head(HEAD.weight, level)(TRAIN_Z).argmax(dim=1)
    head = Head(HEAD.weight, level - 1e4 * torch.nn.functional.one_hot(torch.tensor(4), CLASSES) + 9)
    train, x = features(TRAIN_Z, head, labels), features(TEST_Z, head)
    for name in ("she", "openmax"):
        with pytest.raises(CannotRun, match="class 4 has none"):
            score(name, x, train)
    for name in ("caref", "cadref"):
        centres = methods.create(name).fit(train).state()["centres"]
        same(centres[4], TRAIN_Z.double().mean(dim=0), rtol=1e-9)
        assert bool(centres.isfinite().all())


def test_energies_below_zero_are_refused() -> None:
    head = Head(HEAD.weight, HEAD.bias - 9)
    train = features(TRAIN_Z, head, LABELS)
    for name in ("nnguide", "cadref"):
        with pytest.raises(CannotRun, match="needs energies above 0"):
            score(name, TEST, train)
    assert bool(score("cadref", features(TEST_Z, head), train, confidence="gen").isfinite().all())
    below = score("cadref", features(TEST_Z, head), TRAIN)  # a test image's: far, and finite
    assert bool(below.isfinite().all())
    assert float(below.max()) > 1e6


def test_more_than_the_data_has() -> None:
    for name, settings, message in (
        ("residual", {"dim": WIDTH}, f"dim is {WIDTH}; it must be below the embedding's {WIDTH}"),
        ("kpca", {"components": WIDTH}, f"needs more than {WIDTH} directions; there are {WIDTH}"),
        ("nnguide", {"k": 501}, "needs 501 training images; there are 500"),
        ("cfood", {"alpha": 0.001}, "needs 2 reference points"),
        ("scale", {"percentile": 99.9}, "leaves none"),
        ("lts", {"percentile": 99.9}, "leaves none"),
        ("ddu", {}, f"needs more than {WIDTH} images of each class; class 0 has 50"),
    ):
        with pytest.raises(CannotRun, match=message):
            score(name, **settings)
    with pytest.raises(CannotRun, match="the same weights"):
        score("fdbd", TEST, features(TRAIN_Z, Head(HEAD.weight[[0, 0, 1]], HEAD.bias[:3])))
    for name in ("fdbd", "pnml"):
        with pytest.raises(CannotRun, match="at least two classes"):
            score(name, TEST, features(TRAIN_Z, Head(HEAD.weight[:1], HEAD.bias[:1])))
    with pytest.raises(ValueError, match="lower is 60; it must be at most upper, 50"):
        methods.create("vra", lower=60, upper=50)


def test_what_is_just_enough_is_not_refused() -> None:
    assert methods.create("vra", lower=50, upper=50).fit(TRAIN)
    assert bool(score("cfood", TEST, TRAIN[:4], alpha=0.5).isfinite().all())  # 2 reference points
    with pytest.raises(CannotRun, match="1 of 2 training images have less"):
        positive(torch.tensor([0.0, 1]))


def test_no_row_clips_every_activation_to_one_value() -> None:
    """19 of 20 activations are 0: so is the 90th percentile, and behind it every image gives the bias alone."""
    z = torch.zeros(40, 20)
    z[torch.arange(40), torch.arange(40) % 20] = 1
    train = Features(embedding=z, head=Head(torch.eye(20), torch.zeros(20)))
    for name, settings in (("react", {}), ("vra", {"preset": "openood"}), ("vra", {"upper": 80})):
        with pytest.raises(CannotRun, match="of the training activations is their smallest: clipped so, all images"):
            methods.create(name, **settings).fit(train)
    for name, settings in (("react", {"percentile": 96}), ("vra", {"upper": 96})):
        method = methods.create(name, **settings).fit(train)
        scores = method.score(Features(embedding=torch.cat([z[:1], z[:2].amax(dim=0)[None]]), head=train.head))
        assert float(scores[0]) > float(scores[1])  # of two activations the energy is more
    with pytest.raises(CannotRun, match="no weight contributes more than percentile 90: all images score alike"):
        methods.create("dice").fit(Features(embedding=torch.zeros(4, 20), head=train.head))


def test_ddu_refuses_what_memory_cannot_hold() -> None:
    z = torch.zeros(1, 2048).expand(1000, -1)  # no memory of its own
    train = Features(embedding=z, labels=torch.arange(1000))
    for preset in (None, "pytorch-ood"):
        with pytest.raises(CannotRun, match="1000 classes in 2048 dimensions take 33,554,432,000 bytes"):
            methods.create("ddu", preset=preset).fit(train)


def test_the_toy_without_a_class() -> None:
    assert bool(score("caref", toy([(2, 1, 1, 0)]), TOY[[0, 1, 3]]).isfinite().all())
