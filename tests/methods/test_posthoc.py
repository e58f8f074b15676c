"""Post-hoc methods against hand values (baselines.md), pytorch-ood 0.4.0, scikit-learn, numpy and autograd."""

from typing import Any

import numpy as np
import pytest
import torch
from pytorch_ood import detector as oracle
from torch import Tensor, nn

import methods
from methods.base import CannotRun, Features, Head

WIDTH, CLASSES = 64, 10


def relu_like(count: int, seed: int, labels: Tensor | None = None) -> Tensor:
    """Non-negative, half zeros, a little different for each class: what a ReLU and a pooling give."""
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(count, WIDTH, generator=generator)
    if labels is not None:
        z += 1.5 * torch.nn.functional.one_hot(labels, WIDTH)
    return z.relu()


LABELS = torch.arange(500) % CLASSES
TRAIN_Z, TEST_Z = relu_like(500, 0, LABELS), relu_like(120, 1)
HEAD = Head(
    torch.randn(CLASSES, WIDTH, generator=torch.Generator().manual_seed(2)) / 4,
    torch.randn(CLASSES, generator=torch.Generator().manual_seed(3)),
)
LINEAR = nn.Linear(WIDTH, CLASSES)
LINEAR.load_state_dict({"weight": HEAD.weight, "bias": HEAD.bias})
TRAIN = Features(embedding=TRAIN_Z, logits=HEAD(TRAIN_Z), labels=LABELS, head=HEAD)
TEST = Features(embedding=TEST_Z, logits=HEAD(TEST_Z), head=HEAD)


def score(name: str, x: Features = TEST, train: Features = TRAIN, **settings: Any) -> Tensor:
    return methods.create(name, **settings).fit(train).score(x)


def same(ours: Tensor, theirs: Any, rtol: float = 1e-5, atol: float = 0) -> None:
    np.testing.assert_allclose(ours.numpy(), np.asarray(theirs), rtol=rtol, atol=atol)


def features(z: Tensor, head: Head = HEAD, labels: Any = None) -> Features:
    return Features(embedding=z, logits=head(z), head=head, labels=labels)


def maps(z: Tensor) -> Tensor:
    """Pooled features as the [B, D, 1, 1] maps that pytorch-ood's ReAct and ASH take."""
    return z[:, :, None, None]


def on_maps(x: Tensor) -> Tensor:
    return HEAD(x.flatten(1))


# Equal to pytorch-ood


def test_msp_equals_pytorch_ood() -> None:
    # Ours is -log max p, theirs -max p: monotone in each other.
    same(-(-score("msp")).exp(), oracle.MaxSoftmax(None).predict_logits(TEST.logits))


def test_maxlogit_equals_pytorch_ood() -> None:
    same(score("maxlogit"), oracle.MaxLogit(None).predict_logits(TEST.logits))


@pytest.mark.parametrize("temperature", [1.0, 2.5, 100.0])
def test_ebo_equals_pytorch_ood(temperature: float) -> None:
    theirs = oracle.EnergyBased(None, t=temperature).predict_logits(TEST.logits)
    same(score("ebo", temperature=temperature), theirs)


@pytest.mark.parametrize("percentile", [50, 90, 99])
def test_react_equals_pytorch_ood(percentile: int) -> None:
    theirs = oracle.ReAct(None, on_maps, percentile=percentile / 100)
    theirs.fit_feature_maps(maps(TRAIN_Z), LABELS)
    same(score("react", percentile=percentile), theirs.predict_feature_maps(maps(TEST_Z)))


@pytest.mark.parametrize("percentile", [10, 70, 90])
def test_dice_equals_pytorch_ood(percentile: int) -> None:
    theirs = oracle.DICE(None, HEAD.weight, HEAD.bias, p=percentile / 100).fit_features(TRAIN_Z, LABELS)
    same(score("dice", percentile=percentile), theirs.predict_features(TEST_Z))


@pytest.mark.parametrize("variant", ["s", "b", "p"])
@pytest.mark.parametrize("percentile", [65, 90, 95])
def test_ash_equals_pytorch_ood(variant: str, percentile: int) -> None:
    theirs = oracle.ASH(None, on_maps, variant=f"ash-{variant}", percentile=percentile / 100)
    same(score("ash", variant=variant, percentile=percentile), theirs.predict_feature_maps(maps(TEST_Z)))


@pytest.mark.parametrize("dim", [16, 40])
def test_vim_equals_pytorch_ood(dim: int) -> None:
    # Theirs is in float32 throughout, its eigenvectors too; the score is a difference of two numbers near 4.
    theirs = oracle.ViM(None, dim, HEAD.weight, HEAD.bias).fit_features(TRAIN_Z, LABELS)
    same(score("vim", dim=dim), theirs.predict_features(TEST_Z), atol=2e-5)


def test_klm_equals_pytorch_ood() -> None:
    theirs = oracle.KLMatching(None).fit_logits(TRAIN.logits)
    same(score("klm"), theirs.predict_logits(TEST.logits).detach(), rtol=1e-4)


def test_gradnorm_equals_pytorch_ood() -> None:
    # Theirs averages the loss over the classes, the official code (and ours) adds up: a factor of C.
    theirs = oracle.GradNorm(LINEAR, param_filter=lambda name: name == "weight").to("cpu").predict(TEST_Z)
    same(score("gradnorm"), CLASSES * theirs)


def test_mahalanobis_equals_pytorch_ood() -> None:
    # Theirs has the factor 1/2 and the scatter in the place of the covariance: 2N in all. It also adds 1e-6 to
    # the scatter's diagonal, of about N.
    theirs = oracle.Mahalanobis(None).fit_features(TRAIN_Z, LABELS)
    same(score("mahalanobis"), 2 * len(TRAIN) * theirs.predict_features(TEST_Z), rtol=1e-4)


def test_knn_equals_pytorch_ood() -> None:
    same(score("knn", k=7), oracle.KNN(None, k=7).fit_features(TRAIN_Z, LABELS).predict_features(TEST_Z))


# Hand values of baselines.md and of the formulae


def hand(logits: list[float]) -> Features:
    return Features(logits=torch.tensor([logits]))


def test_logits_2_1_0() -> None:
    x = hand([2, 1, 0])
    assert float((-score("msp", x)).exp()) == pytest.approx(0.6652410, abs=5e-8)
    assert float(score("ebo", x)) == pytest.approx(-2.4076059, abs=1e-7)
    assert float(score("maxlogit", x)) == -2


def test_msp_keeps_its_resolution() -> None:
    gaps = torch.linspace(20, 90, 10_000)
    logits = torch.cat([gaps[:, None], torch.zeros(10_000, 9)], dim=1)
    assert len(logits.softmax(dim=1).amax(dim=1).unique()) == 1  # what the plain formula leaves of them
    scores = score("msp", Features(logits=logits))
    assert len(scores.unique()) == 10_000
    assert bool((scores.diff() < 0).all())
    same(scores[:1], np.log1p(9 * np.exp([-20.0])))


def test_msp_of_a_temperature() -> None:
    largest = (TEST.logits.double() / 10).softmax(dim=1).amax(dim=1)
    same(score("msp", temperature=10.0), -largest.log(), rtol=1e-9)


def test_msp_with_two_equal_largest_logits() -> None:
    assert float((-score("msp", hand([3, 3, 3, 3]))).exp()) == pytest.approx(0.25)


def test_ebo_of_large_logits_is_finite() -> None:
    assert float(score("ebo", hand([1e6, 0, -1e6]))) == -1e6


ASH_OF_1_2_3_4 = {"p": [0, 0, 3, 4], "b": [0, 0, 5, 5], "s": [0, 0, 12.51820, 16.69094]}


@pytest.mark.parametrize("variant", ASH_OF_1_2_3_4)
def test_ash_of_1_2_3_4(variant: str) -> None:
    z = torch.tensor([[1.0, 2, 3, 4]])
    x = Features(embedding=z, head=Head(torch.eye(4), torch.zeros(4)))  # its logits are the shaped activations
    shaped = ASH_OF_1_2_3_4[variant]
    same(score("ash", x, variant=variant, percentile=50), [-np.logaddexp.reduce(shaped)], rtol=1e-6)
    assert z.tolist() == [[1, 2, 3, 4]]


@pytest.mark.parametrize(
    ("width", "percentiles", "kept"),
    [
        (342, (60, 65, 80, 90, 95), (137, 120, 68, 34, 17)),
        (512, (60, 65, 80, 90, 95), (205, 179, 102, 51, 26)),
        (1280, (60, 65, 80, 90, 95), (512, 448, 256, 128, 64)),
        (1792, (60, 65, 80, 90, 95), (717, 627, 358, 179, 90)),
        (2048, (60, 65, 80, 90, 95), (819, 717, 410, 205, 102)),
        (10, (25, 35, 65, 75, 85), (8, 6, 4, 2, 2)),  # 2.5, 3.5, 6.5, 7.5, 8.5 to the even neighbour
    ],
)
def test_ash_keeps_as_many(width: int, percentiles: tuple[int, ...], kept: tuple[int, ...]) -> None:
    # One class that sums the pruned activations, all 1: its logit is their number.
    x = Features(embedding=torch.ones(1, width), head=Head(torch.ones(1, width), torch.zeros(1)))
    found = tuple(round(-float(score("ash", x, variant="p", percentile=p))) for p in percentiles)
    assert found == kept


def test_ash_s_stays_finite_without_relu() -> None:
    z = torch.randn(200, 64, generator=torch.Generator().manual_seed(5)) - 1
    z[0], z[1], z[2] = -3, 0, -torch.arange(64.0)
    z[3] = 0
    z[3, 0], z[3, 1:] = 1e-3, -1e3
    x = Features(embedding=z, head=HEAD)
    for percentile in (0, 50, 90, 98):
        scores = score("ash", x, percentile=percentile)
        assert bool(scores.isfinite().all())
        # nothing positive is kept: ASH-P
        same(scores[:3], score("ash", x, variant="p", percentile=percentile)[:3])


def test_ash_s_of_a_flat_activation_is_finite() -> None:
    # s1 / s2 = D / k = 2048: beyond e^709, the largest that float64 holds
    x = Features(embedding=torch.ones(1, 2048), head=Head(torch.ones(10, 2048), torch.zeros(10)))
    assert bool(score("ash", x, percentile=99.95).isfinite().all())


def test_ash_that_keeps_nothing() -> None:
    x = Features(embedding=torch.ones(1, 4), head=Head(torch.ones(2, 4), torch.zeros(2)))
    with pytest.raises(CannotRun, match="percentile 99 of 4 features leaves none"):
        score("ash", x, percentile=99)


def test_dice_keeps_64_of_640() -> None:
    method = methods.create("dice", percentile=90).fit(TRAIN)
    kept = method.state()["weight"] != 0
    assert int(kept.sum()) == 64
    contribution = TRAIN_Z.double().mean(dim=0) * HEAD.weight
    assert float(contribution[kept].min()) > float(contribution[~kept].max())
    assert torch.equal(method.state()["weight"][kept], HEAD.weight[kept])


def test_react_clips_at_the_percentile_of_all_activations() -> None:
    # 0 .. 99: the 90th percentile is 89.1 whatever rows and columns they lie in
    train = Features(embedding=torch.arange(100.0).reshape(20, 5), head=Head(torch.eye(5), torch.zeros(5)))
    x = Features(embedding=torch.tensor([[200.0, 0, 0, 0, 0]]), head=train.head)
    assert float(score("react", x, train)) == pytest.approx(-89.1, rel=1e-6)


def test_gradnorm_equals_autograd() -> None:
    expected = []
    for z in TEST_Z[:20]:
        layer = nn.Linear(WIDTH, CLASSES).double()
        layer.load_state_dict(LINEAR.state_dict())
        (-layer(z.double()).log_softmax(dim=0)).sum().backward()
        assert layer.weight.grad is not None
        expected.append(-float(layer.weight.grad.abs().sum()))
    same(score("gradnorm")[:20], expected, rtol=1e-6)


def test_klm_skips_classes_that_are_never_predicted() -> None:
    # Predicted are 0 and 2 only; p of the test image is that of class 1, which has no typical prediction.
    p = np.array([[0.7, 0.2, 0.1], [0.5, 0.3, 0.2], [0.1, 0.3, 0.6]])
    x = Features(logits=np.log([[0.1, 0.8, 0.1]]))
    typical = np.array([[0.6, 0.25, 0.15], [0.1, 0.3, 0.6]])
    divergences = [sum(q * np.log(q / d) for q, d in zip([0.1, 0.8, 0.1], row, strict=True)) for row in typical]
    same(score("klm", x, Features(logits=np.log(p))), [min(divergences)])


def test_klm_of_certain_predictions_is_finite() -> None:
    train = Features(logits=1e4 * torch.eye(3))
    scores = score("klm", Features(logits=torch.tensor([[1e4, 0, 0], [5e3, 5e3, 0]])), train)
    assert float(scores[0]) == 0
    assert 0 < float(scores[1]) < float("inf")


# ViM


@pytest.mark.parametrize(("width", "dim"), [(12, 6), (342, 171), (768, 512), (2048, 1000)])
def test_vim_takes_the_published_dimension(width: int, dim: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # A diagonal covariance in the place of an eigendecomposition of 2048 x 2048
    def ascending(matrix: Tensor) -> tuple[Tensor, Tensor]:
        return torch.arange(1.0, width + 1).double(), torch.eye(width).double()

    monkeypatch.setattr(torch.linalg, "eigh", ascending)
    z = torch.randn(30, width, generator=torch.Generator().manual_seed(0))
    method = methods.create("vim").fit(Features(embedding=z, head=Head(torch.ones(2, width), torch.ones(2))))
    assert method.state()["residual"].shape == (width, width - dim)


def test_vim_errors() -> None:
    with pytest.raises(CannotRun, match="dim is 64; it must be below the embedding's 64"):
        score("vim", dim=64)
    few = Features(embedding=TRAIN_Z[:20], head=HEAD)
    with pytest.raises(CannotRun, match="20 training images leave nothing outside 32 principal directions"):
        score("vim", TEST, few)


# Values that cannot be


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("react", {"percentile": 101}, "percentile is 101; it must be a number, above 0 and at most 100"),
        ("react", {"percentile": 0}, "percentile is 0; it must be a number, above 0 and at most 100"),
        ("dice", {"percentile": 100}, "percentile is 100; it must be a number, at least 0 and below 100"),
        ("ash", {"percentile": 100}, "percentile is 100; it must be a number, at least 0 and below 100"),
        ("ebo", {"temperature": 0}, "temperature is 0; it must be a number, above 0"),
    ],
)
def test_a_value_out_of_range_is_named(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        methods.create(name, **settings)


def test_vim_does_not_take_the_rounding_of_the_head_for_a_direction() -> None:
    # Rows that add up to 0, which softmax does not see, up to the rounding of float32: a smallest singular value of
    # about 1e-8, by whose inverse a float64 tolerance would move the origin.
    weight = torch.randn(4, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weight -= weight.mean(0)
    bias = torch.tensor([1.0, 2.0, 3.0, 5.0])
    fitted = methods.create("vim", dim=6).fit(Features(embedding=TRAIN_Z[:, :12], head=Head(weight.float(), bias)))
    expected = -np.linalg.pinv(weight.numpy(), rcond=1e-6) @ bias.double().numpy()
    np.testing.assert_allclose(fitted.origin, expected, rtol=1e-5)
