import pytest

from benchmark.records import records, resolutions
from benchmark.records.frames import View
from benchmark.records.names import speed_path

SETS = (("birds", "Birds", "far"), ("dolls", "Dolls", "near"), ("blurred", "Blurred", "control"))
VIEW = View("toy", "Toy", "Toys", [("knn", "kNN", "net"), ("msp", "MSP", "net"), ("random", "Random", "net")], SETS)


def run(resolution, aurocs, seed=0, **more):
    """The records of one row at one resolution: OOD set -> AUROC, a fraction."""
    names = ("auroc", "fpr95", "fpr95_ood", "aupr_ood", "aupr_id")
    about = {"schema": 1, "kind": "result", "row": "knn", "method": "knn", "status": "done", "seed": seed}
    about |= {"encoder_title": "net", "hyperparameters": {"k": 5}, "train": {"n": 9}, "resolution": resolution}
    return [
        {
            **about,
            "id": {"n": 5},
            "ood": {"name": ood, "n": 5},
            "metrics": dict.fromkeys(names, value),
            "intervals": {name: [value, value] for name in names[:2]},
            "accuracy": None,
            **more,
        }
        for ood, value in aurocs.items()
    ]


def test_native_comes_first_whichever_run_is_at_hand():
    native = run("native", {"birds": 0.9, "dolls": 0.8, "blurred": 0.7})
    at_id = run("id", {"birds": 0.6, "dolls": 0.85, "blurred": 0.5})
    expected = {"dolls": pytest.approx((80, 85)), "birds": pytest.approx((90, 60))}
    for pairs in (resolutions.pairs(native, at_id, VIEW), resolutions.pairs(at_id, native, VIEW)):
        assert pairs == {"knn": expected}  # the ID set in another resolution is not compared
        assert list(pairs["knn"]) == ["dolls", "birds"]  # near first


def test_means_over_seeds():
    native = [*run("native", {"birds": 0.9}), *run("native", {"birds": 0.8}, seed=1)]
    assert resolutions.pairs(native, run("id", {"birds": 0.6}), VIEW)["knn"]["birds"] == pytest.approx((85, 60))


@pytest.mark.parametrize(
    "other",
    [
        [],
        run("native", {"birds": 0.6}),
        run("id", {"dolls": 0.6}),
        run("id", {"birds": 0.6}, row="msp"),
        run("id", {"birds": 0.6}, hyperparameters={"k": 10}),
        run("id", {"birds": 0.6}, train={"n": 8}),
        run("id", {"birds": 0.6}, encoder_title="another net"),
    ],
)
def test_only_the_same_rows_are_compared(other):
    assert resolutions.pairs(run("native", {"birds": 0.9}), other, VIEW) == {}


def test_rows_that_check_the_harness_are_left_out():
    chance = [run(name, {"birds": 0.5}, row="random", method="random") for name in ("native", "id")]
    assert resolutions.pairs(*chance, VIEW) == {}


@pytest.mark.parametrize(
    ("here", "beside"),
    [
        ("toy", "toy+resolution=id"),
        ("toy+resolution=id", "toy"),
        ("toy+pretrained=m+limit=5", "toy+pretrained=m+resolution=id+limit=5"),
    ],
)
def test_the_folder_beside(tmp_path, here, beside):
    for name in (here, beside, f"{beside}+quick", "toy+resolution=id+limit=6"):
        record = {"schema": records.SCHEMA, "kind": "speed", "row": "knn", "status": "done", "key": "", "of": name}
        timed = {"images_per_second": 1.0, "batch": 1, "repeats": 5}
        record |= {"device": "cpu", "speeds": {"end_to_end": timed}}
        records.write(speed_path(tmp_path / name, "knn"), record)
    (tmp_path / "README.md").touch()
    assert [record["of"] for record in resolutions.sibling(tmp_path / here)] == [beside]


def test_no_folder_beside(tmp_path):
    (tmp_path / "toy").mkdir()
    assert resolutions.sibling(tmp_path / "toy") == []
