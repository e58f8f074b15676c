"""Invariances of detectors, and limits in which one is another."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import methods
from methods.base import Features, Head
from tests.methods.test_posthoc import CLASSES, HEAD, LABELS, TEST, TEST_Z, TRAIN, TRAIN_Z, WIDTH, features, same, score


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


@pytest.mark.parametrize("percentile", [60, 77.3, 85, 95])
def test_adascale_of_one_percentile_is_scale_and_lts(percentile: float) -> None:
    held = features(TRAIN_Z[:50])
    train, x = (replace(of, extras={"perturbed": of.embedding}) for of in (held, TEST))
    for variant, name in (("a", "scale"), ("l", "lts")):
        found = score("adascale", x, train, variant=variant, p_min=percentile, p_max=percentile)
        same(found, score(name, percentile=percentile), rtol=1e-5)
    none = replace(features(-TEST_Z), extras={"perturbed": TEST_Z})  # no entry above 0: a factor of 1
    same(score("adascale", none, train, variant="l"), score("ebo", none), rtol=1e-5)


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
    spread = torch.randn(200, WIDTH, generator=torch.Generator().manual_seed(5))
    ends = methods.create("optfs").fit(features(spread)).state()["edges"][[0, -1]]
    same(ends, np.quantile(spread.numpy(), (0.001, 0.999)))
    beyond = features(torch.full((1, WIDTH), 1.01 * float(high)))
    same(method.score(beyond), -HEAD.bias.double().logsumexp(dim=0, keepdim=True))


def test_nac_of_its_own_images_where_one_is_enough() -> None:
    same(score("nac", TRAIN, full=0.1), np.full(len(TRAIN), -1.0))


def test_weiper_without_perturbation_has_copies_of_the_logits() -> None:
    method: Any = methods.create("weiper", delta=0, copies=3).fit(TRAIN)
    copies = torch.cat(list(method._perturbed(HEAD, lambda: iter([TEST_Z.double()]))), dim=1)
    same(copies, TEST.logits.repeat_interleave(3, dim=1), rtol=1e-4, atol=1e-5)
    confidence = methods.create("weiper", delta=0, copies=3, l1=0, l2=1).load_state(method.state()).score(TEST)
    without = methods.create("weiper", delta=0, copies=3, l1=0, l2=0).load_state(method.state()).score(TEST)
    same(without - confidence, TEST.logits.softmax(dim=1).amax(dim=1), rtol=1e-5)


def test_weiper_by_hand() -> None:
    method: Any = methods.create("weiper", copies=4).fit(TRAIN, seed=2)

    def perturbed(z: Tensor) -> Any:
        return torch.cat(list(method._perturbed(HEAD, lambda: iter([z.double()]))), dim=1).numpy()

    def kl(typical: Any, rows: Any, before: int, after: int, epsilon: float) -> Any:
        ends = np.linspace(typical.min(), typical.max(), 101)
        q = np.histogram(typical, ends)[0] / typical.size + epsilon  # its last bin is closed, as ours
        q /= q.sum()
        found = []
        for row in rows:
            counts = np.histogram(row, ends)[0] / row.size  # what is outside is in the divisor
            padded = np.pad(counts, (before, after), mode="edge")
            p = np.convolve(padded, np.full(before + after + 1, 1 / (before + after + 1)), mode="valid") + epsilon
            p /= p.sum()
            found.append(np.sum(p * np.log(p / q)) + np.sum(q * np.log(q / p)))
        return np.array(found)

    f, x = perturbed(TRAIN_Z), perturbed(TEST_Z)
    wide = 1.5 * TEST_Z.double()  # leaves the range of the training images
    confidence = torch.tensor(x).reshape(len(x), -1, 4).softmax(dim=1).amax(dim=1).mean(dim=1).numpy()
    of_z, of_f = kl(TRAIN_Z.double().numpy(), TEST_Z.double().numpy(), 1, 2, 0.01), kl(f, x, 7, 7, 0.025)
    same(method.score(TEST), of_z + 2.5 * of_f - 0.1 * confidence, rtol=1e-9)
    assert float(wide.max()) > float(TRAIN_Z.max())
    x, found = perturbed(wide), method.score(Features(embedding=wide, head=HEAD))
    confidence = torch.tensor(x).reshape(len(x), -1, 4).softmax(dim=1).amax(dim=1).mean(dim=1).numpy()
    of_z = kl(TRAIN_Z.double().numpy(), wide.float().double().numpy(), 1, 2, 0.01)
    same(found, of_z + 2.5 * kl(f, x, 7, 7, 0.025) - 0.1 * confidence, rtol=1e-5)


def test_weiper_perturbs_each_row_by_its_own_length() -> None:
    method: Any = methods.create("weiper", delta=1.8, copies=2).fit(TRAIN)
    moved = torch.cat(
        list(method._perturbed(Head(HEAD.weight, torch.zeros(CLASSES)), lambda: iter([torch.eye(WIDTH).double()]))),
        dim=1,
    )
    step = (moved.T - HEAD.weight.double().repeat_interleave(2, dim=0)).norm(dim=1)
    same(step, 1.8 * HEAD.weight.double().norm(dim=1).repeat_interleave(2), rtol=1e-6)
    assert not torch.allclose(moved[:, ::2], moved[:, 1::2])
