import csv
import io
import math
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import scipy.stats

from benchmark.metrics import auroc, delong_test
from benchmark.records.frames import View
from benchmark.records.names import scores_path
from benchmark.records.paired import above, holm, mean, paired_test, placements
from benchmark.records.significance import Pair, Significance, compare, of_folder


def scores(seed, n, shift=0.0, ties=False):
    values = np.random.default_rng(seed).normal(shift, 1, n)
    return values.round() if ties else values


def row(seed, m=40, ns=(30, 50), shift=0.5, ties=False):
    return scores(seed, m, ties=ties), [scores(seed + 100 + k, n, shift, ties) for k, n in enumerate(ns)]


def by_hand(a, b):
    """The p-value from all pairs of images, one AUROC kernel a set."""

    def parts(ids, oods):
        kernels = [(ood[:, None] > ids) + 0.5 * (ood[:, None] == ids) for ood in oods]
        return np.mean([k.mean(0) for k in kernels], 0), [k.mean(1) for k in kernels]

    (id_a, oods_a), (id_b, oods_b) = parts(*a), parts(*b)
    k = len(oods_a)
    difference = sum((x - y).mean() for x, y in zip(oods_a, oods_b, strict=True)) / k
    variance = np.var(id_a - id_b, ddof=1) / len(id_a)
    variance += sum(np.var(x - y, ddof=1) / len(x) for x, y in zip(oods_a, oods_b, strict=True)) / k**2
    return math.erfc(abs(difference) / math.sqrt(2 * variance))


# One pair


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_with_one_set_it_is_delongs_test(seed, ties):
    (id_a, (ood_a,)), (id_b, (ood_b,)) = row(seed, ns=(30,), ties=ties), row(seed + 50, ns=(30,), shift=1, ties=ties)
    expected = delong_test(id_a, ood_a, id_b, ood_b)
    assert paired_test([placements(id_a, [ood_a])], [placements(id_b, [ood_b])]) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (([0, 1, 2.0], [3, 4.0]), ([0, 0, 0.0], [0, 0.0])),  # perfect against constant: no variance
        (([0, 1, 2.0], [3, 4.0]), ([0, 1, 2.0], [3, 4.0])),
        (([0.0], [1.0]), ([1.0], [0.0])),  # one image a side
        (([-np.inf, 1], [np.inf, 0]), ([0, 1.0], [2, 3.0])),
    ],
)
def test_odd_scores_as_in_delongs_test(a, b):
    a_placed, b_placed = (placements(np.array(ids), [np.array(oods)]) for ids, oods in (a, b))
    tested = paired_test([a_placed], [b_placed])
    assert tested == pytest.approx(delong_test(*a, *b))


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("ns", [(30, 50), (7, 90, 20)])
def test_the_mean_over_several_sets_against_all_pairs_of_images(ns, ties):
    a, b = row(1, ns=ns, ties=ties), row(2, ns=ns, shift=0.9, ties=ties)
    assert paired_test([placements(*a)], [placements(*b)]) == pytest.approx(by_hand(a, b), rel=1e-9)


def test_no_variance_over_several_sets_is_never_certain():
    perfect = placements(np.arange(5.0), [np.arange(10.0, 13), np.arange(10.0, 17), np.arange(10.0, 14)])
    once = placements(np.zeros(5), [np.ones(3), np.zeros(7), np.zeros(4)])  # 2/3, which rounding would give a variance
    assert paired_test([perfect], [once]) == 2.0**-2


def test_equal_rows_are_called_different_as_often_as_the_level_says():
    rng = np.random.default_rng(0)
    p_values = []
    for _ in range(300):
        images = [rng.normal(shift, 1, n) for shift, n in ((0, 80), (1, 60), (0.5, 70))]
        a, b = ([x + rng.normal(size=len(x)) for x in images] for _ in range(2))
        p_values.append(paired_test([placements(a[0], a[1:])], [placements(b[0], b[1:])]))
    assert 0.02 < np.mean(np.array(p_values) < 0.05) < 0.09
    assert 0.4 < np.mean(p_values) < 0.6


# Over trainings


def drawn(rng, trainings, spread, m=100, n=100):
    """Two rows on the same images whose trainings move each AUROC by about `spread`, and which are equally good."""
    ids, oods = rng.normal(size=m), rng.normal(1.5, 1, n)
    return [
        [
            placements(ids + rng.normal(0, 0.3, m), [oods + rng.normal(0, spread) + rng.normal(0, 0.3, n)])
            for _ in range(trainings)
        ]
        for _ in range(2)
    ]


def test_trainings_are_in_the_variance():
    rng = np.random.default_rng(1)
    a, b = drawn(rng, 5, 0.3)
    differences = [x.auroc - y.auroc for x, y in zip(a, b, strict=True)]
    over_images = np.var(mean(a).id - mean(b).id, ddof=1) / 100
    over_images += np.var(mean(a).ood[0] - mean(b).ood[0], ddof=1) / 100
    over_trainings = np.var(differences, ddof=1) / 5
    total = over_images + over_trainings
    freedom = total**2 / (over_trainings**2 / 4)  # Satterthwaite, with the images' part known
    expected = 2 * scipy.stats.t.sf(abs(np.mean(differences)) / np.sqrt(total), freedom)
    assert paired_test(a, b) == pytest.approx(expected)


def test_rows_that_differ_by_training_alone_are_called_different_as_often_as_the_level_says():
    # 300 simulations: standard error .013. Over images alone a third of the pairs would be called different.
    rng = np.random.default_rng(2)
    pairs = [drawn(rng, 5, 0.3) for _ in range(300)]
    assert np.mean([paired_test(a, b) < 0.05 for a, b in pairs]) < 0.09
    assert np.mean([paired_test([mean(a)], [mean(b)]) < 0.05 for a, b in pairs]) > 0.2


def test_trainings_of_one_seed_belong_together_and_a_row_without_any_stands_beside_each():
    one, two, three = (placements(*row(seed)) for seed in (1, 2, 3))
    fixed = placements(*row(4, shift=1.0))
    rows = {"a": {0: one, 1: two}, "b": {1: one, 0: three}, "fixed": {None: fixed}, "other": {7: two, 8: three}}
    compared = {frozenset((pair.a, pair.b)): pair.p for pair in compare(rows).pairs}
    assert compared[frozenset("ab")] == pytest.approx(paired_test([one, two], [three, one]))
    assert compared[frozenset(("a", "fixed"))] == pytest.approx(paired_test([one, two], [fixed, fixed]))
    assert compared[frozenset(("a", "other"))] == pytest.approx(paired_test([one, two], [two, three]))
    assert compare(rows).trainings == {"a": 2, "b": 2, "other": 2}


def test_one_score_with_two_signs_is_one_row():
    ids, oods = row(5)
    rows = {
        "lr": {0: placements(ids, oods)},
        "minus": {0: placements(-ids, [-ood for ood in oods])},
        "msp": {None: placements(*row(6))},
    }
    compared = compare(rows)
    assert compared.mirrored == {"minus": "lr"}
    assert set(compared.means) == {"lr", "msp"}
    assert len(compared.pairs) == 1


def test_other_numbers_of_images_are_no_pair():
    with pytest.raises(ValueError, match="the same images"):
        paired_test([placements(*row(0))], [placements(*row(0, ns=(30, 51)))])


def test_the_auroc_is_the_mean_over_sets_and_seeds():
    first, second = row(3), row(4, ties=True)
    expected = [np.mean([auroc(ids, ood) for ood in oods]) for ids, oods in (first, second)]
    assert placements(*first).auroc == pytest.approx(expected[0])
    both = mean([placements(*first), placements(*second)])
    assert both.auroc == pytest.approx(np.mean(expected))
    assert both.auroc == pytest.approx(both.id.mean())  # seen from either side


# All pairs


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.5]) == [1, 1]
    assert holm([]) == []
    assert holm([0.01, 0.02], 10) == pytest.approx([0.1, 0.18])  # eight more were named, and not measured


def test_all_pairs_best_first():
    rows = {name: row(seed, shift=shift) for name, seed, shift in (("low", 1, 0.1), ("high", 2, 2), ("mid", 3, 0.9))}
    compared = compare({name: {None: placements(*of_row)} for name, of_row in rows.items()})
    assert list(compared.means) == ["high", "mid", "low"]
    assert [(pair.a, pair.b) for pair in compared.pairs] == [("high", "mid"), ("high", "low"), ("mid", "low")]
    for pair in compared.pairs:
        assert pair.difference == pytest.approx(compared.means[pair.a] - compared.means[pair.b])
        assert pair.p == pytest.approx(by_hand(rows[pair.a], rows[pair.b]))
    assert [pair.p_holm for pair in compared.pairs] == pytest.approx(holm([pair.p for pair in compared.pairs]))
    assert compared.p("low", "high") == compared.p("high", "low") == compared.pairs[1].p_holm
    assert compared.p("low", "other") is None


def grouped(rows, different):
    """The groups of rows in their order, where the pairs in `different` differ."""
    pairs = [Pair(a, b, 0.1, 0.0, 0.01 if a + b in different else 0.5) for a, b in combinations(rows, 2)]
    compared = Significance({name: 1 - place / 10 for place, name in enumerate(rows)}, tuple(pairs))
    return ["".join(group) for group in compared.groups()]


def test_groups_are_the_longest_runs_without_a_significant_pair():
    assert grouped("abcd", []) == ["abcd"]
    assert grouped("abcd", ["ad", "ac", "bd"]) == ["ab", "bc", "cd"]
    assert grouped("abcd", ["ad"]) == ["abc", "bcd"]
    assert grouped("abcd", ["ab", "ac", "ad"]) == ["bcd"]
    assert grouped("abcd", ["bc"]) == ["ab", "cd"]  # a and d do not differ, but what is between them does
    assert grouped("ab", ["ab"]) == []


def test_the_level_itself_is_not_below_it():
    pairs = (Pair("a", "b", 0.1, 0.05, 0.05),)
    assert Significance({"a": 0.9, "b": 0.8}, pairs).groups() == [("a", "b")]


def test_csv():
    pairs = (Pair("msp@r18", 'k"nn', 0.01234, 1.23456e-9, 0.5),)
    (line,) = csv.DictReader(io.StringIO(Significance({}, pairs).csv()))
    assert line == {"row_a": "msp@r18", "row_b": 'k"nn', "auroc_difference": "1.23", "p": "1.23e-09", "p_holm": "0.5"}


# Of a results folder

SETS = (("near", "Near", "near"), ("far", "Far", "far"), ("blurred", "Blurred", "control"))


@pytest.fixture
def measured(tmp_path):
    """Writes a row's scores and returns its records."""

    def write(name, seed=0, *, n=30, sets=("near", "far", "blurred"), status="done", data=None):
        found = []
        rng = np.random.default_rng(len(name) + seed)
        for number, ood in enumerate(("id", *sets)):
            path = scores_path(tmp_path, name, ood, seed)
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, rng.normal(number, 1, n).astype(np.float32))
        for ood in sets:
            about = {"kind": "result", "row": name, "seed": seed, "status": status, "method": name}
            images = {"id": {"name": "id", "n": n}, "ood": {"name": ood, "n": n, "group": "near"}}
            found.append({**about, **images, "provenance": {"data": data}})
        return found

    return write


def view(*rows):
    return View("toy", "Toy", "Toys", [(name, name, "net") for name in rows], SETS)


def test_a_folder_by_its_scores(tmp_path, measured):
    found = [*measured("msp"), *measured("kn", 0), *measured("kn", 1), *measured("random"), *measured("constant")]
    compared = of_folder(tmp_path, found, view("msp", "kn", "random", "constant", "absent"))
    assert set(compared.means) == {"msp", "kn"}

    def aurocs(name, seed):
        loaded = [np.load(scores_path(tmp_path, name, ood, seed)) for ood in ("id", "near", "far")]
        return [auroc(loaded[0], ood) for ood in loaded[1:]]  # the control is in no average

    assert compared.means["msp"] == pytest.approx(np.mean(aurocs("msp", 0)))
    assert compared.means["kn"] == pytest.approx(np.mean([aurocs("kn", seed) for seed in (0, 1)]))


def test_rows_that_cannot_be_compared_are_left_out(tmp_path, measured):
    whole = [*measured("a"), *measured("bb")]
    others = [*measured("few", n=20), *measured("part", sets=("near",)), *measured("failed", status="failed")]
    others += [*measured("moved", data={"id": "other files"}), *measured("gone"), *measured("short"), *measured("cut")]
    scores_path(tmp_path, "gone", "far", 0).unlink()
    np.save(scores_path(tmp_path, "short", "far", 0), np.zeros(3))
    scores_path(tmp_path, "cut", "id", 0).write_bytes(b"")
    names = dict.fromkeys(record["row"] for record in whole + others)
    assert set(of_folder(tmp_path, whole + others, view(*names)).means) == {"a", "bb"}


def test_nothing_to_compare(tmp_path, measured):
    assert of_folder(tmp_path, [], view("a")) is None
    assert of_folder(tmp_path, measured("a"), view("a")) is None
    controls = View("toy", "Toy", "Toys", [("a", "a", "net")], SETS[2:])
    assert of_folder(tmp_path, measured("a"), controls) is None


def test_a_committed_folder_has_the_tests_that_were_made_of_its_scores(tmp_path, measured):
    """Scores are not committed: p-values stay, and are corrected for the family that is named now."""
    aurocs = {"a": (0.9, 0.8), "bb": (0.7, 0.9), "minus": (0.3, 0.1)}
    found = []
    for name, (near, far) in aurocs.items():
        for record in measured(name, sets=("near", "far")):
            found.append({**record, "metrics": {"auroc": near if record["ood"]["name"] == "near" else far}})
    for path in tmp_path.glob("scores/*/*.npy"):
        path.unlink()
    assert of_folder(tmp_path, found, view(*aurocs)) is None
    (tmp_path / "significance.csv").write_text(
        "row_a,row_b,auroc_difference,p,p_holm\na,bb,5.00,0.01,0.01\na,minus,65.00,1e-9,1e-9\n"
    )
    compared = of_folder(tmp_path, found, replace(view(*aurocs), tests=4))
    assert list(compared.means) == ["a", "bb"]
    assert compared.mirrored == {"minus": "bb"}
    assert [(pair.a, pair.b, pair.p, pair.p_holm) for pair in compared.pairs] == [("a", "bb", 0.01, 0.04)]
    (tmp_path / "significance.csv").write_text("row_a,row_b,auroc_difference,p,p_holm\na,bb,5.02,0.01,0.01\n")
    assert of_folder(tmp_path, found, view(*aurocs)) is None  # made from other records


def test_above_is_at_its_level_where_the_interval_ends():
    assert above(0.6, 0.5, 0.5) == pytest.approx(0.025)
    assert above(0.5, 0.4, 0.5) == pytest.approx(0.5)
    assert above(1.0, 0.99, 0.9) < 1e-6
    assert above(1.0, 1.0, 0.9) == 0
    assert above(0.9, 0.9, 0.9) == 1
