"""The command from end to end: what is measured, what is reused, what happens when something goes wrong."""

from collections import Counter

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

import methods
import run_all
from benchmark.jobs import measuring
from benchmark.jobs.mistaking import ShowMistakes
from benchmark.jobs.timing import MeasureSpeed
from benchmark.reporting import drawing
from benchmark.reporting.ahead import Ahead
from benchmark.store.chunks import ChunkWriter
from methods.encoders.classifier import Classifier

FOLDER = "mini+limit=30+limit-train=60"


def test_a_run_measures_every_cell_and_says_where_it_wrote(trial, drawn, drawers, capsys, monkeypatch):
    late, before = [], drawing._finish
    monkeypatch.setattr(drawing, "_finish", lambda *given: (late.append(given[1].path), before(*given)))
    assert trial.run() == 0
    assert late  # what compares rows
    assert not [path for path in late if "histograms" in path]  # those were drawn beside the measuring
    printed = capsys.readouterr()
    for word in ("MSP", "KNN", "average", "halves", "etters", "AUROC", "FPR95"):
        assert word.lower() in printed.out.lower()
    assert FOLDER in printed.err
    folder = trial.results / FOLDER
    for name in ("table.md", "table.csv", "table.tex", "figures/roc.png"):
        assert (folder / name).stat().st_size > 100
    assert len(list((folder / "figures" / "histograms").glob("*.png"))) == 5
    records = trial.records()
    assert len(records) == 5 * 2
    for path, record in records.items():
        assert record["status"] == "done", path
        scores = folder / "scores" / record["row"]
        id_scores = np.load(scores / "digits.seed0.npy")
        ood_scores = np.load(scores / f"{record['ood']['name']}.seed0.npy")
        assert (len(id_scores), len(ood_scores)) == (record["id"]["n"], record["ood"]["n"]) == (30, 30)
        labels = np.r_[np.zeros(30), np.ones(30)]
        assert record["metrics"]["auroc"] == pytest.approx(roc_auc_score(labels, np.r_[id_scores, ood_scores]))
        low, high = record["intervals"]["auroc"]
        assert low <= record["metrics"]["auroc"] <= high
    accuracies = {record["row"]: record["accuracy"] for record in records.values()}
    assert accuracies["lowlevel@pixels"] is None
    assert accuracies["msp@net"] == accuracies["knn@net"] is not None


def test_speeds_are_measured_last_and_while_nothing_is_drawn(trial, monkeypatch):
    told = []
    monkeypatch.setattr(Ahead, "measured", lambda self, row: told.append(row.spec.label))
    monkeypatch.setattr(Ahead, "rest", lambda self: told.append("rest"))
    monkeypatch.setattr(MeasureSpeed, "run", lambda self, worker: told.append(f"speed {self.row}"))
    monkeypatch.setattr(ShowMistakes, "run", lambda self, worker: told.append("mistakes"))
    monkeypatch.setattr("benchmark.reporting.report.text", lambda *what: told.append("table") or "")
    timed = [word for word in trial.arguments("--methods", "msp", "lowlevel") if word != "--no-speed"]
    assert run_all.main(timed) == 0
    speeds = ["rest", "speed msp@net", "rest", "speed lowlevel@pixels"]
    assert told == ["msp@net", "lowlevel@pixels", *speeds, "table", *["mistakes"] * 4, "rest"]


def test_an_image_goes_through_an_encoder_once(trial, counted):
    trial.run("--seeds", "0", "1")
    test_images = 3 * 30  # ID and two OOD sets
    assert counted["images Pixels"] == 60 + test_images
    assert counted["images Classifier"] == 2 * (60 + test_images)  # two seeds are two networks
    assert counted["TrainEncoder"] == 2
    assert counted["FitMethod"] == 2 + 2 + 1  # knn, dlsr for both of its rows, lowlevel
    assert counted["Measure"] == 2 * (2 + 2 + 2 * 2 + 1)


def test_a_second_run_does_nothing(trial, counted, monkeypatch):
    trial.run()
    counted.clear()
    before = trial.records()
    from benchmark.reporting import figures, speeds

    for module, name in ((figures, "histograms"), (figures, "roc_curves"), (speeds, "speed")):
        monkeypatch.setattr(module, name, lambda *_, **__: pytest.fail("drawn again"))
    assert trial.run() == 0
    assert not counted
    assert trial.records() == before


def test_a_changed_hyperparameter_reruns_its_row_alone(trial, counted):
    trial.run()
    counted.clear()
    from tests.benchmark.conftest import SUITE

    rows = [dict(row) for row in SUITE["rows"]]
    rows[1]["settings"] = {"k": 7}
    trial.write(rows=rows)
    trial.run()
    assert counted == {"FitMethod": 1, "Score": 3, "Measure": 2}
    counted.clear()
    rows[3]["settings"] = {**rows[3]["settings"], "k": 4}  # a hyper-parameter of the score alone
    trial.write(rows=rows)
    trial.run()
    assert counted == {"Score": 3, "Measure": 2}


def test_one_more_ood_set_is_measured_alone(trial, counted):
    trial.run("--methods", "msp", "knn")
    before = trial.records()
    counted.clear()
    trial.run("--methods", "msp", "knn", "--ood", "shuffled")
    assert counted == {"Encode": 1, "images Classifier": 30, "Score": 2, "Measure": 2}
    after = trial.records()
    assert {path: after[path] for path in before} == before
    table = (trial.results / FOLDER / "table.csv").read_text()
    assert "shuffled" in table
    assert "letters" in table


def test_a_trial_never_touches_a_whole_run(trial):
    trial.run("--methods", "lowlevel", small=False)
    whole = {path: path.read_bytes() for path in (trial.results / "mini").rglob("*") if path.is_file()}
    assert len(whole) > 5
    trial.run("--methods", "lowlevel")
    trial.run("--methods", "lowlevel", "--resolution", "id")
    assert {path: path.read_bytes() for path in (trial.results / "mini").rglob("*") if path.is_file()} == whole
    records = trial.records(f"mini+resolution=id{FOLDER.removeprefix('mini')}")
    assert {record["resolution"] for record in records.values()} == {"id"}


def test_a_greater_limit_contains_the_smaller(trial):
    trial.run("--methods", "lowlevel", "--limit", "20")
    trial.run("--methods", "lowlevel", "--limit", "40")
    at = "scores/lowlevel@pixels/letters.seed0.npy"
    small, large = (np.load(trial.results / f"mini+limit={n}+limit-train=60" / at) for n in (20, 40))
    same = np.isclose(small[:, None], large, rtol=1e-9)  # blocks of another size round otherwise on some processors
    assert same.any(axis=1).all()
    assert len(large) == 40


@pytest.fixture
def new_method(tmp_path, monkeypatch):
    """Write a method file where the registry finds it; it is forgotten after the test."""
    from benchmark.store import keys
    from methods import base

    read = keys._read
    monkeypatch.setattr(keys, "_read", lambda name: (read.__wrapped__ if name in written else read)(name))
    written = set()
    methods.names()  # the others are registered for good before the registry is put aside
    monkeypatch.setattr(methods, "__path__", [*methods.__path__, str(tmp_path / "more")])
    monkeypatch.setattr(methods, "_imported", set(methods._imported))
    monkeypatch.setattr(base, "_METHODS", dict(base._METHODS))
    (tmp_path / "more").mkdir()

    def write(name, body):
        import sys

        written.add(f"methods.{name}")
        keys.source.cache_clear()
        sys.modules.pop(f"methods.{name}", None)
        (tmp_path / "more" / f"{name}.py").write_text(
            "from dataclasses import dataclass\nimport torch\nfrom methods.base import CannotRun, Method, register\n\n"
            f"@register('{name}')\n@dataclass\nclass New(Method):\n    title = '{name}'\n    reads = ('embedding',)\n"
            f"    def score(self, x):\n        {body}\n"
        )

    return write


def test_a_new_file_runs_without_being_named_anywhere(trial, new_method):
    new_method("newnorm", "return -x.embedding.norm(dim=1)")
    assert trial.run("--methods", "newnorm") == 0
    assert {record["row"] for record in trial.records().values()} == {"newnorm@net"}


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        ("raise RuntimeError('no convergence after 9 steps')", "failed", "no convergence after 9 steps"),
        ("return x.embedding[:, 0] * float('nan')", "failed", "scored NaN for 30 of 30 images"),
        ("return x.embedding", "failed", "scores of shape"),
        ("raise CannotRun('needs a moon')", "skipped", "needs a moon"),
    ],
)
def test_a_row_that_fails_does_not_stop_the_others(trial, new_method, capsys, body, status, reason):
    new_method("broken", body)
    assert trial.run("--methods", "broken", "msp") == (1 if status == "failed" else 0)
    records = trial.records()
    statuses = {(record["row"], record["status"]) for record in records.values()}
    assert statuses == {("broken@net", status), ("msp@net", "done")}
    assert all(reason in record["reason"] for record in records.values() if record["status"] == status)
    printed = capsys.readouterr()
    assert status in printed.out
    assert reason in printed.err
    assert "Traceback" not in printed.err
    new_method("broken", "return x.embedding[:, 0]")  # mended: nothing of the failure is reused
    methods._imported.discard("broken")
    assert trial.run("--methods", "broken", "msp") == 0
    assert {record["status"] for record in trial.records().values()} == {"done"}


def test_scores_without_spread_are_chance(trial):
    trial.run("--methods", "constant", "random")
    for record in trial.records().values():
        if record["method"] == "constant":
            assert record["metrics"]["auroc"] == 0.5
            assert record["metrics"]["fpr95"] == 1


def test_what_is_absent_is_listed_with_the_remedy_and_strict_counts_it(trial, capsys):
    from tests.benchmark.conftest import SUITE

    encoders = {**SUITE["encoders"], "b4": {"kind": "pretrained", "settings": {"model": "tf_efficientnet_b4.aa_in1k"}}}
    rows = [SUITE["rows"][0], {"method": "knn", "encoder": "b4"}]
    trial.write(encoders=encoders, rows=rows, ood=[*SUITE["ood"], {"set": "places365"}])
    assert trial.run() == 0
    printed = capsys.readouterr()
    assert "places365" in printed.out.lower()
    assert "tf_efficientnet_b4" in printed.out + printed.err
    for table in trial.results.glob("*/table.*"):  # are committed, and say nothing of this machine
        assert str(trial.folder) not in table.read_text(), table
    statuses = {record["row"]: record["status"] for record in trial.records().values()}
    assert statuses == {"msp@net": "done", "knn@b4": "skipped"}
    assert trial.run("--strict") == 1


def test_a_full_disk_stops_the_run_and_keeps_what_was_measured(trial, monkeypatch, capsys):
    trial.run("--methods", "lowlevel")
    before = trial.records()

    def full(self, arrays):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ChunkWriter, "append", full)
    assert trial.run() == 1
    assert "no space left" in capsys.readouterr().err
    assert trial.records() == before


def test_out_of_gpu_memory_halves_the_batch_and_changes_no_score(trial, monkeypatch, tmp_path):
    trial.run("--methods", "msp")
    expected = trial.records()
    before, tried = Classifier.encode, []

    def encode(self, images):
        tried.append(len(images))
        if len(images) > 7:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return before(self, images)

    monkeypatch.setattr(Classifier, "encode", encode)
    trial.results = tmp_path / "anew"
    assert trial.run("--methods", "msp", "--batch-size", "20", "--cache", str(tmp_path / "other")) == 0
    assert trial.records() == expected
    assert [images for images in tried if images > 7] == [20, 10]  # not once a batch
    assert max(tried[2:]) == 5


def test_out_of_gpu_memory_while_scoring_halves_the_block(trial, monkeypatch, tmp_path):
    trial.run("--methods", "lowlevel")
    expected = trial.records()
    method = methods.get("lowlevel")
    before, tried = method.score, []

    def score(self, x):
        tried.append(len(x))
        if len(x) > 7:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return before(self, x)

    monkeypatch.setattr(method, "score", score)
    trial.results = tmp_path / "anew"
    assert trial.run("--methods", "lowlevel", "--cache", str(tmp_path / "other")) == 0
    assert trial.records() == expected
    assert max(tried) > 7


def test_a_results_folder_that_cannot_be_written_is_one_line(trial, capsys):
    trial.results.write_text("a file where the folder should be")
    with pytest.raises(SystemExit) as end:
        trial.run("--methods", "lowlevel")
    assert end.value.code == 2
    assert capsys.readouterr().err == f"error: argument --results: {trial.results} is no folder\n"


@pytest.mark.parametrize("fail_at", [1, 4])
def test_ctrl_c_leaves_interrupted_cells_and_the_same_command_goes_on(trial, monkeypatch, capsys, counted, fail_at):
    before = measuring.Measure.run
    calls = Counter()

    def run(self, worker):
        calls["measure"] += 1
        if calls["measure"] == fail_at:
            raise KeyboardInterrupt
        before(self, worker)

    monkeypatch.setattr(measuring.Measure, "run", run)
    assert trial.run() == 130
    assert "interrupted" in capsys.readouterr().err
    statuses = Counter(record["status"] for record in trial.records().values())
    assert statuses == {"done": fail_at - 1, "interrupted": 11 - fail_at} or fail_at == 1
    counted.clear()
    assert trial.run() == 0
    assert Counter(record["status"] for record in trial.records().values()) == {"done": 10}
    assert counted["TrainEncoder"] == 0


def test_redraw_measures_nothing(trial, drawn, counted):
    trial.run("--methods", "lowlevel")
    counted.clear()
    picture = trial.results / FOLDER / "figures" / "roc.png"
    picture.unlink()
    assert trial.run("--methods", "lowlevel", "--redraw") == 0
    assert not counted
    assert picture.is_file()


def test_the_plan_is_data_and_carries_nothing_out(trial, counted, capsys):
    assert trial.run("--plan") == 0
    first = capsys.readouterr().out
    assert set(counted) <= {"images Pixels"}  # 64 of them, to time it
    assert "0 done" in first
    assert not (trial.results / FOLDER).exists()
    trial.run()
    capsys.readouterr()
    trial.run("--plan")
    second = capsys.readouterr().out
    total = int(second.splitlines()[-1].split()[0])
    assert f"{total} jobs, {total} done" in second
    kinds = ("encode", "fit", "score", "accuracy", "measure")
    jobs = [[line.split()[:2] for line in text.splitlines() if line.startswith(kinds)] for text in (first, second)]
    assert jobs[0] == jobs[1]
    assert len(jobs[0]) == total


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--methods", "knm"], "did you mean 'knn'"),
        (["--ood", "svhm"], "did you mean 'svhn'"),
        (["--ood", "digits"], "the ID test set itself"),
        (["--device", "cuda:99"], "--device"),
        (["--device", "tpu"], "valid are auto, cpu, cuda"),
        (["--pretrained", "resnet50"], "has no pretrained encoder"),
    ],
)
def test_usage_errors_are_one_line_and_status_2(trial, capsys, arguments, message):
    assert trial.run(*arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1


@pytest.mark.parametrize("arguments", [["--limit", "0"], ["--limit", "x"], ["--resolution", "big"], ["--nonsense"]])
def test_argparse_refuses_with_status_2(trial, arguments):
    with pytest.raises(SystemExit) as caught:
        trial.run(*arguments)
    assert caught.value.code == 2


def test_k_above_the_training_set_is_told(trial, capsys):
    from tests.benchmark.conftest import SUITE

    trial.write(rows=[{"method": "knn", "encoder": "net", "settings": {"k": 500}}, SUITE["rows"][0]])
    assert trial.run() == 0
    assert "skipped: knn@net: k is 500 but there are only 60 training images" in capsys.readouterr().err
    assert trial.run("--strict") == 1


def test_an_encoder_and_features_stay_as_they_are(trial):
    """No method changes what the next one reads: scores do not depend on which rows ran before."""
    from tests.benchmark.conftest import SUITE

    trial.run()
    other = type(trial)(trial.folder / "other")
    other.write(rows=SUITE["rows"][::-1])
    other.run()
    scores = list((trial.results / FOLDER / "scores").rglob("*.npy"))
    assert len(scores) == 5 * 3
    for path in scores:
        assert (other.results / path.relative_to(trial.results)).read_bytes() == path.read_bytes(), path


def photos(folder, count=8, size=(20, 30)):
    from PIL import Image

    folder.mkdir(parents=True)
    for number in range(count):
        pixels = np.random.default_rng(number).integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


def test_a_folder_of_images_is_an_ood_set(trial):
    folder = photos(trial.folder / "holiday")
    assert trial.run("--methods", "msp", "--ood", str(folder)) == 0
    (record,) = trial.records().values()
    assert (record["ood"]["name"], record["ood"]["n"], record["ood"]["group"]) == ("holiday", 8, "far")


@pytest.mark.parametrize("fault", ["truncated image", "empty folder", "corrupt parquet"])
def test_a_broken_set_fails_alone(trial, capsys, fault):
    folder = photos(trial.folder / "holiday")
    if fault == "truncated image":
        content = (folder / "3.png").read_bytes()
        (folder / "3.png").write_bytes(content[: len(content) // 2])
    else:
        for path in folder.iterdir():
            path.unlink()
    if fault == "corrupt parquet":
        (folder / "test-00000-of-00001.parquet").write_bytes(b"PAR1 no parquet PAR1")
    assert trial.run("--methods", "msp", "--ood", str(folder), "letters") == 1
    error = capsys.readouterr().err
    assert "holiday" in error or "test-00000" in error
    assert "Traceback" not in error
    done = {record["ood"]["name"] for record in trial.records().values() if record["status"] == "done"}
    assert done == {"letters"}


def test_a_folder_that_is_not_there_is_a_usage_error(trial, capsys):
    assert trial.run("--ood", "no/such/folder") == 2
    assert "no/such/folder" in capsys.readouterr().err


def test_an_absent_id_set_is_a_failure_with_the_remedy(trial, capsys):
    trial.write(id={"set": "imagenet"})
    assert trial.run() == 1
    error = capsys.readouterr().err
    assert "imagenet" in error.lower()
    assert len(error.strip().splitlines()) == 1


def test_without_any_ood_set_there_is_one_line_and_no_table(trial, capsys):
    (trial.folder / "empty").mkdir()
    timed = [argument for argument in trial.arguments("--ood", str(trial.folder / "empty")) if argument != "--no-speed"]
    assert run_all.main([*timed, "--methods", "lowlevel"]) == 1
    printed = capsys.readouterr()
    assert "no OOD set" in printed.out
    assert "empty" in printed.err
    assert "Traceback" not in printed.err
