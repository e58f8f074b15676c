"""The details of methods.md that decide numbers, its invariances and limits, and what data cannot give."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import methods
from methods import ddu
from methods.base import CannotRun, Features, Head
from methods.vectors.head import probabilities
from tests.methods.test_posthoc import CLASSES, HEAD, LABELS, TEST, TEST_Z, TRAIN, TRAIN_Z, WIDTH, same, score
from tests.methods.test_toy import TRAIN as TOY
from tests.methods.test_toy import toy

POST_HOC = [name for name in methods.names() if {"embedding", "logits"} & set(methods.get(name).reads)]
SMALL: dict[str, dict[str, Any]] = {"ddu": {"jitter": 0.1}, "weiper": {"copies": 5}, "cfood": {"alpha": 0.5}}


def features(z: Tensor, head: Head = HEAD, labels: Any = None, **more: Any) -> Features:
    return Features(embedding=z, logits=head(z), head=head, labels=labels, **more)


# Invariances


@pytest.mark.parametrize("name", ["gen", "entropy", "tempscale"])
def test_a_constant_added_to_logits_changes_nothing(name: str) -> None:
    moved = [Features(logits=x.logits.double() + 7, labels=x.labels) for x in (TRAIN, TEST)]
    same(score(name, moved[1], moved[0]), score(name), rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "settings"),
    [("mahalanobis", {"normalise": True}), ("rmds", {"normalise": True}), ("ctm", {}), ("kpca", {})],
)
def test_size_of_an_image_changes_nothing(name: str, settings: dict[str, Any]) -> None:
    longer = features(TEST_Z * torch.linspace(0.5, 3, len(TEST_Z))[:, None])
    same(score(name, longer, **settings), score(name, **settings), rtol=1e-4)


def test_fdbd_at_twice_the_size() -> None:
    head = Head(HEAD.weight, torch.zeros(CLASSES))
    once, twice = (score("fdbd", features(s * TEST_Z, head), features(s * TRAIN_Z, head)) for s in (1, 2))
    same(twice, once, rtol=1e-5)


@pytest.mark.parametrize("name", ["mahalanobis", "rmds", "ddu"])
def test_affine_maps_change_nothing(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    matrix, shift = torch.randn(8, 8, generator=generator).double(), torch.randn(8, generator=generator).double()
    z, x = TRAIN_Z[:, :8].double(), TEST_Z[:, :8].double()
    train, test = Features(embedding=z, labels=LABELS), Features(embedding=x)
    mapped = Features(embedding=z @ matrix + shift, labels=LABELS), Features(embedding=x @ matrix + shift)
    constant = float(matrix.det().abs().log()) if name == "ddu" else 0  # a density's
    same(score(name, mapped[1], mapped[0]), score(name, test, train) + constant, rtol=1e-3)


@pytest.mark.parametrize("name", ["nnguide", "relation"])
def test_the_order_of_the_bank_changes_nothing(name: str) -> None:
    order = torch.randperm(len(TRAIN), generator=torch.Generator().manual_seed(0))
    whole = {"share": 1.0} if name == "nnguide" else {}
    same(score(name, TEST, TRAIN[order], **whole), score(name, **whole), rtol=1e-9)


# Limits


def test_without_pruning_scale_and_lts_are_energies() -> None:
    same(score("scale", percentile=0), -(np.e * TEST_Z @ HEAD.weight.T + HEAD.bias).logsumexp(dim=1))
    same(score("lts", percentile=0), score("ebo"))


def test_without_ends_vra_is_the_energy() -> None:
    for below in ("zero", "clip"):
        method = methods.create("vra", below=below)
        ends = {"low": torch.tensor(-torch.inf), "high": torch.tensor(torch.inf)}
        same(method.load_state(ends).score(TEST), score("ebo"))


def test_openood_vra_is_react_on_relu_features() -> None:
    same(methods.create("vra", preset="openood").fit(TRAIN).score(TEST), score("react", percentile=90))


def test_vra_reads_validation_where_there_is_one() -> None:
    held = features(TRAIN_Z[:200])
    with_it = Features(embedding=TRAIN_Z, head=HEAD, validation=held)
    assert torch.equal(score("vra", TEST, with_it), score("vra", TEST, held))
    assert not torch.equal(score("vra", TEST, with_it), score("vra"))


def test_optfs_with_bins_for_everything_and_one_weight_is_the_energy() -> None:
    method: Any = methods.create("optfs").fit(TRAIN)
    method.edges = torch.linspace(-1, 100, 101).double()
    method.theta = torch.ones_like(method.theta)
    same(method.score(TEST), score("ebo"))
    assert float(methods.create("optfs").fit(TRAIN).state()["theta"].norm()) == pytest.approx(1000)


def test_optfs_has_no_weight_outside_its_bins() -> None:
    method: Any = methods.create("optfs").fit(TRAIN)
    low, high = np.quantile(TRAIN_Z.numpy(), (0.001, 0.999))
    assert (float(method.edges[0]), float(method.edges[-1])) == pytest.approx((low, high))
    same(method.edges.diff(), np.full(100, (high - low) / 100))
    beyond = features(torch.full((1, WIDTH), 1.01 * float(high)))
    same(method.score(beyond), -HEAD.bias.double().logsumexp(dim=0, keepdim=True))


def test_nac_of_its_own_images_where_one_is_enough() -> None:
    same(score("nac", TRAIN, full=0.1), np.full(len(TRAIN), -1.0))


def test_weiper_without_perturbation_has_copies_of_the_logits() -> None:
    method: Any = methods.create("weiper", delta=0, copies=3).fit(TRAIN)
    copies = torch.cat(list(method._perturbed(TEST_Z.double(), HEAD)), dim=1)
    same(copies, TEST.logits.repeat(1, 3), rtol=1e-4, atol=1e-5)
    confidence = methods.create("weiper", delta=0, copies=3, l1=0, l2=1).load_state(method.state()).score(TEST)
    without = methods.create("weiper", delta=0, copies=3, l1=0, l2=0).load_state(method.state()).score(TEST)
    same(without - confidence, TEST.logits.softmax(dim=1).amax(dim=1), rtol=1e-5)


# Details


def test_gen_of_confident_images() -> None:
    # 1 - p is 0 in float32, and in float64 from a gap of 37 on
    x = Features(logits=torch.tensor([[60.0, 0, 0], [50, 0, 0]]))
    small = 2 * np.exp([-60.0, -50.0])
    same(score("gen", x), small**0.1 + 2 * (small / 2) ** 0.1, rtol=1e-6)
    p, rest = probabilities(x.logits)
    same(rest[:, 0], small, rtol=1e-9)
    same(rest[:, 1], 1 - p[:, 1])


def test_tempscale_keeps_its_resolution() -> None:
    method = methods.create("tempscale").load_state({"temperature": torch.tensor(1.0).double()})
    scores = method.score(Features(logits=torch.tensor([[17.0, 0], [18, 0], [30, 0]])))
    assert len(scores.unique()) == 3  # float32's largest p is 1 for all
    same(scores + 1, np.exp([-17.0, -18, -30]), rtol=1e-3)


def test_tempscale_reads_validation_where_there_is_one() -> None:
    right = Features(logits=TRAIN.logits, labels=TRAIN.logits.argmax(dim=1))
    with pytest.raises(CannotRun, match="all 500 images of the fit are classified right"):
        methods.create("tempscale").fit(right)
    held = Features(logits=right.logits, labels=right.labels, validation=TRAIN)
    assert methods.create("tempscale").fit(held).state() == methods.create("tempscale").fit(TRAIN).state()


def test_nnguide_draws_its_bank_by_class() -> None:
    # a list that is sorted by class, as OpenOOD's: its first 1 % are of one class
    labels = torch.arange(CLASSES).repeat_interleave(500)
    z = torch.nn.functional.one_hot(labels, WIDTH).float()
    method: Any = methods.create("nnguide").fit(
        Features(embedding=z, labels=labels, head=Head(HEAD.weight, HEAD.bias + 9))
    )
    of_class = (method.bank[:, :CLASSES] > 0).sum(dim=0).tolist()
    assert of_class == [5] * CLASSES


def test_nnguide_banks_are_never_too_small() -> None:
    for k, size in ((1, 20), (10, 20), (100, 100)):  # 500 images of 10 classes: 1 % is .5 a class
        assert len(methods.create("nnguide", k=k).fit(TRAIN).state()["bank"]) == size


def test_nac_draws_its_images_by_class() -> None:
    method: Any = methods.create("nac", images=100, full=100.0).fit(TRAIN)
    assert float(method.coverage.sum()) == pytest.approx(WIDTH)  # 100 images, a bin each in every feature, O of 100
    z = torch.ones(600, WIDTH)
    z[:590] = 0
    labels = torch.arange(600) % CLASSES
    labels[590:] = torch.arange(CLASSES)
    half: Any = methods.create("nac", images=10 * 120, full=1200.0).fit(Features(embedding=z, head=HEAD, labels=labels))
    assert float(half.coverage.sum()) == pytest.approx(WIDTH)  # 600 where 1,200 are asked for: O is halved


def test_relation_raises_the_product_and_compares_before() -> None:
    z = torch.tensor([[1.0, 0]])
    train = Features(embedding=torch.tensor([[0.6, 0.8]]), logits=torch.zeros(1, 4))
    x = Features(embedding=z, logits=torch.zeros(1, 4))  # r = .6 / 4 = .15
    same(score("relation", x, train, power=2), [-0.0225])
    same(score("relation", x, train, power=2, threshold=0.1), [-0.0225])
    same(score("relation", x, train, power=2, threshold=0.16), [0.0])


def test_kernel_pca_needs_the_directions_of_its_classes() -> None:
    train = Features(embedding=TRAIN_Z, labels=LABELS)
    few: dict[str, Any] = {"share": 0.01}
    assert WIDTH - methods.create("kpca", **few).fit(train).state()["beyond"].shape[1] == CLASSES - 1
    assert WIDTH - methods.create("kpca", **few, floor=False).fit(train).state()["beyond"].shape[1] == 1
    assert WIDTH - methods.create("kpca", **few).fit(Features(embedding=TRAIN_Z)).state()["beyond"].shape[1] == 1
    assert not methods.create("kpca").random_fit
    assert methods.create("kpca", kernel="rff").random_fit


def test_openmax_of_large_logits() -> None:
    # e^f is infinite from 710 on
    train = Features(logits=1000 * (TRAIN.logits - TRAIN.logits.mean(dim=0)))
    labelled = Features(logits=train.logits, labels=train.logits.argmax(dim=1))
    scores = score("openmax", train, labelled)
    assert float(train.logits.max()) > 710
    assert bool(scores.isfinite().all())
    assert len(scores.unique()) == len(scores)


def test_smallest_jitter() -> None:
    plain, dead = torch.eye(3).double(), torch.eye(3).double()
    dead[1, 1] = 0
    assert ddu._smallest_jitter(torch.stack([plain, plain])) == 0
    assert ddu._smallest_jitter(torch.stack([plain, dead])) == 1e-308
    negative = torch.diag(torch.tensor([1.0, 1, -3e-5]).double())
    assert ddu._smallest_jitter(torch.stack([plain, negative, dead])) == 1e-4
    with pytest.raises(CannotRun, match=r"class 1 has no Cholesky factor with a jitter of \.1"):
        ddu._smallest_jitter(torch.stack([plain, -plain]))


def test_a_dead_feature_that_lives_is_far_away_and_finite() -> None:
    z = torch.randn(300, 6, generator=torch.Generator().manual_seed(0))
    z[:, 2] = 0
    x = z[:2].clone()
    x[1, 2] = 3
    known, alive = score("ddu", Features(embedding=x), Features(embedding=z, labels=LABELS[:300])).tolist()
    assert known < 1e3 < 1e290 < alive < float("inf")


# What data cannot give


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


def finite_or_refused(name: str, x: Features, train: Features, **settings: Any) -> None:
    try:
        scores = score(name, x, train, **settings)
    except CannotRun:
        return
    assert bool(scores.isfinite().all())


@pytest.mark.parametrize("name", POST_HOC)
def test_one_image_a_class(name: str) -> None:
    train = features(TRAIN_Z[:CLASSES], labels=torch.arange(CLASSES))
    finite_or_refused(name, TEST, train)


@pytest.mark.parametrize("name", POST_HOC)
@pytest.mark.parametrize("kind", ["zero", "negative", "constant logits", "huge"])
def test_odd_features_never_score_nan(name: str, kind: str) -> None:
    head, z, x = HEAD, TRAIN_Z.clone(), TEST_Z.clone()
    if kind == "zero":
        z[7], x[3] = 0, 0
    elif kind == "negative":
        z, x = z - 0.7, x - 0.7
        x[0], x[1] = -1, torch.linspace(-1, 1, WIDTH)  # no positive entry, and a sum of 0
    elif kind == "constant logits":
        head = Head(torch.zeros_like(HEAD.weight), torch.zeros(CLASSES))
    else:
        x[0] = 1e6
    finite_or_refused(name, features(x, head), features(z, head, LABELS), **SMALL.get(name, {}))


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


def test_ddu_refuses_what_memory_cannot_hold() -> None:
    z = torch.zeros(1, 2048).expand(1000, -1)  # no memory of its own
    train = Features(embedding=z, labels=torch.arange(1000))
    with pytest.raises(CannotRun, match="1000 classes in 2048 dimensions take 33,554,432,000 bytes"):
        methods.create("ddu", preset="pytorch-ood").fit(train)


def test_the_toy_without_a_class() -> None:
    assert bool(score("caref", toy([(2, 1, 1, 0)]), TOY[[0, 1, 3]]).isfinite().all())
