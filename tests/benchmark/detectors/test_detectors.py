"""A row saved and loaded again: the same scores, honest p-values, nothing of a damaged or hostile folder."""

import csv
import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import run_all
from benchmark.detecting import Detector, build
from benchmark.detectors import folder as saved_folder
from benchmark.detectors.verdicts import accepted, p_values, share
from benchmark.jobs.encoding import load_features
from benchmark.jobs.worker import Worker
from benchmark.planning import planner
from benchmark.planning import suite as suites
from benchmark.planning.options import Options
from benchmark.records import thresholds
from benchmark.store import files
from benchmark.store.entries import Store
from datasets.sources import find

NET = {"kind": "classifier", "settings": {"architecture": "resnet8", "shipped": "digits_resnet8-b3b39c8d.safetensors"}}
TINY = {"blocks": 1, "epochs": 1, "width": 16}
ROWS = {
    "msp": {}, "ebo": {}, "react": {}, "gradnorm": {}, "mahalanobis": {}, "vim": {}, "klm": {}, "she": {},
    "knn": {"k": 3}, "layer_knn": {"k": 3}, "pca": {"components": 8}, "autoencoder": TINY,
    "dlsr": {**TINY, "k": 3},
}  # fmt: skip
KEPT = Path(__file__).parent / "format1"


def suite(**changes):
    rows = [{"method": name, "encoder": "net", "settings": settings} for name, settings in ROWS.items()]
    rows += [{"method": name, "encoder": "pixels"} for name in ("lowlevel", "random")]
    found = suites.Suite.model_validate(
        {
            "name": "tiny",
            "title": "tiny",
            "id": {"set": "digits"},
            "ood": [{"set": "letters"}],
            "encoders": {"net": NET, "pixels": {"kind": "pixels", "settings": {"resolution": 8}}},
            "rows": rows,
            "calibrate": True,
            **changes,
        }
    )
    found._folder = suites.SUITES
    return found


def planned(folder, **changes):
    where = dict.fromkeys(("data", "weights", "results", "cache"), folder)
    return planner.make(suite(**changes), Options(**where, limit=40, limit_train=400, speed=False), download=False)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return planned(folder), Store(folder / "store")


@pytest.fixture(scope="module")
def saved(run, tmp_path_factory):
    """The folder of one small detector; not to be written to."""
    folder = tmp_path_factory.mktemp("saved") / "mahalanobis"
    build(run[0], "mahalanobis@net", run[1]).save(folder)
    return folder


def images(count=7):
    test = find("digits", "test", None)
    return np.stack(test.read(np.arange(count)))


def saved_again(run, label, folder):
    """A row saved as a detector and loaded again; its ID test images; the harness's scores of them with the noise of
    index 0."""
    detector = build(run[0], label, run[1])
    detector.save(folder)
    made = next(row for row in run[0].rows if row.spec.label == label).scored
    x = load_features(made.images, run[1], detector.method.reads)
    method = Worker(run[1], device="cpu").fitted(made.method, made.settings, made.fit.key if made.fit else None)
    wanted = method.score(replace(x, index=torch.zeros_like(x.index))).double().numpy()
    return Detector.load(folder), np.stack(made.images[-1].images.images.read(x.index.tolist())), wanted


@pytest.mark.parametrize("row", [*(f"{name}@net" for name in ROWS), "lowlevel@pixels", "random@pixels"])
def test_a_saved_row_scores_as_the_harness_does_with_the_noise_of_index_0(run, row, tmp_path):
    again, test, wanted = saved_again(run, row, tmp_path / "d")
    found = np.concatenate([again.scores(test[:1]), again.scores(test[1:8]), again.scores(list(test[8:]))])
    assert np.abs(found - wanted).max() <= 1e-5 * wanted.std()
    assert again(test[:3])["score"].tolist() == again.scores(test[:3]).tolist()


def test_one_fit_serves_table_and_detector_where_the_suite_calibrates_else_there_is_one_of_its_own(run, tmp_path):
    about = build(run[0], "mahalanobis@net", run[1]).about
    assert about["differs"]["largest"] == 0
    assert about["calibration"]["network"] == "new to the network"
    whole = planned(tmp_path, calibrate=False)
    before = next(row for row in whole.rows if row.spec.method == "mahalanobis").scored
    own = build(whole, "mahalanobis", Store(tmp_path / "store"))
    assert own.about["differs"]["largest"] > 0
    assert own.about["differs"]["because"] == ["a fit of its own, without the calibration images"]
    assert before.fit.apart is False
    taken = before.fit.train[-1].images
    features = load_features(before.fit.train, own.worker.store, ("embedding", "labels"))
    from methods.mahalanobis import Mahalanobis

    by_hand = Mahalanobis().fit(features[torch.from_numpy(~taken.held_out)])
    assert torch.equal(by_hand.centres, own.method.centres)
    assert not torch.equal(Mahalanobis().fit(features).centres, own.method.centres)


def test_thresholds_are_those_of_its_calibration_scores_and_the_absent_are_named(saved):
    about = json.loads((saved / "detector.json").read_text())
    scores = np.array(about["calibration"]["scores"])
    assert len(scores) == about["calibration"]["images"]["n"] == 20
    assert list(about["thresholds"]) == ["90", "95"]
    assert about["thresholds"]["95"]["threshold"] == thresholds.threshold(scores, 95)
    assert set(about["thresholds"]["90"]) == {"threshold", "id", "ood"}
    assert about["absent"] == {"99": "99 % needs 99 calibration images; there are 20"}
    assert about["data"] == {"digits": "CC BY 4.0", "letters": about["data"]["letters"]}


def test_a_row_of_another_precision_is_strict_and_says_by_how_much_it_differs(tmp_path):
    where = dict.fromkeys(("data", "weights", "results", "cache"), tmp_path)
    options = Options(**where, limit=20, limit_train=100, speed=False, asked="bf16", precision="bf16")
    detector = build(planner.make(suite(), options, download=False), "msp", Store(tmp_path / "store"))
    assert [link.precision for link in detector.use.chain] == ["32"]
    assert detector.about["differs"]["because"] == ["the table's precision is bf16, its own 32"]
    assert detector.about["differs"]["largest"] > 1e-5


def test_p_values_and_verdicts_are_those_of_the_definition():
    calibration, scores = np.arange(1.0, 20.0), np.array([0.5, 1.0, 18.5, 19.0, 19.5, np.nan])
    assert p_values(calibration, scores)[:5].tolist() == [1.0, 1.0, 2 / 20, 2 / 20, 1 / 20]
    assert np.isnan(p_values(calibration, scores)[5])
    assert accepted(calibration, scores, "95").tolist() == [True, True, True, True, False, False]
    assert accepted(calibration, scores, "90").tolist() == [True, True, False, False, False, False]
    with pytest.raises(ValueError, match="96 % needs 24 calibration images; there are 19"):
        share("96", 19)
    for impossible in ("0", "100", "nan", "1e400", "x"):
        with pytest.raises(ValueError, match="percentage"):
            share(impossible, 19)


@pytest.mark.parametrize("name", ["detector.json", "encoder.safetensors", "method.safetensors", "checks.safetensors"])
def test_a_changed_byte_is_refused(saved, tmp_path, name, capsys):
    folder = tmp_path / "d"
    shutil.copytree(saved, folder)
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    assert run_all.main(["--detector", str(folder), "--score", str(folder), "--device", "cpu"]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert "does not verify" in shown.err


def hostile(saved, folder, change):
    shutil.copytree(saved, folder)
    content = json.loads((folder / "detector.json").read_text())
    change(content)
    (folder / "detector.json").write_text(files.text(files.sealed(content)))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda it: it.update(format=2), "format 2"),
        (lambda it: it.update(checks="../checks.safetensors"), "does not verify: checks"),
        (lambda it: it["encoders"][0].update(weights="/etc/passwd"), "does not verify: encoders"),
        (lambda it: it["encoders"][0]["settings"].update(checkpoint="/etc/passwd"), "not built from checkpoint"),
        (lambda it: it["encoders"][0].update(kind="os.system"), "no encoder 'os.system'"),
        (lambda it: it["encoders"][0].update(of={**it["encoders"][0], "weights": "/etc/passwd"}), "verify: encoders"),
        (
            lambda it: it["encoders"][0].update(kind="clip", settings={"model": "local-dir:/etc"}),
            "not the name of a model",
        ),
        (lambda it: it["encoders"][0].update(kind="clip", settings={"words": "/etc/passwd"}), "not built from words"),
        (lambda it: it["method"].update(name="__import__"), "no method '__import__'"),
        (lambda it: it["method"]["settings"].update(x=1), "no hyper-parameter 'x'"),
        (lambda it: it["calibration"].update(scores=[2.0, 1.0]), "do not ascend"),
        (lambda it: it["calibration"].update(scores="x"), "does not verify: calibration.scores"),
        (lambda it: it["files"]["checks.safetensors"].update(bytes=1 << 60), "does not verify: files"),
        (lambda it: it.pop("method"), "does not verify: method"),
    ],
)
def test_a_hostile_description_is_one_line_and_runs_nothing(saved, tmp_path, change, said):
    hostile(saved, tmp_path / "d", change)
    with pytest.raises(ValueError, match=said) as error:
        Detector.load(tmp_path / "d")
    assert "\n" not in str(error.value)


def test_an_encoder_that_would_read_a_file_by_its_settings_does_not(saved, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("methods.encoders.outliers.latents.sha256", lambda path: asked.append(path) or "x")
    settings = {"outliers": "latents", "latents": "/etc/passwd"}
    hostile(saved, tmp_path / "d", lambda it: it["encoders"][0].update(kind="oal", settings=settings))
    with pytest.raises(ValueError, match="not built from"):
        Detector.load(tmp_path / "d")
    assert asked == []


def test_a_link_in_the_place_of_a_file_is_not_followed(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "d")
    (tmp_path / "d" / "checks.safetensors").unlink()
    (tmp_path / "d" / "checks.safetensors").symlink_to(saved / "checks.safetensors")
    with pytest.raises(ValueError, match="it is a link"):
        Detector.load(tmp_path / "d")


def test_another_library_and_other_scores_are_told(saved, tmp_path, capsys):
    def elsewhere(it):
        it["made"]["versions"]["torch"] = "1.0"

    hostile(saved, tmp_path / "d", elsewhere)
    Detector.load(tmp_path / "d")
    assert "made with torch 1.0 (here " in capsys.readouterr().err


def test_what_is_scored_is_csv_alone(saved, tmp_path, capsys):
    photos = tmp_path / "photos"
    (photos / "more").mkdir(parents=True)
    for number, image in enumerate(images(3)):
        Image.fromarray(image).save(photos / f"{number}.png")
    (photos / "more" / "a,b.jpg").write_text("no image")
    (tmp_path / "=1+1.png").write_bytes((photos / "0.png").read_bytes())
    command = ["--detector", str(saved), "--score", str(photos), str(tmp_path / "=1+1.png"), "--device", "cpu"]
    assert run_all.main(command) == 0
    lines = list(csv.reader(io.StringIO(capsys.readouterr().out)))
    assert lines[0] == ["file", "score", "p_value", "accepted", "note"]
    assert [line[0] for line in lines[1:]] == [
        *(f"{photos}/{number}.png" for number in range(3)), f"{photos}/more/a,b.jpg", f"{tmp_path}/=1+1.png",
    ]  # fmt: skip
    detector = Detector.load(saved)
    table = detector(images(3))
    assert [float(line[1]) for line in lines[1:4]] == pytest.approx(table["score"].tolist(), abs=1e-5 * detector.spread)
    assert [line[3] for line in lines[1:4]] == [str(bool(yes)).lower() for yes in table["accepted"]]
    assert lines[4][1:4] == ["", "", ""]
    assert "cannot be decoded" in lines[4][4]
    assert run_all.main([*command, "--strict"]) == 1


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--accept", "99"], "99 % needs 99 calibration images; there are 20, enough for 95 %\n"),
        (["--accept", "x"], "x is no percentage"),
        (["--id", "digits"], "--detector beside --id"),
        (["--score", "/absent.png"], "/absent.png is not there"),
    ],
)
def test_what_cannot_be_asked_is_status_2(saved, capsys, more, said):
    try:
        status = run_all.main(["--detector", str(saved), "--score", str(saved), *more, "--device", "cpu"])
    except SystemExit as end:
        status = end.code
    shown = capsys.readouterr()
    assert status == 2
    assert said in shown.err
    assert shown.out == ""


def test_features_go_in_where_features_were_learned(tmp_path, capsys):
    generator = np.random.default_rng(0)
    (tmp_path / "mine" / "id").mkdir(parents=True)
    for split, n in (("train", 400), ("test", 30)):
        labels = np.arange(n) % 2
        embedding = (generator.normal(size=(n, 4)) + 3 * labels[:, None]).astype(np.float32)
        np.savez(tmp_path / "mine" / "id" / f"{split}.npz", embedding=embedding, labels=labels)
    from benchmark.planning import folder_suite

    where = dict.fromkeys(("data", "weights", "results", "cache"), tmp_path)
    made = planner.make(folder_suite.asked(str(tmp_path / "mine")), Options(**where), download=False)
    detector = build(made, "mahalanobis", Store(tmp_path / "store"))
    detector.save(tmp_path / "d")
    file = tmp_path / "mine" / "id" / "test.npz"
    assert run_all.main(["--detector", str(tmp_path / "d"), "--score", str(file), "--device", "cpu"]) == 0
    lines = list(csv.reader(io.StringIO(capsys.readouterr().out)))[1:]
    assert [line[0] for line in lines] == [f"{file}[{row}]" for row in range(30)]
    given = {"embedding": np.load(file)["embedding"]}
    assert [float(line[1]) for line in lines] == Detector.load(tmp_path / "d").scores(given).tolist()
    with pytest.raises(ValueError, match=r"embedding is \(4,\); it must be \(rows, columns\)"):
        detector.scores({"embedding": given["embedding"][0]})
    row = next(row for row in made.rows if row.spec.label == "mahalanobis@features")
    assert detector.scores(given).tolist() == row.scored.scores(Store(tmp_path / "store")).tolist()


def test_the_folder_of_format_1_is_loaded_by_every_later_version(capsys):
    detector = Detector.load(KEPT)
    assert "otherwise here" not in capsys.readouterr().err  # its eight inputs score as they did
    about = json.loads((KEPT / "detector.json").read_text())
    assert about["format"] == saved_folder.FORMAT == 1
    assert detector.calibration.tolist() == about["calibration"]["scores"]


def test_rows_are_named_by_label_or_by_a_name_that_is_one_rows_alone(run):
    from benchmark.detecting import row_of
    from benchmark.planning.suite import UsageError

    assert row_of(run[0], "vim").spec.label == row_of(run[0], "vim@net").spec.label == "vim@net"
    with pytest.raises(UsageError, match="did you mean 'mahalanobis@net'"):
        row_of(run[0], "mahalanobs@net")


def test_flags_that_save_write_the_folder_below_the_results(trial, capsys):
    trial.write(calibrate=True)
    assert trial.run("--methods", "msp", "--save", "nothing") == 2
    assert capsys.readouterr().err.startswith("error: --save: no row 'nothing'")
    trial.run("--methods", "msp", "--save", "msp")
    (folder,) = trial.results.glob("*/detectors/*")
    assert folder.name == "msp@net"
    assert f"wrote {folder}: " in capsys.readouterr().err
    assert {path.suffix for path in folder.iterdir()} == {".json", ".safetensors"}
