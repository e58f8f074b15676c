from itertools import combinations

import pytest

from benchmark.records.frames import View
from benchmark.records.ranking import Ranking
from benchmark.records.significance import Pair, Significance
from benchmark.reporting.findings import findings

NEAR, FAR, WIDE = ("dolls", "Dolls", "near"), ("birds", "Birds", "far"), ("cars", "Cars", "far")
SETS = (NEAR, FAR, WIDE)
BLURRED = ("blurred", "Toys, blurred", "control")


def record(row, ood, auroc, *, half=0.01, status="done", method=None, encoder="net", of_set=None, **more):
    """One result record. `row`: its method too, where that is not given."""
    name, title, group = ood
    numbers = dict.fromkeys(("auroc", "fpr95", "fpr95_ood", "aupr_ood", "aupr_id"), auroc)
    images = {"split": "test", "n": 300, "of": 300, "notes": []}
    done = status == "done"
    return {
        "kind": "result",
        "row": row,
        "title": row.upper(),
        "method": method or row,
        "encoder": encoder,
        "encoder_title": encoder,
        "seed": 0,
        "status": status,
        "reason": "" if done else "out of memory",
        "resolution": "native",
        "id": {"name": "toys", "title": "Toys", **images},
        "ood": {"name": name, "title": title, "group": group, "stands_in_for": None, **images, **(of_set or {})},
        "train": {"n": 500, "of": 500, "notes": []},
        "metrics": numbers if done else None,
        "intervals": {name: [auroc - half, auroc + half] for name in ("auroc", "fpr95")} if done else None,
        "accuracy": None,
        "hyperparameters": {},
        "footnotes": [],
        **more,
    }


def row(name, *aurocs, sets=SETS, **more):
    return [record(name, ood, auroc, **more) for ood, auroc in zip(sets, aurocs, strict=True)]


def view(*rows, sets=SETS, **more):
    titled = [(name, name.upper(), "net") if isinstance(name, str) else name for name in rows]
    return View("toy", "A toy suite", "Toys", titled, sets, **more)


def comparison(means, *alike, **more):
    """A comparison in which the pairs in `alike` have p = 0.4, and all others differ."""
    names = sorted(means, key=lambda name: -means[name])
    pairs = [Pair(a, b, means[a] - means[b], 0, 0.4 if {a, b} in alike else 1e-5) for a, b in combinations(names, 2)]
    return Significance({name: means[name] for name in names}, tuple(pairs), len(pairs), **more)


def page(found, shown, compared=None, both=None):
    """The sections by title, each a list of its lines that are not empty."""
    text = findings(found, shown, compared, both or {})
    assert "nan" not in text.lower().split()
    assert "None" not in text
    sections = {}
    for part in text.split("\n## ")[1:]:
        title, *lines = [line for line in part.split("\n") if line]
        sections[title] = [line.removeprefix("- ") for line in lines]
    return sections


THREE = [*row("knn", 0.8, 0.9, 1.0), *row("msp", 0.7, 0.9, 0.95), *row("ebo", 0.6, 0.6, 0.6)]


# Which row is best


def test_the_best_row_and_those_that_are_not_told_from_it():
    compared = comparison({"knn": 0.9, "msp": 0.85, "ebo": 0.6}, {"knn", "msp"})
    assert page(THREE, view("msp", "knn", "ebo"), compared)["Which row is best"] == [
        "KNN is best on average over 3 OOD sets: 90.0 (95 % interval at most 89.0 to 91.0).",
        "Not significantly different from it: MSP 85.0 (p = 0.4).",
        "Significantly worse: 1 row.",
        "Paired DeLong tests on the same images, Holm's correction over the 3 pairs of rows that are named.",
        "![Critical differences](figures/critical_difference.png)",
    ]


def test_without_scores_there_are_no_tests():
    _, *rest = page(THREE, view("msp", "knn", "ebo"))["Which row is best"]
    assert rest == ["Which differences are significant is not known: the scores of the rows are not in this folder."]


def test_rows_without_scores_are_named():
    best = page(THREE, view("msp", "knn", "ebo"), comparison({"msp": 0.85, "ebo": 0.6}))["Which row is best"]
    assert best[1] == "Not tested, as their scores are not here or are of other images: KNN."


def test_rows_that_are_not_whole_are_not_ranked():
    found = [*THREE, record("vim", NEAR, 1.0), record("vim", FAR, 0, status="failed")]
    best = page(found, view("msp", "knn", "ebo", "vim"))
    assert best["Which row is best"][-1] == "Not ranked, as not measured on every OOD set: VIM."
    assert r"\[1\] failed: out of memory (VIM against Birds)." in best["Limits"]


def test_rows_that_check_the_harness_are_never_compared():
    found = [*row("knn", 0.3, 0.3, 0.3), *row("random", 0.5, 0.5, 0.5), *row("constant", 0.5, 0.5, 0.5)]
    sections = page(found, view("random", "knn", "constant"))
    assert sections["Which row is best"] == [
        "KNN is the only row that is measured on all 3 OOD sets: 30.0 (95 % interval at most 29.0 to 31.0)."
    ]
    assert sections["Near against far"][0].startswith("Far sets are easier than near ones for 0 of 1 row;")


def test_rows_that_are_exactly_as_good():
    found = [*row("knn", 1.0, 1.0, 1.0, half=0), *row("msp", 1.0, 1.0, 1.0, half=0)]
    best = page(found, view("knn", "msp"))["Which row is best"][0]
    assert best.startswith("KNN; MSP are best, exactly alike, on average over 3 OOD sets: 100.0")


def test_one_set():
    found = [record("knn", FAR, 0.9), record("msp", FAR, 0.8), record("lowlevel", FAR, 0.99)]
    sections = page(
        found, view("knn", "msp", "lowlevel", sets=[FAR]), comparison({"lowlevel": 0.99, "knn": 0.9, "msp": 0.8})
    )
    assert sections["Which row is best"][0] == "LOWLEVEL is best against Birds: 99.0 (95 % interval 98.0 to 100.0)."
    assert "No OOD set is left without them." in sections["Shortcuts"]
    assert "Near against far" not in sections


def test_nothing_measured():
    for found in ([], row("knn", 0, 0, 0, status="failed"), [record("knn", FAR, 0.9)]):
        assert page(found, view("knn"))["Which row is best"][0] == "No row is measured on every OOD set."
    assert page([record("knn", BLURRED, 0.9)], view("knn", sets=[BLURRED])).keys() >= {
        "Which row is best",
        "Resolution",
    }


def test_names_have_their_encoder_where_there_are_several_and_markdown_is_escaped():
    rows = [("a", "k*NN|", "net_a"), ("b", "MSP", "net_b")]
    found = [*row("a", 0.9, 0.9, 0.9), *row("b", 0.8, 0.8, 0.8)]
    assert page(found, view(*rows))["Which row is best"][0].startswith(r"k\*NN\| on net_a is best")


# The same features

SIMPLE = [
    *row("knn", 0.8, 0.8, 0.8),
    *row("pca", 0.9, 0.9, 0.9),
    *row("mahalanobis", 0.99, 0.99, 0.99, encoder="other"),
]


def same(found, *names, compared=None):
    return page(found, view(*names, "knn", "pca", "mahalanobis"), compared)["The same features, a simple detector"]


@pytest.mark.parametrize(
    ("auroc", "alike", "words"),
    [
        (0.95, False, "DLSR is 5.0 points higher, significant in its favour (p \\< 0.001)"),
        (0.85, False, "DLSR is 5.0 points lower, significant against it (p \\< 0.001)"),
        (0.85, True, "DLSR is 5.0 points lower, not significant (p = 0.4)"),
        (0.9, True, "they are equal to one decimal, not significant (p = 0.4)"),
    ],
)
def test_dlsr_against_the_best_simple_detector_of_its_encoder(auroc, alike, words):
    found = [*SIMPLE, *row("dlsr", *[auroc] * 3)]
    means = {"dlsr": auroc, "knn": 0.8, "pca": 0.9, "mahalanobis": 0.99}
    (sentence,) = same(found, "dlsr", compared=comparison(means, *([{"dlsr", "pca"}] if alike else [])))
    best = "the best of 2 simple detectors on features of the same encoder, PCA 90.0"
    assert sentence == f"DLSR {100 * auroc:.1f}; {best}: {words}."


def test_several_rows_of_dlsr_are_counted():
    aurocs = {"mse": 0.95, "lr": 0.5, "sim": 0.91}
    found = SIMPLE + [r for name, auroc in aurocs.items() for r in row(name, *[auroc] * 3, method="dlsr")]
    means = {**aurocs, "knn": 0.8, "pca": 0.9, "mahalanobis": 0.99}
    first, *rest = same(found, *aurocs, compared=comparison(means, {"sim", "pca"}))
    counts = "1 significantly better, 1 significantly worse, 1 neither"
    assert first == f"3 rows of DLSR against the best simple detector: {counts}."
    assert len(rest) == 3
    assert len(same(found, *aurocs)) == 3  # not counted where not tested
    assert all(sentence.endswith("not tested.") for sentence in same(found, *aurocs))


def test_dlsr_without_anything_to_compare():
    found = [*row("dlsr", 0.9, 0.9, 0.9), *row("gone", 0, 0, 0, method="dlsr", status="failed")]
    assert page(found, view("dlsr", "gone"))["The same features, a simple detector"] == [
        "DLSR 90.0; no simple detector on features of the same encoder is measured.",
        "GONE is not measured on every OOD set, so it is not compared.",
    ]
    assert "The same features, a simple detector" not in page(SIMPLE, view("knn", "pca"))


def test_one_score_with_two_signs_counts_once():
    aurocs = {"lr": 0.3, "released": 0.7, "sim": 0.95}
    found = SIMPLE + [r for name, auroc in aurocs.items() for r in row(name, *[auroc] * 3, method="dlsr")]
    means = {"lr": 0.3, "sim": 0.95, "knn": 0.8, "pca": 0.9, "mahalanobis": 0.99}
    compared = comparison(means, mirrored={"released": "lr"})
    first, *rest = same(found, *aurocs, compared=compared)
    assert first.startswith(
        "2 rows of DLSR against the best simple detector: 1 significantly better, 1 significantly w"
    )
    assert "RELEASED 70.0 is LR with the other sign, and counts with it." in rest
    best = page(found, view(*aurocs, "knn", "pca", "mahalanobis"), compared)["Which row is best"]
    assert "RELEASED is LR with the other sign: one score, tested once." in best
    assert not [line for line in best if line.startswith("Not tested")]


@pytest.mark.parametrize(
    ("trainings", "said"),
    [
        ({}, []),
        (
            {"msp": 1, "ebo": 1},
            ["Of 2 rows there is one training: what is said of them holds over images, of this training."],
        ),
        ({"msp": 5, "ebo": 5}, ["Rows with several trainings (n = 5) are tested over images and trainings."]),
    ],
)
def test_a_comparison_says_of_which_trainings_it_speaks(trainings, said):
    compared = comparison({"knn": 0.9, "msp": 0.85, "ebo": 0.6}, trainings=trainings)
    best = page(THREE, view("msp", "knn", "ebo"), compared)["Which row is best"]
    assert [line for line in best if "training" in line] == said


def test_images_in_two_sets_are_named():
    shared = "20 of its 40 images are also in the ID test set"
    found = [*THREE, record("vim", FAR, 0.9, of_set={"notes": [shared, "a subset"]})]
    assert page(found, view("msp", "knn", "ebo", "vim"))["Images in two sets"] == [
        f"Birds: {shared}; they count in both."
    ]
    assert "Images in two sets" not in page(THREE, view("msp", "knn", "ebo"))


# Resolution


def test_native_less_id_resolution():
    both = {"knn": {"dolls": (80.0, 79.95), "birds": (90.0, 70.0), "cars": (100.0, 99.0)}}
    both["msp"] = {"dolls": (70.0, 99.0), "birds": (90.0, 90.0), "cars": (95.0, 95.0)}
    both["ebo"] = {"cars": (60.0, 60.0)}
    assert page(THREE, view("msp", "knn", "ebo"), both=both)["Resolution"] == [
        "Higher at native than at ID resolution by more than 1 point on average over the sets measured at both: 1 of 3 "
        "main rows; lower: 1.",
        "Largest differences, native and ID resolution: MSP against Dolls 70.0, 99.0; KNN against Birds 90.0, 70.0.",
        "Best on average is KNN at native, MSP at ID resolution.",
        "| native less ID resolution | Dolls | Birds | Cars | mean |",
        "| :--- | ---: | ---: | ---: | ---: |",
        "| KNN | +0.0 | +20.0 | +1.0 | +7.0 |",
        "| MSP | -29.0 | +0.0 | +0.0 | -9.7 |",
        "| EBO | – | – | +0.0 | +0.0 |",
        "![Both resolutions](figures/resolution.png)",
    ]


def test_images_that_are_of_one_size_need_no_table():
    both = {"knn": {"dolls": (80.0, 80.04), "birds": (90.0, 90.0)}}
    assert page(THREE, view("msp", "knn"), both=both)["Resolution"] == [
        "No AUROC of a main row differs between native and ID resolution, to one decimal."
    ]
    assert "Resolution" not in page(THREE, view("msp", "knn"), both={"other": {"dolls": (80.0, 1.0)}})


def test_who_flags_the_id_set_in_another_resolution():
    sets = [FAR, BLURRED]
    values = {"knn": 0.99, "msp": 0.55, "ebo": 0.505, "vim": 0.6, "dlsr": 0.53, "react": 0.7}
    found = [r for name, value in values.items() for r in row(name, 0.8, value, sets=sets)]
    (sentence,) = page(found, view(*values, sets=sets))["Resolution"]
    assert sentence == (
        "Toys, blurred, the ID test set itself in another resolution: flagged by 5 of 6 rows (significantly above "
        "50); highest KNN 99.0 (98.0 to 100.0); REACT 70.0 (69.0 to 71.0); VIM 60.0 (59.0 to 61.0). "
        "Highest of DLSR's rows: DLSR 53.0 (52.0 to 54.0)."
    )
    (sentence,) = page(row("ebo", 0.8, 0.505, sets=sets), view("ebo", sets=sets))["Resolution"]
    assert sentence.endswith("flagged by none of 1 row (significantly above 50); highest EBO 50.5 (49.5 to 51.5).")


# Shortcuts


def test_one_row_of_many_that_is_just_above_chance_is_not_said_to_flag():
    rows = [f"row{number}" for number in range(10)]  # each with its interval just above 50: p = .02, ten of them
    found = [r for name in rows for r in (record(name, BLURRED, 0.5105), record(name, FAR, 0.9))]
    (sentence,) = page(found, view(*rows, sets=(FAR, BLURRED)))["Resolution"]
    assert "flagged by none of 10 rows" in sentence
    (sentence,) = page(found[:2], view("row0", sets=(FAR, BLURRED)))["Resolution"]
    assert "flagged by 1 of 1 row" in sentence


def test_a_control_is_flagged_over_trainings_too():
    # five trainings at 52 +- 1 over images, which move by 10 points
    found = [record("knn", BLURRED, auroc, seed=seed) for seed, auroc in enumerate((0.4, 0.46, 0.52, 0.58, 0.64))]
    found += [record("knn", FAR, 0.9, seed=seed) for seed in range(5)]
    (sentence,) = page(found, view("knn", sets=(FAR, BLURRED)))["Resolution"]
    assert "flagged by none of 1 row" in sentence


def test_means_without_the_sets_that_low_level_statistics_separate():
    found = [*row("knn", 0.8, 0.7, 1.0), *row("msp", 0.85, 0.9, 0.7), *row("lowlevel", 0.6, 0.905, 0.95)]
    assert page(found, view("knn", "msp", "lowlevel"))["Shortcuts"] == [
        "Low-level statistics of the pixels alone separate 1 of 3 OOD sets (AUROC significantly above 90): Cars 95.0.",
        "MSP and not KNN is the best main row without it.",
        "| mean AUROC | all sets | without it | difference |",
        "| :--- | ---: | ---: | ---: |",
        "| KNN | 83.3 | 75.0 | -8.3 |",
        "| MSP | 81.7 | 87.5 | +5.8 |",
    ]


def test_no_shortcut_is_said_and_no_detector_of_shortcuts_is_not():
    found = [*row("knn", 0.8, 0.7, 1.0), *row("lowlevel", 0.6, 0.7, 0.8)]
    (sentence,) = page(found, view("knn", "lowlevel"))["Shortcuts"]
    assert sentence.startswith("Low-level statistics of the pixels separate no OOD set (")
    assert "Shortcuts" not in page(THREE, view("knn"))
    assert "Shortcuts" not in page(row("lowlevel", 0, 0, 0, status="failed"), view("lowlevel"))


# Near and far


def test_near_against_far():
    assert page(THREE, view("msp", "knn", "ebo"))["Near against far"] == [
        "Far sets are easier than near ones for 2 of 3 rows; the mean of far less near is +12.5 points.",
        "Largest gap: MSP, near 70.0, far 92.5 (+22.5).",
        "Best near: KNN, 80.0; best far: KNN, 95.0.",
    ]


# Published numbers


def test_cells_that_leave_the_published_numbers():
    few = {"of_set": {"n": 100}, "train": {"n": 50, "of": 500, "notes": []}}
    found = [record("knn", NEAR, 0.8), record("knn", FAR, 0.9, **few, footnotes=["--quick: short"])]
    found += [record("msp", NEAR, 0.7), record("msp", FAR, 0.7, footnotes=["--quick: short"])]
    numbers = {("knn", "dolls"): 81.0, ("knn", "birds"): 98.0, ("msp", "dolls"): 60.0, ("msp", "birds"): 72.5}
    published = {(*cell, "auroc"): value for cell, value in numbers.items()} | {("msp", "average", "auroc"): 1.0}
    assert page(found, view("knn", "msp", sets=SETS[:2], published=published))["Against the published numbers"] == [
        "More than 1 point from the published AUROC: 3 of 4 cells, 1 higher and 2 lower.",
        "Largest: MSP against Dolls 70.0, published 60.0; KNN against Birds 90.0, published 98.0; "
        "MSP against Birds 70.0, published 72.5.",
        "May explain 2 of these: --quick: short.",
        "May explain 1 of these: Birds: 100 of 300 test images.",
        "May explain 1 of these: Fitted on 50 of 500 ID training images.",
        "Nothing that is recorded explains: MSP against Dolls.",
    ]


def test_the_sign_of_lr_is_named_as_a_cause():
    settings = {"measure": "lr", "lr_sign": "paper"}
    found = [
        record("lr", NEAR, 0.2, method="dlsr", hyperparameters=settings),
        record("released", NEAR, 0.8, method="dlsr", hyperparameters={**settings, "lr_sign": "released"}),
    ]
    published = {(name, "dolls", "auroc"): 94.3 for name in ("lr", "released")}
    lines = page(found, view("lr", "released", sets=SETS[:1], published=published))["Against the published numbers"]
    (cause,) = (line for line in lines if line.startswith("May explain 1 of these"))
    assert "LR has the sign that the paper argues for" in cause
    assert "Nothing that is recorded explains: RELEASED against Dolls." in lines


def test_numbers_as_published():
    published = {("knn", "dolls", "auroc"): 80.9, ("knn", "cars", "fpr95"): 1.0}
    (sentence,) = page(THREE, view("knn", published=published))["Against the published numbers"]
    assert sentence == "More than 1 point from the published AUROC: none of 1 cell."
    assert "Against the published numbers" not in page(THREE, view("knn"))


# Limits


def test_limits_say_what_the_numbers_are_of():
    stand_in = {"stands_in_for": "Eagles"}
    found = [
        record("knn", NEAR, 0.8),
        record("knn", FAR, 0.9, half=0.03, of_set=stand_in),
        record("lowlevel", NEAR, 0.99),
    ]
    absent = [("Boats", "download them")]
    limits = page(found, view("knn", "lowlevel", sets=SETS[:2], absent=absent))["Limits"]
    assert limits[0].startswith("The 95 % interval of an AUROC is ±1.0 points at the median, ±3.0 at most;")
    assert limits[1:] == [
        "Images: Toys (test, ID) 300; Dolls (test, near) 300; Birds (test, far) 300.",
        "Birds: stands in for Eagles, and is not it.",
        "Fitted on 500 ID training images.",
        "Resolution native: every image goes from its own size straight to the encoder's.",
        "Seeds: n = 1 everywhere.",
        "Absent: Boats: download them.",
    ]


# Main rows


@pytest.mark.parametrize(
    ("dlsr", "others", "expected"), [(6, 10, (4, 4)), (6, 2, (6, 2)), (1, 10, (1, 7)), (0, 3, (0, 3))]
)
def test_main_rows_are_the_best_of_dlsr_and_of_the_others(dlsr, others, expected):
    names = {f"dlsr{n}": "dlsr" for n in range(dlsr)} | {f"other{n}": "knn" for n in range(others)}
    names |= {"lowlevel": "lowlevel", "random": "random"}
    found = [
        r for n, (name, method) in enumerate(names.items()) for r in row(name, *[0.9 - n / 100] * 3, method=method)
    ]
    main = Ranking(found, view(*names)).main
    assert main == [f"dlsr{n}" for n in range(expected[0])] + [f"other{n}" for n in range(expected[1])]


# The whole way


def test_a_run_writes_its_findings_and_compares_with_the_run_beside_it(trial, drawn):
    few = ("--methods", "msp", "knn", "--ood", "halves")
    assert trial.run(*few) == trial.run(*few, "--resolution", "id") == 0
    folder = trial.results / "mini+resolution=id+limit=30+limit-train=60"
    text = (folder / "findings.md").read_text()
    assert "is best against" in text
    assert "Paired DeLong tests on the same images, Holm's correction over the " in text
    assert "No AUROC of a main row differs between native and ID resolution" in text  # digits are all of one size
    assert (folder / "significance.csv").read_text().startswith("row_a,row_b,")
    assert {"critical_difference.png", "resolution.png"} <= {path.name for path in (folder / "figures").iterdir()}
