"""Values of a hyper-parameter: rows that are only shown, unless one is chosen on a set that no test set shares."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from PIL import Image
from sklearn.metrics import roc_auc_score

from benchmark.jobs.searching import Search
from benchmark.planning import suite as suites
from benchmark.planning import sweeping
from benchmark.planning.options import Options
from benchmark.planning.suite import UsageError
from datasets.sources import find
from tests.benchmark.conftest import SUITE

FOLDER = "mini+limit=30+limit-train=60"
WHERE = dict.fromkeys(("data", "weights", "results", "cache"), Path("/nowhere"))
KNN = {f"knn:k={k}@net" for k in (1, 5, 20)}


def noisy(folder):
    """A validation set: a folder of images that no test set has."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    for number in range(12):
        Image.fromarray(generator.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    return str(folder)


@pytest.fixture
def noise(tmp_path):
    return noisy(tmp_path / "noise")


def rows(trial):
    found = {}
    for record in trial.records().values():
        found.setdefault(record["row"], []).append(record)
    return found


def test_the_values_are_rows_beside_the_suites_that_are_compared_with_none(trial, capsys):
    assert trial.run("--sweep", "knn.k=1,5,20", "--all-rows") == 0
    found = rows(trial)
    assert set(found) > KNN
    assert "knn@net" in found
    assert all("sweep" not in record for record in found["knn@net"])
    for row in KNN:
        for record in found[row]:
            assert record["sweep"] == {
                "of": "knn@net",
                "hyperparameter": "k",
                "value": record["hyperparameters"]["k"],
            }
            assert record.get("searched") is None
    folder = trial.results / FOLDER
    page = (folder / "table.md").read_text()
    assert "kNN (k=1), kNN (k=5), kNN (k=20) on " in page
    assert "values of a sweep, only shown: never the best, compared with no row." in page
    lines = [line for line in page.splitlines() if line.startswith("| kNN (k=")]
    assert len(lines) == 3
    assert not any("**" in line for line in lines)
    said = (folder / "findings.md").read_text().split("## Limits")[0]
    assert "k=" not in said
    assert "k=" not in (folder / "significance.csv").read_text()
    assert "searched" not in page


def test_one_is_chosen_on_the_named_set_and_marked_everywhere(trial, noise, capsys):
    arguments = ("--sweep", "knn.k=1,5,20", "--searched", noise)
    assert trial.run(*arguments) == 0
    found = rows(trial)
    by_search = {row: found[row][0]["searched"]["auroc"] for row in KNN}
    best = max(by_search.values())
    chosen = {row for row in KNN if found[row][0]["searched"]["chosen"]}
    assert len(chosen) == 1
    (row,) = chosen
    assert by_search[row] == best
    for record in found[row]:
        assert record["title"] == f"kNN (k={record['sweep']['value']}), searched"
        assert record["searched"]["values"] == {str(found[r][0]["sweep"]["value"]): by_search[r] for r in KNN}
        assert record["searched"]["n_ood"] == 12
    title = found[row][0]["title"]
    folder = trial.results / FOLDER
    for name in ("table.md", "table.csv", "table.tex"):
        assert title in (folder / name).read_text(), name
    assert title in capsys.readouterr().out
    page = (folder / "table.md").read_text()
    assert f"{title} on " in page
    assert "k was chosen by AUROC of 3 held-out ID images against noise (12 images; 1: " in page
    said = (folder / "findings.md").read_text()
    assert said.count("k=") == said.count("k=1") + said.count("k=5") + said.count("k=20")
    before = trial.records()
    assert trial.run(*arguments) == 0  # nothing is measured again, and the mark stays
    assert "0 measured" in capsys.readouterr().err
    assert trial.records() == before
    assert trial.run("--redraw") == 0
    assert title in (folder / "table.md").read_text()


def test_the_choice_is_made_on_images_that_its_fit_has_not_seen(trial, noise, counted):
    """The suite fits on all 60 training images: the search has a fit of its own, on the 57 that are left."""
    assert trial.run("--methods", "knn", "--sweep", "knn.k=5", "--searched", noise) == 0
    (record, _) = rows(trial)["knn:k=5@net"]
    assert (record["searched"]["n_id"], record["searched"]["n_ood"]) == (3, 12)
    assert counted["FitMethod"] == 2  # the suite's k is 5 as well: one fit for the table, one for the search
    assert counted["images Classifier"] == 60 + 3 * 30 + 57 + 3 + 12


def test_the_auroc_that_chooses_is_that_of_the_held_out_images_and_the_set():
    held_out, validation = np.array([0.1, 0.5, 0.3]), np.array([0.2, 0.9, 0.5, 0.7])
    images = SimpleNamespace(images=SimpleNamespace(name="noise", title="Noise"), identity={})
    ood = SimpleNamespace(scores=lambda _: validation, images=[SimpleNamespace(images=images)])
    found = Search(SimpleNamespace(scores=lambda _: held_out), ood).figures(None)
    labels = np.r_[np.zeros(3), np.ones(4)]
    assert found["auroc"] == pytest.approx(roc_auc_score(labels, np.r_[held_out, validation]))
    assert (found["n_id"], found["n_ood"], found["chosen"]) == (3, 4, False)


def test_what_a_fit_does_not_depend_on_shares_it(trial, counted):
    assert trial.run("--methods", "mse", "--sweep", "mse.k=2,3,4") == 0
    assert counted["FitMethod"] == 1


@pytest.mark.parametrize("path", [True, False])
def test_a_set_that_shares_an_image_with_a_test_set_is_refused(trial, tmp_path, noise, capsys, path):
    if path:  # the suite is tested on a copy of one image of the set
        test = tmp_path / "photos"
        test.mkdir()
        Image.open(f"{noise}/3.png").save(test / "copy.png")
        (test / "copy.png").write_bytes((tmp_path / "noise" / "3.png").read_bytes())
        trial.write(ood=[*SUITE["ood"], {"set": str(test)}])
        assert trial.run("--sweep", "knn.k=1,5", "--searched", noise) == 2
        said = "1 of its images are also in photos, on which this run is tested"
    else:
        assert trial.run("--sweep", "knn.k=1,5", "--searched", "halves") == 2
        said = "of its images are also in Halves, on which this run is tested"
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert said in told


@pytest.mark.parametrize(("shared", "how"), [("train", "fitted"), ("test", "tested"), ("calibration", "fitted")])
def test_a_set_that_holds_id_images_is_refused(tmp_path, noise, shared, how):
    sides = {}
    for number, split in enumerate(("train", "test", "calibration")):
        (tmp_path / split).mkdir()
        other = np.full((8, 8, 3), number, dtype=np.uint8)
        Image.fromarray(other).save(tmp_path / split / "other.png")
        if split == shared:
            (tmp_path / split / "copy.png").write_bytes(Path(noise, "3.png").read_bytes())
        sides[split] = find(str(tmp_path / split), "test", None)
    known = SimpleNamespace(forms=SimpleNamespace(check=lambda images: None), sides=sides)
    with pytest.raises(UsageError, match=f"1 of its images are also in {shared}, on which this run is {how}"):
        sweeping.validation(noise, "test", lambda name, split: find(name, split, None), Options(**WHERE), known, ())


@pytest.mark.parametrize(
    ("token", "said"),
    [
        ("knn", "--sweep knn: a sweep is ROW.hyper-parameter=value,value"),
        ("knn.k=", "a sweep is ROW"),
        ("knn.kk=5", "--sweep knn:kk=5@net: knn has no hyper-parameter 'kk'; did you mean 'k'"),
        ("knn.k=5,0", "k is 0"),
        ("knn.k=5,5", "k=5 stands there twice"),
        ("knnn.k=5", "--sweep: no method or row 'knnn'; did you mean 'knn'"),
    ],
)
def test_a_sweep_that_cannot_be_is_one_line(tmp_path, token, said):
    path = tmp_path / "mini.yaml"
    path.write_text(yaml.safe_dump(SUITE))
    with pytest.raises(UsageError) as caught:
        sweeping.sweeps(suites.read(str(path)), [token])
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_value_that_this_data_cannot_give_stops_its_row_alone(trial, noise):
    assert trial.run("--methods", "knn", "--sweep", "knn.k=5,500", "--searched", noise) == 0
    found = rows(trial)
    assert {record["status"] for record in found["knn:k=500@net"]} == {"skipped"}
    assert all(record["searched"]["chosen"] for record in found["knn:k=5@net"])
