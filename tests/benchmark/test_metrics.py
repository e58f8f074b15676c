import math
from statistics import NormalDist

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_ood.metrics import functional as pytorch_ood
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve
from sklearn.model_selection import LeaveOneOut, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier

from benchmark.metrics import (
    METRICS,
    aupr,
    auroc,
    delong,
    delong_interval,
    delong_test,
    fpr95_ood,
    fpr_at_tpr,
    fpr_interval,
    intervals,
    knn_accuracy,
    measure,
)
from tests.performance.coverage import of_auroc, of_fpr95, worlds

PAIRED = [auroc, fpr_at_tpr, fpr95_ood, aupr, delong, delong_interval, fpr_interval, measure, intervals]
# Few distinct values: ties within and across the two sets are the rule.
tied = st.lists(st.integers(-4, 4).map(lambda i: i / 4), min_size=1, max_size=40)
untied = st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=40)


def gaussians(seed, n=200, m=300, shift=1.5):
    rng = np.random.default_rng(seed)
    return rng.normal(size=n), rng.normal(shift, 1.2, size=m)


def labelled(id_scores, ood_scores):
    return np.r_[np.zeros(len(id_scores)), np.ones(len(ood_scores))], np.r_[id_scores, ood_scores]


# By hand


def test_auroc_by_hand():
    # Pairs (ID, OOD): 2 > 1, 2 = 2, 2 < 3, 4 > 1, 4 > 2, 4 > 3: 4 won, 1 tied, of 6.
    assert auroc([1, 2, 3], [2, 4]) == pytest.approx(4.5 / 6)
    assert auroc([0, 1], [2, 3]) == 1
    assert auroc([2, 3], [0, 1]) == 0  # never flipped


def test_fpr95_by_hand():
    scores = np.arange(1, 21)  # 19 of 20 are 95 %: t = 19
    assert fpr_at_tpr(scores, [18.5, 19, 19.5, 30]) == 0.5  # 19 ties with t and counts against the method
    assert fpr_at_tpr(scores, [18.5, 19, 19.5, 30], tpr=1.0) == 0.75  # t = 20
    assert fpr_at_tpr(scores, [1, 10, 11, 30], tpr=0.5) == 0.5  # t = 10
    assert fpr_at_tpr([5.0], [4.0, 6.0]) == 0.5  # one ID image: t is its score
    assert fpr_at_tpr(np.arange(1, 22), [20, 20.5, 21]) == pytest.approx(1 / 3)  # .95 * 21 = 19.95: t = 20


@pytest.mark.parametrize(("tpr", "n", "rank"), [(0.95, 20, 19), (0.07, 100, 7), (0.55, 100, 55), (0.28, 25, 7)])
def test_rank_is_counted_in_decimal(tpr, n, rank):
    # .07 * 100, .55 * 100 and .28 * 25 are a little more than an integer in binary floating point.
    assert fpr_at_tpr(np.arange(1, n + 1), np.arange(1, n + 1), tpr=tpr) == pytest.approx(rank / n)


def test_fpr95_ood_by_hand():
    ood = np.arange(1, 21)  # 19 of 20 are flagged from t = 2 up
    assert fpr95_ood([0, 1, 1.5, 2], ood) == 0.25  # 2 ties with t and is flagged
    assert fpr95_ood([0, 1, 1.5, 1.9], ood) == 0
    assert fpr95_ood([2, 3, 4, 5], ood) == 1


def test_aupr_by_hand():
    # Descending 4 (OOD), 3 (ID), 2 (OOD and ID at once), 1 (ID): recall 1/2 at precision 1, 1 at 2/4.
    assert aupr([1, 2, 3], [2, 4]) == pytest.approx(0.5 * 1 + 0.5 * 0.5)
    # Ascending, ID positive: 1: 1/1, 2: 2/3, 3: 3/4.
    assert aupr([1, 2, 3], [2, 4], positive="id") == pytest.approx((1 + 2 / 3 + 3 / 4) / 3)


def test_delong_by_hand():
    # ID 1, 2, 3 and OOD 2, 4. Share of ID below: (1 + .5) / 3 = .5 and 1; share of OOD above: 1, 3/4, 1/2.
    value, variance = delong([1, 2, 3], [2, 4])
    assert value == pytest.approx(0.75)
    assert variance == pytest.approx(0.125 / 2 + 0.0625 / 3)  # sample variances of (.5, 1) and (1, .75, .5)


def test_constant_scores_are_worthless_not_perfect():
    assert measure([7.0] * 50, [7.0] * 30) == {
        "auroc": 0.5,
        "fpr95": 1.0,
        "fpr95_ood": 1.0,
        "aupr_ood": 30 / 80,
        "aupr_id": 50 / 80,
    }


def test_perfect_and_reversed_scores():
    perfect = {"auroc": 1.0, "fpr95": 0.0, "fpr95_ood": 0.0, "aupr_ood": 1.0, "aupr_id": 1.0}
    assert measure(np.arange(50), np.arange(50, 90)) == perfect
    reverse = measure(np.arange(50, 90), np.arange(50))
    assert {name: reverse[name] for name in ("auroc", "fpr95", "fpr95_ood")} == {
        m.name: m.worst for m in METRICS if m.name in ("auroc", "fpr95", "fpr95_ood")
    }


# Against other libraries


@given(st.one_of(tied, untied), st.one_of(tied, untied))
def test_auroc_and_aupr_are_those_of_sklearn(id_scores, ood_scores):
    labels, scores = labelled(id_scores, ood_scores)
    assert auroc(id_scores, ood_scores) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert aupr(id_scores, ood_scores) == pytest.approx(average_precision_score(labels, scores), abs=1e-12)
    of_id = average_precision_score(1 - labels, -scores)
    assert aupr(id_scores, ood_scores, positive="id") == pytest.approx(of_id, abs=1e-12)


@given(st.one_of(tied, untied), st.one_of(tied, untied))
def test_both_sides_of_fpr95_are_where_the_roc_curve_reaches_95_percent(id_scores, ood_scores):
    labels, scores = labelled(id_scores, ood_scores)
    sides = {fpr95_ood: (labels, scores), fpr_at_tpr: (1 - labels, -scores)}  # the positive class has the high scores
    for metric, (positive, value) in sides.items():
        fpr, tpr, _ = roc_curve(positive, value, drop_intermediate=False)
        reached = np.round(tpr * positive.sum()) * 20 >= 19 * positive.sum()  # counted in whole images
        assert metric(id_scores, ood_scores) == pytest.approx(fpr[reached][0], abs=1e-12)


@given(st.one_of(tied, untied), st.one_of(tied, untied))
def test_fpr95_ood_is_that_of_pytorch_ood(id_scores, ood_scores):
    labels, scores = labelled(id_scores, ood_scores)
    theirs = pytorch_ood.fpr_at_tpr(torch.tensor(scores, dtype=torch.float64), -torch.tensor(labels), tpr=0.95)
    assert fpr95_ood(id_scores, ood_scores) == pytest.approx(float(theirs), abs=1e-12)


@given(tied, tied, st.sampled_from([0.5, 0.8, 0.9, 0.95, 1.0]))
def test_fpr_is_its_definition_word_for_word(id_scores, ood_scores, tpr):
    id_array, ood_array = np.array(id_scores), np.array(ood_scores)
    hundredths = round(100 * tpr)
    accepted = [t for t in id_array if 100 * int((id_array <= t).sum()) >= hundredths * len(id_array)]
    assert fpr_at_tpr(id_scores, ood_scores, tpr) == pytest.approx(float((ood_array <= min(accepted)).mean()))


# What may not change a metric


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s + 200,
        lambda s: s * 1e6,
        lambda s: s * 1e-6 - 3,
        np.exp,
        np.arctan,
        lambda s: s**3,
    ],
)
def test_increasing_maps_change_nothing(change):
    id_scores, ood_scores = (np.round(scores, 2) for scores in gaussians(1))  # rounded: with ties
    before, after = (
        (measure(i, o), intervals(i, o)) for i, o in ((id_scores, ood_scores), (change(id_scores), change(ood_scores)))
    )
    assert before == after


def test_scores_of_any_size_are_told_apart():
    assert auroc([1e6, 1e6 + 1e-3], [1e6 + 2e-3]) == 1  # float32 has one value for all three
    assert auroc([-1e300, 0], [1e300]) == 1


def test_infinite_scores_are_ordered():
    assert auroc([0, 1, -np.inf], [np.inf, np.inf]) == 1
    assert auroc([np.inf], [np.inf]) == 0.5
    assert fpr_at_tpr([0, np.inf], [1, np.inf, -np.inf]) == 1
    assert delong_interval([0, 1, -np.inf, 3], [np.inf, np.inf, 2])[1] < 1


@pytest.mark.parametrize("function", PAIRED)
def test_order_of_images_does_not_matter_and_inputs_stay(function):
    id_scores, ood_scores = gaussians(2)
    copies = id_scores.copy(), ood_scores.copy()
    for array in (id_scores, ood_scores):
        array.setflags(write=False)
    assert function(id_scores, ood_scores) == function(id_scores[::-1], np.roll(ood_scores, 7))
    assert np.array_equal(id_scores, copies[0])
    assert np.array_equal(ood_scores, copies[1])


@pytest.mark.parametrize("function", PAIRED)
def test_arrays_tensors_and_lists_are_alike(function):
    id_scores, ood_scores = (scores.astype(np.float32) for scores in gaussians(3, 30, 40))
    expected = function(id_scores, ood_scores)
    assert function(id_scores.tolist(), tuple(ood_scores.tolist())) == expected
    tensors = torch.tensor(id_scores, requires_grad=True), torch.tensor(ood_scores)
    assert function(*tensors) == expected
    assert tensors[0].requires_grad
    assert function(torch.tensor([1, 2, 3]), torch.tensor([2, 4])) == function([1.0, 2, 3], [2.0, 4])
    half = torch.tensor([1.0, 2.0, 3.0], dtype=torch.bfloat16)  # numpy has no bfloat16
    assert function(half, [2, 4]) == function([1, 2, 3], [2, 4])


# Bad input


@pytest.mark.parametrize("function", PAIRED)
@pytest.mark.parametrize(
    ("id_scores", "ood_scores", "message"),
    [
        ([], [1], "id_scores is empty"),
        ([1], [], "ood_scores is empty"),
        ([1, math.nan], [1], "id_scores holds 1 NaN of 2"),
        ([1], torch.tensor([math.nan, math.nan, 1]), "ood_scores holds 2 NaN of 3"),
        ([1], [[1, 2]], r"ood_scores must be one score an image, shape \(N,\), not \(1, 2\)"),
    ],
)
def test_bad_scores_are_named(function, id_scores, ood_scores, message):
    with pytest.raises(ValueError, match=message):
        function(id_scores, ood_scores)


def test_bad_options():
    with pytest.raises(ValueError, match="tpr"):
        fpr_at_tpr([1], [1], tpr=0)
    with pytest.raises(ValueError, match="tpr"):
        fpr_at_tpr([1], [1], tpr=95)
    with pytest.raises(ValueError, match="positive"):
        aupr([1], [1], positive="in")
    with pytest.raises(ValueError, match="level"):
        delong_interval([1], [1], level=95)
    with pytest.raises(ValueError, match="level"):
        fpr_interval([1], [1], level=1)
    with pytest.raises(ValueError, match="ood_a has 2 scores, ood_b 3: both need the same images"):
        delong_test([1, 2], [1, 2], [1, 2], [1, 2, 3])


# DeLong


def directly(id_scores, ood_scores):
    """DeLong et al. 1988 as printed: the matrix of all pairs and the variances of its row, column means."""
    ood, ids = np.asarray(ood_scores)[:, None], np.asarray(id_scores)[None, :]
    wins = (ood > ids) + 0.5 * (ood == ids)
    return wins.mean(), np.var(wins.mean(1), ddof=1) / len(ood), np.var(wins.mean(0), ddof=1) / ids.size, wins


pairs = st.lists(st.integers(-4, 4), min_size=2, max_size=30)


@given(pairs, pairs)
def test_delong_variance_is_that_of_all_pairs(id_scores, ood_scores):
    value, of_ood, of_id, _ = directly(id_scores, ood_scores)
    assert delong(id_scores, ood_scores) == pytest.approx((value, of_ood + of_id), abs=1e-12)


@given(
    st.lists(st.tuples(st.integers(-4, 4), st.integers(-4, 4)), min_size=2, max_size=30),
    pairs,
    st.integers(0, 99),
)
@settings(max_examples=50)
def test_delong_test_is_that_of_all_pairs(id_pairs, ood_a, seed):
    id_a, id_b = np.array(id_pairs).T
    ood_b = np.random.default_rng(seed).integers(-4, 5, len(ood_a))
    a, b = directly(id_a, ood_a)[3], directly(id_b, ood_b)[3]
    variance = np.var((a - b).mean(1), ddof=1) / len(ood_a) + np.var((a - b).mean(0), ddof=1) / len(id_a)
    if variance > 1e-12:
        expected = 2 * NormalDist().cdf(-abs(a.mean() - b.mean()) / math.sqrt(variance))
        assert delong_test(id_a, ood_a, id_b, ood_b) == pytest.approx(expected, abs=1e-9)


@given(st.integers(0, 10_000), st.sampled_from([0.5, 1.0, 2.0]))
@settings(max_examples=8, deadline=None)
def test_delong_interval_is_that_of_a_bootstrap(seed, shift):
    id_scores, ood_scores = gaussians(seed, 300, 300, shift)
    rng = np.random.default_rng(seed)
    values = [auroc(rng.choice(id_scores, 300), rng.choice(ood_scores, 300)) for _ in range(1000)]
    assert np.sqrt(delong(id_scores, ood_scores)[1]) == pytest.approx(np.std(values), rel=0.12)
    low, high = delong_interval(id_scores, ood_scores)
    assert (low, high) == pytest.approx(np.quantile(values, [0.025, 0.975]), abs=0.2 * (high - low))


@pytest.mark.parametrize(("m", "n"), [(50, 50), (300, 30), (30, 300)])
@pytest.mark.parametrize("true", [0.9, 0.99, 0.995])
def test_delong_interval_covers(m, n, true):
    # 300 simulations: at a coverage of .95 fewer than 92 % hold it once in 150 times. On the logit scale 68 % do where
    # OOD scores spread three times as far, at .99 with 300 ID and 30 OOD images.
    for draw in worlds(true).values():
        assert of_auroc(true, draw, m, n, repeats=300) >= 0.92


def test_delong_interval_is_not_wider_than_it_must_be():
    id_scores, ood_scores = gaussians(4, 500, 500, 1.0)
    low, high = delong_interval(id_scores, ood_scores)
    plain = 2 * 1.96 * math.sqrt(delong(id_scores, ood_scores)[1])
    assert plain < high - low < 1.05 * plain


def test_delong_interval_by_hand():
    # Placements of the OOD images 1, 1, 1, 1/2, of the ID images 0, 1/4 and 1/4 more: A = 7/8 with a variance of
    # var(1, 1, 1, .5) / 4 + var(0, .25, .25, 0) / 4 = 1/64 + 1/192, so 5.25 tosses, of which 4.59375 came out right.
    id_scores, ood_scores = [0, 2, 2, 0], [3, 3, 3, 1]
    assert delong(id_scores, ood_scores) == pytest.approx((7 / 8, 1 / 48))
    low, high = delong_interval(id_scores, ood_scores)
    right = 7 / 8 * 5.25
    assert scipy.stats.beta.cdf(low, right, 5.25 - right + 1) == pytest.approx(0.025)
    assert scipy.stats.beta.sf(high, right + 1, 5.25 - right) == pytest.approx(0.025)


def test_delong_interval_widens_with_the_level():
    id_scores, ood_scores = gaussians(4)
    (low50, high50), (low99, high99) = (delong_interval(id_scores, ood_scores, level) for level in (0.5, 0.99))
    assert 0 < low99 < low50 < auroc(id_scores, ood_scores) < high50 < high99 < 1


def test_delong_interval_without_variance_keeps_its_width():
    bound = 0.025 ** (1 / 40)  # Clopper-Pearson for 40 of 40
    assert delong_interval(range(50), range(50, 90)) == pytest.approx((bound, 1))
    assert delong_interval(range(50, 90), range(50)) == pytest.approx((0, 1 - bound))
    assert delong_interval([3] * 50, [3] * 40) == pytest.approx((bound / 2, 1 - bound / 2))
    assert delong_interval([1], [2, 3]) == (0, 1)  # one image says nothing about the spread


def test_delong_test_of_the_same_scores_is_one():
    id_scores, ood_scores = gaussians(5)
    assert delong_test(id_scores, ood_scores, id_scores, ood_scores) == 1
    assert delong_test(id_scores, ood_scores, np.exp(id_scores), np.exp(ood_scores)) == 1  # the same order


def test_delong_test_is_symmetric_and_finds_a_difference():
    id_scores, ood_scores = gaussians(6, 400, 400)
    rng = np.random.default_rng(6)
    worse = id_scores + rng.normal(0, 2, 400), ood_scores + rng.normal(0, 2, 400)
    p = delong_test(id_scores, ood_scores, *worse)
    assert p == delong_test(*worse, id_scores, ood_scores)
    assert p < 1e-6


def test_delong_test_is_paired():
    # Two noisy copies of one signal: far less noise in the difference than unpaired samples would have.
    id_scores, ood_scores = gaussians(7, 400, 400)
    shifted = id_scores, ood_scores + 0.1
    paired = delong_test(id_scores, ood_scores, *shifted)
    unpaired = delong_test(id_scores, ood_scores, *(np.random.default_rng(7).permutation(s) for s in shifted))
    assert paired < 1e-3 < unpaired


def test_delong_test_without_variance():
    ids, oods = range(5), range(5, 12)
    assert delong_test(ids, oods, [0] * 5, [0] * 7) == 2**-4  # perfect against constant: 5 disjoint pairs, one way
    assert delong_test([0] * 5, [0] * 7, [1] * 5, [1] * 7) == 1
    assert delong_test([1], [2], [2], [1]) == 1  # one image each: nothing can be told


def test_delong_test_is_uniform_under_the_null():
    rng = np.random.default_rng(8)
    p = []
    for _ in range(400):
        (id_signal, ood_signal), noise = gaussians(rng, 80, 100), rng.normal(size=(2, 180))
        a, b = ((id_signal + noise[i, :80], ood_signal + noise[i, 80:]) for i in (0, 1))
        p.append(delong_test(*a, *b))
    # Kolmogorov-Smirnov: under uniformity above 1.63 / sqrt(400) in one of a hundred simulations.
    assert np.abs(np.sort(p) - (np.arange(400) + 0.5) / 400).max() < 1.63 / 20


# The interval of FPR95


@pytest.mark.parametrize("shift", [1.0, 2.5])
def test_fpr_interval_is_that_of_a_bootstrap(shift):
    id_scores, ood_scores = gaussians(9, 400, 600, shift)
    rng = np.random.default_rng(9)
    values = [fpr_at_tpr(rng.choice(id_scores, 400), rng.choice(ood_scores, 600)) for _ in range(2000)]
    low, high = fpr_interval(id_scores, ood_scores)
    assert (low, high) == pytest.approx(np.quantile(values, [0.025, 0.975]), abs=0.1 * (high - low))
    share = fpr_at_tpr(id_scores, ood_scores)  # the binomial noise alone is far narrower
    assert high - low > 1.3 * 2 * 1.96 * math.sqrt(share * (1 - share) / 600)


@pytest.mark.parametrize("m", [10, 19, 200])
@pytest.mark.parametrize("shift", [0.0, 1.0, 3.0])
def test_fpr_interval_covers(m, shift):
    # With 10 ID images the largest score is below the true threshold .95 ** 10 = 60 % of the time.
    assert of_fpr95(shift, m, 200, repeats=300) >= 0.92


def test_fpr_interval_of_few_id_images_says_that_any_share_may_pass():
    low, high = fpr_interval(range(10), range(100, 200))
    assert (low, high) == (0, 1)


def test_fpr_interval_has_a_width_at_the_ends():
    low, high = fpr_interval(range(100), range(100, 200))
    assert low == 0
    assert 0.01 < high < 0.06  # rule of three: about 3 in 100
    low, high = fpr_interval([1] * 100, [1] * 100)
    assert high == 1
    assert 0.94 < low < 0.99


@given(tied, tied)
@settings(max_examples=50, deadline=None)
def test_intervals_contain_their_value(id_scores, ood_scores):
    values, bounds = measure(id_scores, ood_scores), intervals(id_scores, ood_scores)
    assert set(bounds) == {"auroc", "fpr95"}
    for name, (low, high) in bounds.items():
        assert 0 <= low <= values[name] + 1e-12
        assert values[name] - 1e-12 <= high <= 1


# The table of metrics


def test_metrics_are_data():
    assert [metric.name for metric in METRICS] == ["auroc", "fpr95", "fpr95_ood", "aupr_ood", "aupr_id"]
    assert [metric.arrow for metric in METRICS] == ["↑", "↓", "↓", "↑", "↑"]
    scores = gaussians(11)
    assert measure(*scores) == {metric.name: metric.function(*scores) for metric in METRICS}
    assert intervals(*scores) == {"auroc": delong_interval(*scores), "fpr95": fpr_interval(*scores)}


# kNN accuracy of an embedding


@pytest.mark.parametrize("k", [1, 7, 20])
def test_knn_accuracy_is_scikit_learns(monkeypatch, k):
    """Leave one out; several blocks, the last of them short; ties go to the lowest class."""
    monkeypatch.setattr("benchmark.metrics._QUERIES", 40)
    rng = np.random.default_rng(k)
    labels = rng.integers(0, 5, 150)
    embedding = (rng.normal(size=(5, 8))[labels] + 1.5 * rng.normal(size=(150, 8))) * rng.uniform(0.1, 9, (150, 1))
    model = KNeighborsClassifier(k, metric="cosine")
    expected = (cross_val_predict(model, embedding, labels, cv=LeaveOneOut()) == labels).mean()
    assert 0.2 < expected < 0.9
    assert knn_accuracy(torch.from_numpy(embedding), torch.from_numpy(labels), k) == pytest.approx(expected)


def test_knn_accuracy_by_hand():
    directions = torch.tensor([[1.0, 0], [2, 0.1], [0, 1], [0.1, 3], [0.2, 1]])
    # by angle: 0, 1 | 2, 3, 4: each one's nearest is of its own group; a label that disagrees costs two
    assert knn_accuracy(directions, torch.tensor([0, 0, 1, 1, 1]), k=1) == 1
    assert knn_accuracy(directions, torch.tensor([0, 1, 1, 1, 1]), k=1) == pytest.approx(3 / 5)


def test_knn_accuracy_needs_enough_labelled_images():
    embedding = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match="more than k = 20 images, not 20"):
        knn_accuracy(embedding, torch.zeros(20, dtype=torch.int64))
    with pytest.raises(ValueError, match="some images have none"):
        knn_accuracy(embedding, torch.full((20,), -1), k=5)
