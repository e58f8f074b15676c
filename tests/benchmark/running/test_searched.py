"""`--searched`: rows whose hyper-parameters come from their grid, by held-out ID images and a validation set."""

import csv
import shutil
from dataclasses import replace
from statistics import fmean

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

import methods
import run_all
from benchmark.jobs.encoding import Encode, load_features
from benchmark.jobs.fitting import FitMethod
from benchmark.planning import planner, suite, sweeping
from benchmark.planning.options import Options
from benchmark.records import searching
from benchmark.store.entries import Store
from tests.benchmark.conftest import SUITE, Trial, undrawn
from tests.benchmark.running.test_sweep import noise as noise
from tests.benchmark.running.test_sweep import noisy

FOLDER = "mini+limit=30+limit-train=60"
ROWS = [{"method": name, "encoder": "net"} for name in ("msp", "scale", "vra", "knn")]


def planned(trial, noise, **more):
    where = {"data": trial.folder / "data", "weights": trial.folder / "weights", "results": trial.results}
    options = Options(**where, cache=trial.results / ".cache", limit=30, limit_train=60, speed=False, **more)
    return planner.Planner(suite.read(str(trial.suite)), options, download=False)


def below(*jobs):
    """The jobs and all that they need."""
    return [job for one in jobs for job in (one, *below(*one.needs))]


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A run that has searched; tests work on copies of it."""
    trial = Trial(tmp_path_factory.mktemp("searched"))
    trial.write(rows=ROWS)
    with undrawn():
        assert trial.run("--searched", noisy(trial.folder / "noise")) == 0
    return trial


@pytest.fixture
def copied(searched, tmp_path):
    shutil.copytree(searched.folder, tmp_path / "copy")
    trial = Trial(tmp_path / "copy")
    trial.write(rows=ROWS)
    return trial


@pytest.fixture
def run(copied):
    return copied


def test_the_best_of_the_grid_is_a_row_of_its_own_and_marked_everywhere(run, noise, capsys):
    records = list(run.records().values())
    by_row = {record["row"]: record for record in records}
    # knn's grid starts at 50, and there are 57 training images to search on: 50 alone is possible
    assert set(by_row) == {"msp@net", *(f"{m}{s}@net" for m in ("scale", "vra", "knn") for s in ("", ":searched"))}
    assert by_row["knn:searched@net"]["searched"]["left_out"] == ["k 100", "k 200", "k 500", "k 1000"]
    for name in ("scale", "vra"):
        record = by_row[f"{name}:searched@net"]
        how = record["searched"]
        grid = methods.get(name).grid
        assert len(how["values"]) == len(grid)
        assert how["auroc"] == max(how["values"].values())
        first = next(label for label, value in how["values"].items() if value == how["auroc"])
        assert set(first.split(", ")) == {f"{k} {v}" for k, v in how["choice"].items()}
        assert how["choice"] in grid
        assert {k: record["hyperparameters"][k] for k in how["choice"]} == how["choice"]
        assert how["grid"] == {k: list(dict.fromkeys(one[k] for one in grid)) for k in how["choice"]}
        assert (how["set"], how["n_id"], how["n_ood"]) == ("noise", 3, 12)
        assert record["title"] == by_row[f"{name}@net"]["title"] + searching.MARK
        plain = methods.create(name)
        assert all(v == getattr(plain, k) for k, v in by_row[f"{name}@net"]["hyperparameters"].items())
    folder = run.results / FOLDER
    for file in ("table.md", "table.tex", "table.csv"):
        assert "SCALE, searched" in (folder / file).read_text(), file
    page = (folder / "table.md").read_text()
    assert "was chosen of 7 settings by AUROC of 3 held-out ID images against noise (12 images; " in page
    assert "not possible here: k 100; k 200; k 500; k 1000" in page
    with (folder / "table.csv").open() as file:
        states = {line["row"]: line["searched"] for line in csv.DictReader(file)}
    assert {row for row, state in states.items() if state} == {row for row in by_row if ":searched" in row}
    capsys.readouterr()
    before = run.records()
    assert run.run("--searched", noise) == 0  # nothing is measured again
    assert "0 measured" in capsys.readouterr().err
    assert run.records() == before
    assert run.run("--redraw") == 0
    assert "SCALE, searched" in (folder / "table.md").read_text()


def test_without_the_flag_published_defaults_run_alone(trial):
    trial.write(rows=ROWS)
    assert trial.run() == 0
    assert {record["row"] for record in trial.records().values()} == {"msp@net", "scale@net", "vra@net", "knn@net"}


def test_only_a_search_reads_the_validation_set_and_none_reads_a_test_image(trial, noise):
    trial.write(rows=[*ROWS, {"method": "dlsr", "encoder": "net", "settings": {"blocks": 1, "epochs": 1}}])
    made = planned(trial, noise, searched=noise)
    found = made.plan(Store(trial.results / ".cache"))
    tests = {selection.images.fingerprint for selection in (made.test, *(c.images for c in made.columns))}
    validation = made.validation.images.fingerprint
    searches = [search for row in found.rows for search in row.searches]
    assert len(searches) == 7 + 16 + 5
    read = [job.images for job in below(*searches) if isinstance(job, Encode)]
    of_fits = below(*(job for job in below(*searches) if isinstance(job, FitMethod)))
    assert not {images.images.fingerprint for images in read} & (tests - {made.train.images.fingerprint})
    assert validation in {images.images.fingerprint for images in read}
    assert all(images.images.split == "train" for images in read if images.images.fingerprint != validation)
    assert validation not in {job.images.images.fingerprint for job in of_fits if isinstance(job, Encode)}
    others = [cell for row in found.rows for cell in row.cells]
    assert len(others) == 2 * 5
    assert validation not in {j.images.images.fingerprint for j in below(*others) if isinstance(j, Encode)}


def test_a_candidates_scores_are_bit_for_bit_those_of_a_fresh_row_with_its_settings(run, noise):
    store = Store(run.results / ".cache")
    values = {record["row"]: record.get("searched") for record in run.records().values()}
    for candidates in planned(run, noise, searched=noise).candidates:
        name, found = candidates.row.method, []
        for choice, _, (search,) in candidates.searches:
            if not search.done(store):
                continue
            fresh = methods.create(name, **choice.values)
            if fit := search.id.fit:
                train, held_out = (load_features(jobs, store, fresh.reads) for jobs in (fit.train, fit.validation))
                fresh.fit(replace(train, validation=held_out))
            scores = []
            for job in search.needs:
                scores.append(fresh.score(load_features(job.images, store, fresh.reads)).numpy())
                assert np.array_equal(scores[-1], job.scores(store))
            auroc = roc_auc_score(np.r_[np.zeros(3), np.ones(12)], np.concatenate(scores))
            assert search.found(store)["auroc"] == pytest.approx(auroc)
            said = ", ".join(f"{hyperparameter} {value}" for hyperparameter, value in choice.values.items())
            assert values[f"{name}:searched@net"]["values"][said] == pytest.approx(auroc)
            found.append(np.concatenate(scores))
        # a search that compares a method with itself would find all alike
        assert len(found) == 1 or not all(np.array_equal(found[0], other) for other in found[1:])


def test_the_searched_row_is_a_fresh_row_with_what_was_chosen(run):
    record = next(
        r for r in run.records().values() if r["row"] == "scale:searched@net" and r["ood"]["name"] == "letters"
    )
    percentile = record["hyperparameters"]["percentile"]
    assert run.run("--methods", f"scale:percentile={percentile}") == 0
    (fresh,) = (
        r
        for r in run.records().values()
        if r["row"] == f"scale:percentile={percentile}@net" and r["ood"]["name"] == "letters"
    )
    assert fresh["metrics"] == record["metrics"]
    assert fresh["scores"] == record["scores"]


def test_a_grid_of_the_suite_reaches_the_encoder_too(trial, noise):
    """ODIN's: its temperature is the row's and the gradient's, its step the encoder's alone."""
    grid = {"temperature": [1, 1000], "epsilon": [0.0, 0.2]}
    odin = {"kind": "perturbed", "settings": {"base": "net"}}
    row = {"name": "odin", "method": "msp", "encoder": "odin", "settings": {"temperature": 1000}, "grid": grid}
    trial.write(encoders={"net": SUITE["encoders"]["net"], "odin": odin}, rows=[row])
    assert trial.run("--searched", noise) == 0
    found = {record["row"]: record for record in trial.records().values()}
    (chosen,) = (record for label, record in found.items() if "searched" in label)
    how = chosen["searched"]
    assert set(how["values"]) == {f"epsilon {e}, temperature {t}" for t in (1, 1000) for e in (0.0, 0.2)}
    choice = how["choice"]
    assert chosen["hyperparameters"] == {"temperature": choice["temperature"]}
    assert chosen["row"] == f"odin:searched@odin:epsilon {choice['epsilon']}, temperature {choice['temperature']}"
    assert chosen["title"] == found["odin@odin"]["title"] + searching.MARK
    assert found["odin@odin"]["hyperparameters"] == {"temperature": 1000}
    # a fresh suite with what was chosen has the same scores
    odin["settings"] |= choice
    row = {"name": "fresh", "method": "msp", "encoder": "odin", "settings": {"temperature": choice["temperature"]}}
    trial.write(encoders={"net": SUITE["encoders"]["net"], "odin": odin}, rows=[row])
    assert trial.run() == 0
    of_letters = {r["row"]: r for r in trial.records().values() if r["ood"]["name"] == "letters"}
    assert of_letters["fresh@odin"]["scores"] == of_letters[chosen["row"]]["scores"]


def test_a_choice_of_several_seeds_is_that_of_their_mean(trial, noise):
    trial.write(rows=[{"method": "scale", "encoder": "net"}], seeds=[0, 1])
    assert trial.run("--searched", noise) == 0
    found = [r for r in trial.records().values() if r["row"] == "scale:searched@net" and r["ood"]["name"] == "letters"]
    assert {record["seed"] for record in found} == {0, 1}
    assert len({record["hyperparameters"]["percentile"] for record in found}) == 1
    store = Store(trial.results / ".cache")
    (candidates,) = planned(trial, noise, searched=noise).candidates
    means = [fmean(search.found(store)["auroc"] for search in searches) for *_, searches in candidates.searches]
    assert list(found[0]["searched"]["values"].values()) == pytest.approx(means)


@pytest.mark.parametrize(
    ("rows", "arguments", "said"),
    [
        (ROWS, ["--searched"], "--searched: mini follows no protocol with a set for this: --searched SET"),
        (
            ROWS[:1],
            ["--searched", "NOISE"],
            "--searched: no row of this run has a grid to search",
        ),
        (ROWS, ["--searched", "halves"], "of its images are also in Halves"),
    ],
)
def test_what_cannot_be_searched_is_one_line(trial, noise, capsys, rows, arguments, said):
    trial.write(rows=rows)
    assert run_all.main(trial.arguments(*(noise if word == "NOISE" else word for word in arguments))) == 2
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1


def test_a_protocol_has_a_set_for_the_search():
    cifar10 = suite.read("cifar10")
    follows = cifar10.model_copy(update={"protocol": "cifar10"})
    assert sweeping.validation_set(follows, "") == ("tiny_imagenet", "validation")
    assert sweeping.validation_set(follows, "svhn") == ("svhn", "test")
    with pytest.raises(suite.UsageError, match="cifar10 follows no protocol"):
        sweeping.validation_set(cifar10, "")


def test_the_plan_lists_the_searches_first(trial, noise, capsys):
    trial.write(rows=[{"method": "scale", "encoder": "net"}])
    assert trial.run("--searched", noise, "--plan") == 0
    told = capsys.readouterr().out
    assert told.count("search on noise with scale on net") == 7


def test_the_grids_are_openoods():
    sizes = {name: len(methods.get(name).grid) for name in methods.names() if methods.get(name).grid}
    assert sizes == {
        "adascale": 36, "ash": 7, "fdbd": 2, "gen": 42, "knn": 5, "nci": 4, "react": 4, "relation": 5, "scale": 7,
        "vim": 2, "vra": 16,
    }  # fmt: skip
    for name in sizes:
        for choice in methods.get(name).grid:
            methods.create(name, **choice)
