"""The details of methods.md that decide whether numbers match."""

from typing import Any

import numpy as np
import pytest
import torch

import methods
from methods import ddu, nac, openmax
from methods.ash import ASH
from methods.base import CannotRun, Features, Head
from methods.vectors.head import probabilities
from methods.vectors.shaping import largest, ratio
from tests.methods.test_posthoc import CLASSES, HEAD, LABELS, TRAIN, TRAIN_Z, WIDTH, same, score
from tests.methods.test_toy import QUERIES


@pytest.mark.parametrize("similarity", ["inner", "cosine", "euclidean"])
def test_she_similarities(similarity: str) -> None:
    patterns = torch.tensor([[1.5, 0, 2, 0.5], [0, 1.5, 1, 0], [0, 3, 0, 0]]).double()
    method: Any = methods.create("she", similarity=similarity).load_state({"patterns": patterns})
    pattern = patterns[QUERIES.logits.argmax(dim=1)]
    z = QUERIES.embedding.double()
    wanted = {
        "inner": -(z * pattern).sum(dim=1),
        "cosine": -torch.cosine_similarity(z, pattern),
        "euclidean": (z - pattern).norm(dim=1),
    }
    same(method.score(QUERIES), wanted[similarity], rtol=1e-9)


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
    unknown = Features(logits=TRAIN.logits, labels=torch.full((len(TRAIN),), -1))
    held = Features(logits=TRAIN.logits, labels=TRAIN.labels, validation=unknown)
    for features, of in ((unknown, "training"), (held, "calibration")):
        with pytest.raises(CannotRun, match=f"needs labels; the {of} set has none"):
            methods.create("tempscale").fit(features)


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
    assert len(methods.create("nnguide", k=500).fit(TRAIN).state()["bank"]) == 500  # all that there are
    assert "k" not in methods.get("nnguide").score_only  # another k in a search or a sweep has a bank of its own


def test_nac_draws_its_images_by_class() -> None:
    method: Any = methods.create("nac", images=100, full=100.0).fit(TRAIN)
    assert float(method.coverage[0].sum()) == pytest.approx(WIDTH)  # 100 images, a bin each in every feature, O of 100
    tenths = 100 * method.coverage[0]  # counts of 10 images of each of 10 classes
    same(tenths, tenths.round(), rtol=1e-9)
    z = torch.ones(600, WIDTH)
    z[:590] = 0
    labels = torch.arange(600) % CLASSES
    labels[590:] = torch.arange(CLASSES)
    half: Any = methods.create("nac", images=10 * 120, full=1200.0).fit(Features(embedding=z, head=HEAD, labels=labels))
    assert float(half.coverage[0].sum()) == pytest.approx(WIDTH)  # 600 where 1,200 are asked for: O is halved


def test_nac_takes_an_image_of_each_class_at_least() -> None:
    method: Any = methods.create("nac", images=1, full=1.0).fit(TRAIN)
    assert float(method.coverage[0][method.coverage[0] > 0].min()) == pytest.approx(
        1 / CLASSES
    )  # 10 images, an O of 10


def test_relation_raises_the_product_and_compares_before() -> None:
    z = torch.tensor([[1.0, 0]])
    train = Features(embedding=torch.tensor([[0.6, 0.8]]), logits=torch.zeros(1, 4))
    x = Features(embedding=z, logits=torch.zeros(1, 4))  # r = .6 / 4 = .15
    same(score("relation", x, train, power=2), [-0.0225])
    same(score("relation", x, train, power=2, threshold=0.1), [-0.0225])
    same(score("relation", x, train, power=2, threshold=0.16), [0.0])
    same(score("relation", Features(embedding=z, logits=x.logits), x, threshold=0.25), [0.0])  # r is 1 / 4, not above


def test_cadref_by_gen_takes_a_tenth_of_many_classes() -> None:
    for count, m in ((20, 10), (120, 12)):
        f = torch.randn(30, count, generator=torch.Generator().manual_seed(count))
        method: Any = methods.create("cadref", confidence="gen")
        same(method._confidence(f), 1 / score("gen", Features(logits=f), gamma=0.1, m=m), rtol=1e-12)


def test_kernel_pca_draws_what_its_kernel_asks_for() -> None:
    method: Any = methods.create("kpca", kernel="rff", gamma=3.0, features=4000)
    w, u = method._draw(20, seed=1)
    assert float(w.std()) == pytest.approx(6**0.5, rel=0.02)
    assert abs(float(w.mean())) < 0.05
    assert 0 <= float(u.min()) < 0.01
    assert 2 * np.pi - 0.01 < float(u.max()) <= 2 * np.pi
    assert float(u.mean()) == pytest.approx(np.pi, rel=0.03)


def test_vra_keeps_what_is_on_an_end() -> None:
    method = methods.create("vra").load_state({"low": torch.tensor(0.5), "high": torch.tensor(2.0)})
    z = torch.zeros(1, WIDTH)
    z[0, :3] = torch.tensor([0.5, 2.0, 0.25])
    kept = z.clone()
    kept[0, 2] = 0
    x, wanted = (Features(embedding=v, logits=HEAD(v), head=HEAD) for v in (z, kept))
    same(method.score(x), score("ebo", wanted), rtol=1e-6)


def test_kernel_pca_needs_the_directions_of_its_classes() -> None:
    train = Features(embedding=TRAIN_Z, labels=LABELS)
    few: dict[str, Any] = {"share": 0.01}
    assert methods.create("kpca", **few).fit(train).state()["leading"].shape[1] == CLASSES - 1
    assert methods.create("kpca", **few, floor=False).fit(train).state()["leading"].shape[1] == 1
    assert methods.create("kpca", **few).fit(Features(embedding=TRAIN_Z)).state()["leading"].shape[1] == 1
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


def test_a_share_that_is_reached_exactly_is_enough() -> None:
    method: Any = methods.create("kpca", share=0.75, floor=False)
    assert method._enough(torch.tensor([2.0, 1, 1]), None) == 2


def test_ddu_needs_more_images_of_a_class_than_dimensions() -> None:
    for size in (49, 50, 51):  # of 50 images a class
        train = Features(embedding=torch.randn(500, size), labels=LABELS)
        if size < 50:
            assert methods.create("ddu").fit(train).state()["factors"].shape == (10, size, size)
        else:
            with pytest.raises(CannotRun, match=f"needs more than {size} images of each class; class 0 has 50"):
                methods.create("ddu").fit(train)


def test_ddu_names_the_class_with_the_fewest_images() -> None:
    labels = torch.tensor([0] * 9 + [1] * 4 + [2] * 9)
    with pytest.raises(CannotRun, match="needs more than 5 images of each class; class 1 has 4"):
        methods.create("ddu").fit(Features(embedding=torch.randn(22, 5), labels=labels))


def test_smallest_jitter() -> None:
    plain, dead = torch.eye(3).double(), torch.eye(3).double()
    dead[1, 1] = 0
    assert ddu._smallest_jitter(torch.stack([plain, plain])) == 0
    assert ddu._smallest_jitter(torch.stack([plain, dead])) == 1e-308
    assert ddu._smallest_jitter(torch.stack([dead, plain])) == 1e-308  # whichever class comes first
    negative = torch.diag(torch.tensor([1.0, 1, -3e-5]).double())
    assert ddu._smallest_jitter(torch.stack([plain, negative, dead])) == 1e-4
    assert ddu._smallest_jitter(torch.stack([dead, negative, plain])) == 1e-4
    with pytest.raises(CannotRun, match=r"class 1 has no Cholesky factor with a jitter of \.1"):
        ddu._smallest_jitter(torch.stack([plain, -plain]))


def test_a_dead_feature_that_lives_is_far_away_and_finite() -> None:
    z = torch.randn(300, 6, generator=torch.Generator().manual_seed(0))
    z[:, 2] = 0
    x = z[:2].clone()
    x[1, 2] = 3
    known, alive = score("ddu", Features(embedding=x), Features(embedding=z, labels=LABELS[:300])).tolist()
    assert known < 1e3 < 1e290 < alive < float("inf")


def test_constants_of_the_sources() -> None:
    assert openmax.SHIFT == 10_000  # libmr's translate_amount
    assert (ddu.JITTERS[0], ddu.JITTERS[1], ddu.JITTERS[-1]) == (0, 1e-308, 0.1)
    assert ddu.LARGEST == 3 * 2**30
    # the authors' edges, full bins and slopes of layer 3, 2 and 1
    layers = {
        "cifar10": [(500, 100, 1000), (50, 5, 0.001), (500, 100, 0.001)],
        "cifar100": [(1000, 500, 10), (50, 500, 1), (50, 5, 0.005)],
        "imagenet": [(50, 500, 300), (500, 50, 0.01), (1000, 5000, 1)],
    }
    assert {name: [tuple(layer) for layer in of][::-1] for name, of in nac._INNER.items()} == layers
    wrong = Features(logits=torch.tensor([[1.0, 0], [0, 1]]), labels=[1, 0])  # the flatter, the better
    assert float(methods.create("tempscale").fit(wrong).state()["temperature"]) == pytest.approx(10, abs=1e-3)
    sharp = Features(logits=torch.tensor([[0.01, 0]]).expand(99, 2), labels=[1, *[0] * 98])  # 98 to 1, by .01
    assert float(methods.create("tempscale").fit(sharp).state()["temperature"]) == pytest.approx(0.1, abs=1e-5)


@pytest.mark.parametrize("name", ["pnml", "mahalanobis"])
def test_small_directions_of_normalised_features_are_kept(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(200, 4, generator=generator) * torch.tensor([1, 1, 1, 3e-7])  # a variance of 1e-13
    train = Features(embedding=z, head=Head(torch.eye(4)[:2], torch.zeros(2)))
    settings = {"normalise": True} if name == "mahalanobis" else {}
    state = methods.create(name, **settings).fit(train).state()
    assert state["projection" if name == "pnml" else "whitening"].shape[1] == 4


def test_half_an_entry_is_rounded_to_even() -> None:
    # 10 entries at 25 % and 35 %: 2.5 and 3.5 are removed, so 8 and 6 kept
    z = torch.arange(10.0, 0, -1)[None]
    x = Features(embedding=z, logits=HEAD(torch.ones(1, WIDTH)), head=Head(torch.ones(2, 10), torch.zeros(2)))
    for percentile, kept in ((25, 8), (35, 6)):
        r = 55 / float(z[0, :kept].sum())
        same(score("scale", x, percentile=percentile), [-55 * np.exp(r) - np.log(2)], rtol=1e-6)
        same(score("lts", x, percentile=percentile), score("ebo", Features(logits=x.logits * r**2)), rtol=1e-6)


def test_small_activations_are_scaled_as_large_ones() -> None:
    z = torch.tensor([[0.004, 0.003, 0.002, 0.001]])
    for factor in (1, 1000):
        same(ratio(factor * z, largest(factor * z, 50)[0], otherwise=0), [10 / 7])


def test_scale_and_lts_without_a_positive_entry() -> None:
    z = -torch.ones(1, WIDTH)
    x = Features(embedding=z, logits=HEAD(z), head=HEAD)
    same(score("scale", x), score("ebo", x))  # as ASH: a factor of 1
    same(score("lts", x), score("ebo", x))


@pytest.mark.parametrize("variant", ["s", "b", "p"])
def test_ash_keeps_the_first_of_equal_activations_at_the_cut(variant: str) -> None:
    # 4 of 8 are kept: 5, 4 and the first two of the five 2.
    z = torch.tensor([[2.0, 5, 2, 0, 2, 4, 2, 2]])
    shaped, _ = ASH(variant=variant, percentile=50).shape(z)
    assert shaped[0].nonzero()[:, 0].tolist() == [0, 1, 2, 5]


def test_ash_and_a_whole_sort_keep_the_same() -> None:
    z = torch.randint(4, (50, 33), generator=torch.Generator().manual_seed(0)).float()
    order = z.argsort(dim=1, descending=True, stable=True)
    kept = 33 - round(33 * 0.9)
    expected = torch.zeros_like(z).scatter(1, order[:, :kept], z.gather(1, order[:, :kept]))
    assert torch.equal(ASH(variant="p", percentile=90).shape(z)[0], expected)
