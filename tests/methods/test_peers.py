"""The detectors of methods.md against pytorch-ood 0.4.0, and what it has not against scikit-learn, scipy and numpy."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from pytorch_ood import detector as oracle
from scipy.stats import multivariate_normal, weibull_min
from sklearn.decomposition import PCA
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import PowerTransformer

import methods
from methods import nac, openmax
from methods.base import Features, Head
from methods.encoders.inside import gram
from tests.methods.test_posthoc import HEAD, LABELS, LINEAR, TEST, TEST_Z, TRAIN, TRAIN_Z, maps, on_maps, same, score

UNIT_TRAIN, UNIT_TEST = (torch.nn.functional.normalize(z, dim=1) for z in (TRAIN_Z, TEST_Z))
# a head that predicts every class, and labels of which nine in ten are right
LEVEL = Head(HEAD.weight, HEAD.bias - TRAIN.logits.mean(dim=0))
MOSTLY = torch.where(torch.arange(500) % 10 == 0, LABELS, LEVEL(TRAIN_Z).argmax(dim=1))
SURE, ASKED = (
    Features(embedding=z, logits=LEVEL(z), head=LEVEL, labels=y) for z, y in ((TRAIN_Z, MOSTLY), (TEST_Z, None))
)


# pytorch-ood


def test_entropy() -> None:
    same(score("entropy"), oracle.Entropy(None).predict_logits(TEST.logits), rtol=1e-4)  # theirs clips p at 1e-7


@pytest.mark.parametrize("m", [3, 10, 100])
def test_gen(m: int) -> None:
    # Theirs is the mean over M: the same order.
    theirs = oracle.GEN(None, gamma=0.1, M=min(m, 10)).predict_logits(TEST.logits)
    same(score("gen", m=m), min(m, 10) * theirs, rtol=1e-3)  # theirs clips p at 1e-7, and p^.1 is .2 there


def test_tempscale() -> None:
    # Their optimiser stops after 50 steps of .01: its temperature is worse, its score at that temperature the same.
    theirs = oracle.TemperatureScaling(None)
    theirs.fit_logits(SURE.logits, MOSTLY)
    ours = methods.create("tempscale").fit(SURE)

    def loss(temperature: torch.Tensor) -> float:
        return float(torch.nn.functional.cross_entropy(SURE.logits.double() / temperature, MOSTLY))

    found, given = ours.state()["temperature"], theirs.t.detach().double()
    assert loss(found) <= loss(given)
    assert all(loss(found) < loss(found * factor) for factor in (0.99, 1.01))
    same(ours.load_state({"temperature": given}).score(TEST), theirs.predict_logits(TEST.logits).detach())


def test_she() -> None:
    theirs = oracle.SHE(None, LEVEL).fit_features(TRAIN_Z, MOSTLY)
    same(score("she", ASKED, SURE), theirs.predict_features(TEST_Z))


def test_rmds() -> None:
    # Theirs takes the scatter in the place of the covariance: a factor N. It also adds 1e-6 to its diagonal.
    theirs = oracle.RMD(None).fit_features(TRAIN_Z, LABELS).predict_features(TEST_Z)
    same(score("rmds"), len(TRAIN) * theirs, rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize(("name", "of", "factor"), [("mahalanobis", oracle.Mahalanobis, 2), ("rmds", oracle.RMD, 1)])
def test_normalised(name: str, of: Any, factor: int) -> None:
    theirs = of(None).fit_features(UNIT_TRAIN, LABELS).predict_features(UNIT_TEST)
    same(score(name, normalise=True), factor * len(TRAIN) * theirs, rtol=1e-3, atol=2e-2)


@pytest.mark.parametrize("k", [1, 10, 100])
def test_nnguide(k: int) -> None:
    theirs = oracle.NNGuide(None, LINEAR, k=k).fit_features(TRAIN_Z, LABELS)  # its bank is all that it is given
    same(score("nnguide", k=k, share=1), theirs.predict_features(TEST_Z))


def test_fdbd() -> None:
    same(score("fdbd"), oracle.fDBD(None, LINEAR).fit_features(TRAIN_Z).predict_features(TEST_Z), rtol=1e-4)


@pytest.mark.parametrize("alpha", [0, 0.01])
def test_nci(alpha: float) -> None:
    theirs = oracle.NCI(None, LINEAR, alpha=alpha).fit_features(TRAIN_Z).predict_features(TEST_Z)
    same(score("nci", alpha=alpha), theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("percentile", [0, 65, 85, 95])
def test_scale(percentile: int) -> None:
    theirs = oracle.SCALE(None, on_maps, percentile=percentile / 100).predict_feature_maps(maps(TEST_Z))
    same(score("scale", percentile=percentile), theirs)


def test_lts() -> None:
    same(score("lts"), oracle.LTS(None, LINEAR).predict_features(TEST_Z))
    negative = torch.randn(50, TEST_Z.shape[1], generator=torch.Generator().manual_seed(4))
    x = Features(embedding=negative, logits=HEAD(negative))
    same(score("lts", x), oracle.LTS(None, LINEAR).predict_features(negative))


def test_vra() -> None:
    theirs = oracle.VRA(None, on_maps).fit_feature_maps(maps(TRAIN_Z), LABELS).predict_feature_maps(maps(TEST_Z))
    same(methods.create("vra", preset="pytorch-ood").fit(TRAIN).score(TEST), theirs)


def test_pnml() -> None:
    # Theirs takes float32's pseudo-inverse, which on real features drops most directions; here it drops none.
    theirs = oracle.PNML(None, LINEAR).fit_features(TRAIN_Z, LABELS).predict_features(TEST_Z)
    same(score("pnml"), theirs, rtol=1e-4, atol=1e-5)


def test_gmm() -> None:
    train = Features(embedding=TRAIN_Z[:, :20], labels=LABELS)
    theirs = oracle.GMM(None).fit_features(TRAIN_Z[:, :20], LABELS).predict_features(TEST_Z[:, :20])
    same(methods.create("ddu", preset="pytorch-ood").fit(train).score(Features(embedding=TEST_Z[:, :20])), theirs)


def test_openmax() -> None:
    # Theirs fits on all rows (here all are right), and its score depends on which classes its batch is predicted as
    # (here on all). It caps logits at 709, and the simplex search of its Weibull stops near the optimum.
    right = Features(logits=SURE.logits, labels=SURE.logits.argmax(dim=1))
    assert len(ASKED.logits.argmax(dim=1).unique()) == 10
    theirs = oracle.OpenMax(None, tailsize=20, alpha=3).fit_logits(right.logits, right.labels)
    same(score("openmax", ASKED, right).sigmoid(), theirs.predict_logits(ASKED.logits), rtol=1e-2, atol=1e-3)


def test_mcm() -> None:
    text = torch.randn(7, TEST_Z.shape[1], generator=torch.Generator().manual_seed(0))
    cosines = torch.tensor(cosine_similarity(TEST_Z.double(), text.double()))
    for tau in (1.0, 0.1):
        theirs = oracle.MCM(None, text, temperature=tau).predict_features(TEST_Z)
        same(score("mcm", Features(logits=cosines), tau=tau), theirs)


def test_gram() -> None:
    # Theirs does not divide by max p; a class with fewer than 10 images has no hold-out, and a layer's mean is 1.
    torch.manual_seed(0)
    layers, head = (
        [torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU()],
        torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3)),
    )
    x, labels = torch.randn(40, 3, 6, 6), torch.arange(24) % 3
    theirs = oracle.Gram(head, layers, num_classes=3, num_poles_list=[1, 2, 3]).to("cpu")
    theirs.fit([(x[:24], labels)])

    def ours(x: torch.Tensor, labels: Any = None) -> Features:
        maps = [layers[0](x), layers[0](x).relu()]
        found = torch.cat([gram(part.flatten(2), 3) for part in maps], dim=1)
        extras = {"extras": {"gram": found.detach()}, "extra_sizes": {"gram": (12, 12)}}
        return Features(logits=head(maps[1]).detach(), labels=labels, **extras)

    train, asked = ours(x[:24], labels), ours(x[24:])
    method = methods.create("gram", group="label").fit(replace(train, validation=train))
    found = method.load_state({**method.state(), "usual": torch.ones(2).double()}).score(asked)
    same(found * asked.logits.double().softmax(dim=1).amax(dim=1), theirs.predict(x[24:]).detach(), rtol=1e-3)


def test_nac_with_their_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    # Their bins are geometric from 1e-6, (left, right]; with the authors' in their place all else is the same.
    edges = nac.bin_edges(50)
    monkeypatch.setattr(
        "pytorch_ood.detector.nac._bin_indices_geometric", lambda s, **_: torch.searchsorted(edges, s, right=True) - 1
    )
    last, linear = torch.nn.Identity(), torch.nn.Linear(TRAIN_Z.shape[1], 10).double()
    linear.load_state_dict({"weight": HEAD.weight, "bias": HEAD.bias})
    theirs = oracle.NACUE(torch.nn.Sequential(last, linear), [last], m_bins=49, alpha=100, o_star=25)
    theirs.fit([TRAIN_Z.double().requires_grad_()])
    same(score("nac"), theirs.predict(TEST_Z.double().requires_grad_()))


# NAC by hand as well:


def test_nac() -> None:
    def signal(z: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        f = z @ HEAD.weight.double().numpy().T + HEAD.bias.double().numpy()
        p = np.exp(f) / np.exp(f).sum(axis=1, keepdims=True)
        return 1 / (1 + np.exp(-100 * z * ((p - 0.1) @ HEAD.weight.double().numpy())))

    log = np.log(np.linspace(1, np.sqrt(1000), 25)) / np.log(1000)
    edges = [*log[:-1], 0.5, *(1 - log)[::-1][1:-1], 1.01, 1.2]
    train, x = signal(TRAIN_Z.double().numpy()), signal(TEST_Z.double().numpy())
    coverage = np.zeros(len(x))
    for d in range(train.shape[1]):
        counts, _ = np.histogram(train[:, d], edges)
        coverage += np.minimum(counts / 25, 1)[np.digitize(x[:, d], edges) - 1]  # O 50 of 1,000 images, so 25 of 500
    same(score("nac"), -coverage / train.shape[1], rtol=1e-9)
    assert (train == 0.5).mean() > 0.1  # and ReLU's zeros are on an edge


# What pytorch-ood has not


@pytest.mark.parametrize(("share", "fewest"), [(0.5, 1), (0.99, 1), (0.01, 9)])
@pytest.mark.parametrize("images", [500, 40])  # of fewer than 64 the matrix of products is the smaller one
def test_kernel_pca_equals_scikit_learn(images: int, share: float, fewest: int) -> None:
    unit = UNIT_TRAIN[:images].double().numpy()
    shares = PCA().fit(unit).explained_variance_ratio_.cumsum()
    model = PCA(max(fewest, int((shares < share).sum()) + 1)).fit(unit)  # 10 classes span 9 directions
    x = UNIT_TEST.double().numpy()
    residual = np.linalg.norm(x - model.inverse_transform(model.transform(x)), axis=1)
    same(score("kpca", train=TRAIN[:images], share=share), residual, rtol=1e-5)


def test_random_features_approximate_their_kernel() -> None:
    method: Any = methods.create("kpca", preset="rff", features=20_000)
    method.frequencies, method.phases = method._draw(64, seed=0)
    phi, z = method._map(TEST_Z), UNIT_TEST.double()
    np.testing.assert_allclose(phi @ phi.T, torch.exp(-2 * torch.cdist(z, z) ** 2), atol=0.04)  # 5 / sqrt(M)


def test_residual_equals_numpy() -> None:
    origin = -np.linalg.pinv(HEAD.weight.double().numpy()) @ HEAD.bias.double().numpy()
    z, x = TRAIN_Z.double().numpy() - origin, TEST_Z.double().numpy() - origin
    _, directions = np.linalg.eigh(z.T @ z)
    same(score("residual", dim=20), np.linalg.norm(x @ directions[:, :-20], axis=1), rtol=1e-8)
    same(score("residual", dim=0), np.linalg.norm(x, axis=1), rtol=1e-9)


def test_ctm_equals_scikit_learn() -> None:
    centres = np.stack([TRAIN_Z[label == LABELS].double().mean(dim=0) for label in range(10)])
    same(score("ctm"), -cosine_similarity(TEST_Z.double(), centres).max(axis=1), rtol=1e-9)


def test_ddu_equals_scipy() -> None:
    z, x = TRAIN_Z[:, :20].double().numpy(), TEST_Z[:, :20].double().numpy()
    densities = 0
    for label in range(10):
        rows = z[LABELS.numpy() == label]
        densities = densities + multivariate_normal(rows.mean(axis=0), np.cov(rows.T)).pdf(x)
    train = Features(embedding=TRAIN_Z[:, :20], labels=LABELS)
    same(score("ddu", Features(embedding=TEST_Z[:, :20]), train), -np.log(densities), rtol=1e-8)


def test_relation_equals_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    p, q = (x.logits.double().softmax(dim=1) for x in (TEST, TRAIN))
    r = ((UNIT_TEST.double() @ UNIT_TRAIN.double().T).clamp(min=0) * (p @ q.T)).numpy()
    r[np.abs(r - 0.03) < 1e-6] = 0.03  # none: the bank is float32
    for power in (1, 4):
        wanted = -np.where(r > 0.03, r**power, 0).sum(axis=1)
        same(score("relation", power=power), wanted, rtol=1e-5)
        with monkeypatch.context() as small:
            small.setattr("methods.vectors.statistics.BLOCK", 7 * 8 * 2 * 33)  # 7 images
            small.setattr("methods.relation.BANK", 33)
            same(score("relation", power=power), wanted, rtol=1e-5)


def test_cfood_equals_numpy() -> None:
    fitted = methods.create("cfood", alpha=0.2, share=0.07, neighbours=50).fit(TRAIN, seed=5)  # .07 x 100: above 7
    reference = fitted.state()["reference"].numpy()
    x = UNIT_TEST.double().numpy()
    apart = ((reference[:, None] - reference) ** 2).sum(axis=2)
    np.fill_diagonal(apart, np.inf)
    neighbours = np.sort(apart, axis=1)[:, :50]
    away = ((x[:, None] - reference) ** 2).sum(axis=2)
    shares = (neighbours[None] >= away[:, :, None]).mean(axis=1)  # (queries, k)
    enough = shares >= 0.07
    kappa = np.where(enough.any(axis=1), (enough.argmax(axis=1) + 1) / 100, 1)
    same(fitted.score(TEST), kappa)
    assert len(reference) == 100
    assert len(np.unique(kappa)) > 5


@pytest.mark.parametrize("combination", ["n", "sqrt"])
def test_combood_equals_scikit_learn(combination: str) -> None:
    generator = torch.Generator().manual_seed(0)
    train, x = (
        Features(embedding=z, logits=logits, extras={"extremes": torch.randn(len(z), 5, generator=generator).exp() - 2})
        for z, logits in ((TRAIN_Z, TRAIN.logits), (TEST_Z, TEST.logits))
    )

    def extremes(of: Features) -> Any:
        f = of.logits.double().numpy()
        return np.c_[of.extras["extremes"].double().numpy(), f.max(axis=1), -f.min(axis=1)]

    change = PowerTransformer(method="yeo-johnson", standardize=True).fit(extremes(train))
    t, asked = change.transform(extremes(train)), change.transform(extremes(x))
    precision = np.linalg.inv(t.T @ t / len(t) + np.eye(t.shape[1]))
    squared = np.einsum("nd,de,ne->n", asked, precision, asked)
    distances = NearestNeighbors(n_neighbors=7).fit(UNIT_TRAIN.double()).kneighbors(UNIT_TEST.double())[0][:, -1]
    n = TRAIN_Z.shape[1] if combination == "n" else TRAIN_Z.shape[1] ** 0.5
    found = methods.create("combood", k=7, combination=combination).fit(train).score(x)
    same(found, squared + n * np.log(distances**2), rtol=1e-3, atol=1e-3)


def test_caref_and_cadref_by_hand() -> None:
    z, x = TRAIN_Z.double(), TEST_Z.double()
    predicted, k = TRAIN.logits.argmax(dim=1), TEST.logits.argmax(dim=1)
    centres = torch.stack([z[predicted == label].mean(dim=0) for label in range(10)])[k]
    same(score("caref"), (x - centres).abs().sum(dim=1) / x.sum(dim=1), rtol=1e-9)
    d = (x - centres) * HEAD.weight.double()[k].sign()
    up, down = d.relu().sum(dim=1) / x.sum(dim=1), (-d).relu().sum(dim=1) / x.sum(dim=1)
    confidences = {
        "energy": lambda f: f.logsumexp(dim=1),
        "msp": lambda f: f.softmax(dim=1).amax(dim=1),
        "maxlogit": lambda f: f.amax(dim=1),
        "gen": lambda f: 1 / (f.softmax(dim=1) * (1 - f.softmax(dim=1))).pow(0.1).sum(dim=1),
    }
    for name, confidence in confidences.items():
        s, typical = confidence(TEST.logits.double()), confidence(TRAIN.logits.double()).mean()
        same(score("cadref", confidence=name), up / s + down / typical, rtol=1e-5)


def test_weibull_is_the_most_likely() -> None:
    values = torch.tensor(np.random.default_rng(0).gamma(2, 3, 20)) + openmax.SHIFT
    shape, log_scale = openmax.weibull(values)

    def loss(shape: float, log_scale: float) -> float:
        return float(-weibull_min.logpdf(values.numpy(), shape, scale=np.exp(log_scale)).sum())

    best = loss(shape, log_scale)
    assert all(loss(shape * factor, log_scale) > best for factor in (0.99, 1.01))
    assert all(loss(shape, log_scale + step / shape) > best for step in (-0.01, 0.01))
    small = weibull_min.rvs(1.7, scale=2.5, size=200, random_state=0)
    theirs = weibull_min.fit(small, floc=0)
    np.testing.assert_allclose(openmax.weibull(torch.tensor(small)), (theirs[0], np.log(theirs[2])), rtol=1e-3)
