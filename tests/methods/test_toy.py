"""The worked values of methods.md: 3 classes, 4 features, 9 training images, 3 queries, every number to 4 digits.

Where a value needs less than a whole fit (given bins, given random draws), what is given is put in its place.
"""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

import methods
from methods import cfood, combood, kpca, nac, openmax, optfs
from methods.base import Features, Head
from methods.vectors.histograms import divergence

HEAD = Head(torch.tensor([[1.0, 0, 0, 1], [0, 2, 0, 0], [0, -1, 1, -1]]), torch.tensor([0, 0.5, -0.5]))
ROWS = [(3, 0, 1, 1), (2, 1, 0, 0), (4, 1, 0, 2), (0, 3, 1, 0), (1, 3, 0, 1), (0, 1, 0, 1)]
ROWS += [(0, 0, 4, 0), (1, 0, 3, 1), (0, 1, 5, 0)]


def toy(rows: Any, labels: Any = None) -> Features:
    z = torch.tensor(rows, dtype=torch.float32)
    return Features(embedding=z, logits=HEAD(z), head=HEAD, labels=labels)


TRAIN = toy(ROWS, [0, 0, 0, 1, 1, 1, 2, 2, 2])
QUERIES = toy([(2, 1, 1, 0), (0, 0, 0, 5), (1, 1, 3, 1)])


def score(name: str, **settings: Any) -> Tensor:
    return methods.create(name, **settings).fit(TRAIN).score(QUERIES)


def same(found: Tensor, wanted: Any) -> None:
    """To the digits that methods.md prints: half a unit of the fourth decimal, or of the seventh digit."""
    torch.testing.assert_close(found.double(), torch.tensor(wanted).double(), rtol=2e-6, atol=5.1e-5)


VALUES: list[tuple[str, dict[str, Any], list[float]]] = [
    ("entropy", {}, [0.7779, 0.0608, 0.8845]),
    ("gen", {}, [2.4331, 1.6221, 2.4991]),
    ("gen", {"m": 2}, [1.7308, 1.2726, 1.7308]),
    ("tempscale", {}, [-0.6580, -0.9979, -0.6378]),
    ("she", {}, [-3.3333, -7.5, -4.3333]),
    ("mahalanobis", {}, [3.3, 680.2, 7.3]),
    ("mahalanobis", {"normalise": True}, [34.5212, 91.0741, 34.4957]),
    ("rmds", {}, [-0.8007, 582.552, 5.1748]),
    ("rmds", {"normalise": True}, [23.4262, 34.6702, 15.7209]),
    ("nnguide", {"k": 2}, [-13.2832, -11.5124, -10.7458]),
    ("fdbd", {}, [-0.4735, -0.5935, -0.2685]),
    ("fdbd", {"norm": "origin"}, [-0.2263, -0.5806, -0.1165]),
    ("nci", {"alpha": 0.001}, [0.1858, -0.6410, 0.1418]),
    ("scale", {"percentile": 50}, [-8.5615, -13.5914, -9.9400]),
    ("lts", {"percentile": 50}, [-4.7922, -5.0111, -5.9145]),
    ("relation", {}, [-2.1894, -1.0021, -1.8994]),
    ("relation", {"power": 4}, [-0.0946, -0.0386, -0.0268]),
    ("caref", {}, [0.8750, 1.6, 0.7500]),
    ("cadref", {}, [0.0580, 0.2701, 0.0387]),
    ("kpca", {"components": 2}, [0.3706, 0.9970, 0.2368]),
    ("residual", {"dim": 2}, [0.8772, 4.6454, 0.4074]),
    ("residual", {}, [0.8772, 4.6454, 0.4074]),
    ("ctm", {}, [-0.8796, -0.3078, -0.9286]),
    ("pnml", {}, [0.1732, 0.3463, 0.1314]),
    ("ddu", {"jitter": 0.5}, [4.4248, 16.8305, 4.4534]),
    ("ddu", {"jitter": 0.5, "prior": True, "unbiased": False}, [5.4127, 18.9563, 5.4983]),
    ("nac", {"edges": 6, "full": 3, "slope": 1, "images": 9}, [-1, -0.9167, -0.75]),
]


@pytest.mark.parametrize(("name", "settings", "wanted"), VALUES, ids=[f"{v[0]} {v[1]}" for v in VALUES])
def test_toy_value(name: str, settings: dict[str, Any], wanted: list[float]) -> None:
    same(score(name, **settings), wanted)


def test_the_toy_itself() -> None:
    assert TRAIN.logits.argmax(dim=1).tolist() == [0, 1, 0, 1, 1, 1, 2, 0, 2]
    same(QUERIES.logits, [[2, 2.5, -0.5], [5, 0.5, -5.5], [2, 2.5, 0.5]])
    same(QUERIES.logits.logsumexp(dim=1), [3.0046, 5.0111, 3.0550])


def test_tempscale_temperature() -> None:
    method = methods.create("tempscale").fit(TRAIN)
    assert float(method.state()["temperature"]) == pytest.approx(0.72877, abs=5e-6)


def test_nac_signal() -> None:
    z = QUERIES.embedding[:1].double()
    gradient = (QUERIES.logits[:1].double().softmax(dim=1) - 1 / 3) @ HEAD.weight.double()
    same(gradient, [[0.0329, 0.8441, -0.3033, 0.3361]])
    # the closed form is the gradient of KL(uniform | p), whose other terms z does not move
    z.requires_grad_()
    (-(z @ HEAD.weight.double().T + HEAD.bias.double()).log_softmax(dim=1).mean(dim=1)).sum().backward()
    assert z.grad is not None
    same(z.grad, gradient.tolist())


def test_nac_edges() -> None:
    same(nac.bin_edges(6), [0, 0.4042, 0.5, 0.5958, 1.01, 1.2])


def test_pnml_projection() -> None:
    z = QUERIES.embedding.double()
    h = (z / z.norm(dim=1, keepdim=True) @ methods.create("pnml").fit(TRAIN).state()["projection"]).square().sum(dim=1)
    same(h, [0.46508, 1.88148, 0.28921])


def test_residual_origin() -> None:
    same(methods.create("residual").fit(TRAIN).state()["origin"], [0.0833, -0.25, 0.1667, -0.0833])


def test_cadref_typical_energy() -> None:
    same(methods.create("cadref").fit(TRAIN).state()["typical"], 4.3102)


def test_corp_with_given_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    w, u = 2 * torch.eye(4).double(), torch.tensor([0, math.pi / 2, 0, math.pi / 2]).double()
    monkeypatch.setattr(kpca.KernelPCA, "_draw", lambda *_: (w, u))
    same(score("kpca", kernel="rff", components=2), [0.4146, 0.6745, 0.2873])


def test_optfs_with_given_bins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optfs.OptFS, "_edges", lambda *_: torch.tensor([0, 2, 4, 6]).double())
    method = methods.create("optfs", bins=3).fit(TRAIN)
    importance = torch.tensor([6, 17, 13]).double() / 9  # .6667, 1.8889, 1.4444
    same(method.state()["theta"], [0, *(1000 * importance / importance.norm()).tolist(), 0])  # 269.95, 764.87, 584.90
    same(method.score(QUERIES), [-1529.732, -2924.488, -1754.193])


@pytest.mark.parametrize(
    ("below", "wanted"), [("zero", [-3.0046, -2.6305, -3.0239]), ("clip", [-3.2081, -3.2034, -3.0239])]
)
def test_vra_with_given_ends(below: str, wanted: list[float]) -> None:
    method = methods.create("vra", below=below)
    same(method.load_state({"low": torch.tensor(0.5), "high": torch.tensor(2.5)}).score(QUERIES), wanted)


def test_openmax_with_given_weibull_values() -> None:
    odds = openmax.unknown(QUERIES.logits[:1].double(), torch.tensor([[0.5, 0.2, 0.9]]).double(), alpha=2)
    same(odds.sigmoid(), [0.17889])


def test_weiper_divergence() -> None:
    p, q = torch.tensor([[0.75, 0.25]]).double(), torch.tensor([0.5, 0.5]).double()
    same(divergence(p, q, 0.01), [0.26290])


REFERENCES = torch.tensor([(1, 0), (1, 0.2), (1, 0.5), (0.3, 1), (0, 1)])


@pytest.mark.parametrize(
    ("query", "shares"), [((1.0, 0.1), [0.4, 0.6, 0.6, 1]), ((-1.0, 0.0), [0, 0, 0, 0.2])], ids=["near", "far"]
)
def test_cfood_shares(query: tuple[float, float], shares: list[float]) -> None:
    x = Features(embedding=torch.tensor([query]))
    for share in (0.01, 0.2, 0.4, 0.6, 1.0):
        method = methods.create("cfood", alpha=1.0, share=share).fit(Features(embedding=REFERENCES))
        assert isinstance(method, cfood.CFOOD)
        enough = [k for k, found in enumerate(shares, 1) if found >= share]
        assert float(method.score(x)) == pytest.approx(min(enough, default=5) / 5)


# methods that read what a network gives when it runs otherwise; the encoders' own values: tests/methods/encoders/


ADASCALE = {"k1": 0.5, "k2": 0.25, "p_min": 60.0, "p_max": 85.0}
MOVED = [(1.9, 1.2, 1, 0.1), (0.5, 0, 0.5, 3), (1, 1, 2.8, 1)]


def ask(**extras: Any) -> Features:
    z = QUERIES.embedding
    return Features(embedding=z, logits=QUERIES.logits, head=HEAD, extras=extras)


@pytest.mark.parametrize(
    ("variant", "wanted"), [("a", [-15.7522, -13.5914, -15.7523]), ("l", [-10.1269, -5.0111, -10.1272])]
)
def test_adascale(variant: str, wanted: list[float]) -> None:
    method: Any = methods.create("adascale", variant=variant, **ADASCALE)
    method.load_state({"quantities": torch.tensor([2, 3, 4, 6, 8]).double()})
    asked = ask(perturbed=torch.tensor(MOVED))
    same(method._quantity(asked), [4.1, 23.5, 5.8])
    same(method.score(asked), wanted)


def test_gram_deviation() -> None:
    """One layer of two channels, one power; the range of the predicted class comes from two training images."""
    train = Features(
        logits=torch.tensor([[1.0, 0], [1, 0]]),
        extras={"gram": torch.tensor([[4.0, 9], [5, 6]])},
        validation=Features(logits=torch.tensor([[1.0, 0]]), extras={"gram": torch.tensor([[4.0, 6]])}),
    )
    asked = Features(logits=torch.tensor([[0.0, -math.inf]]), extras={"gram": torch.tensor([[6.0, 12]])})
    same(methods.create("gram").fit(train).score(asked), [0.2 + 0.3333])


def test_gram_of_two_layers_each_by_its_usual_deviation() -> None:
    """Ranges are 0 alone and 2 to 4; the calibration images leave them by 2 and .5 on average."""
    logits = torch.tensor([[1.0, 0], [1, 0]])
    known = {"extras": {"gram": torch.tensor([[0.0, 2], [0, 4]])}, "extra_sizes": {"gram": (1, 1)}}
    held = {"extras": {"gram": torch.tensor([[-1e-6, 6], [3e-6, 3]])}, "extra_sizes": {"gram": (1, 1)}}
    train = Features(logits=logits, validation=Features(logits=logits, **held), **known)
    asked = Features(logits=torch.tensor([[0.0, -math.inf]]), extras={"gram": torch.tensor([[5e-6, 1]])}, **{
        "extra_sizes": {"gram": (1, 1)}
    })  # fmt: skip
    method = methods.create("gram").fit(train)
    same(method.state()["usual"], [(1 + 3) / 2, (0.5 + 0) / 2])
    same(method.score(asked), [5 / 2 + 0.5 / 0.25])


def cosines(image: Any, *texts: Any) -> Tensor:
    return torch.nn.functional.cosine_similarity(torch.tensor([image]).double(), torch.tensor(texts).double())[None]


COSINES = cosines((2.0, 1.0), (1.0, 0.0), (0.0, 1.0))


def test_mcm_and_glmcm() -> None:
    same(COSINES, [[0.8944, 0.4472]])
    same(methods.create("mcm").score(Features(logits=COSINES)), [-0.6100])
    locals_ = torch.cat([cosines(part, (1.0, 0.0), (0.0, 1.0)) for part in ((1.0, 0.0), (1.0, 1.0), (0.0, -1.0))])
    local = locals_.softmax(dim=1).amax().view(1, 1)
    same(-local, [[-0.7311]])
    x = Features(logits=COSINES, extras={"local": local})
    same(methods.create("glmcm").score(x), [-0.9755])
    for tau in (1.0, 0.2):  # of the whole image; that of its parts is the encoder's
        found = methods.create("glmcm", weight=0.0, tau=tau).score(x)
        same(found, [-math.exp(0.8944 / tau) / (math.exp(0.8944 / tau) + math.exp(0.4472 / tau))])
        same(found, methods.create("mcm", tau=tau).score(x).tolist())


def test_neglabel(monkeypatch: pytest.MonkeyPatch) -> None:
    def shares(groups: int) -> Tensor:  # the sheet's; the score is the log-odds of what is lacking to 1
        return -(-methods.create("neglabel", tau=0.5, groups=groups).score(x)).sigmoid()

    words = cosines((2.0, 1.0), (-1.0, 0.0), (-1.0, 1.0), (1.0, -1.0), (0.0, -1.0))
    x = Features(logits=COSINES, extras={"negatives": words})
    same(shares(1), [-0.73818])
    monkeypatch.setattr(torch, "randperm", lambda n, **_: torch.arange(n))  # the groups of the sheet
    same(shares(2), [-0.85487])
    same(shares(2), [-(0.92348 + 0.78627) / 2])
    with pytest.raises(methods.base.CannotRun, match="negative words"):
        methods.create("neglabel").score(Features(logits=COSINES, extras={"negatives": torch.zeros(1, 0)}))


def test_neglabel_has_no_ties_where_its_shares_are_0_or_1() -> None:
    gap = torch.linspace(-0.9, 0.9, 400, dtype=torch.float64)[:, None]  # 90 tau: shares are 0 and 1 in float64
    negatives = (gap / 2 + torch.tensor([[0.0, 0.01, 0.02, 0.03]], dtype=torch.float64)).float()
    x = Features(logits=(-gap / 2).float(), extras={"negatives": negatives})
    scores = methods.create("neglabel", groups=2).score(x)
    assert bool((scores.diff() > 0).all())
    of_one = methods.create("neglabel", groups=1, tau=1.0).score(x)  # log N / P itself
    torch.testing.assert_close(of_one, negatives.double().logsumexp(dim=1) - x.logits.double()[:, 0])


def test_combood() -> None:
    same(combood.combined(torch.tensor([1.5]).square(), torch.tensor([0.5]), 2), [0.86371])
