"""A suite of OpenOOD's protocol: its lists say what is learned from, calibrated on, tested on and flagged."""

import re
import shutil

import numpy as np
import pytest
import yaml
from PIL import Image

from benchmark.planning import planner, suite
from benchmark.planning.options import Options
from benchmark.planning.suite import UsageError
from benchmark.records import frames
from benchmark.reporting import report
from datasets import openood

NAMES = [
    f"{split}/{name}/{n:04}.png" for split in ("train", "test") for name in ("airplane", "truck") for n in range(1, 11)
]


@pytest.fixture
def protocol(trial):
    """A suite on a small download, whose lists leave out some images."""
    root = trial.folder / "data"
    rng = np.random.default_rng(0)
    lists = {"cifar10/train_cifar10.txt": [], "cifar10/val_cifar10.txt": [], "cifar10/test_cifar10.txt": []}
    others = [f"cifar100/test/apple/{n:04}.png" for n in range(1, 9)]
    for name in (*(f"cifar10/{name}" for name in NAMES), *others):
        path = root / "images_classic" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(path)
    for name in NAMES:
        split, of_class, file = name.split("/")
        part = "train" if split == "train" else "val" if file <= "0002.png" else "test"
        lists[f"cifar10/{part}_cifar10.txt"].append(f"cifar10/{name} {9 if of_class == 'truck' else 0}")
    lists["cifar10/test_cifar100.txt"] = [f"{name} -1" for name in others[:5]]
    for name, lines in lists.items():
        path = root / "benchmark_imglist" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines))
    trial.write(
        id={"set": "cifar10", "size": 32},
        ood=[{"set": "cifar100", "group": "near", "published": "cifar100"}, {"set": "svhn", "published": "svhn"}],
        encoders={"pixels": {"kind": "pixels", "settings": {"resolution": 32}}},
        rows=[{"method": "lowlevel", "encoder": "pixels", "published": "MSP"}],
        protocol="cifar10",
        calibrate=True,
        metrics=["auroc", "fpr95_ood"],
        published={"id": "CIFAR-10", "tables": ["openood_cifar10"]},
    )
    return trial


def test_a_suite_of_the_protocol_runs_on_what_the_lists_name(protocol):
    assert protocol.run(small=False) == 0
    (record,) = protocol.records("mini").values()
    assert (record["id"]["n"], record["train"]["n"], record["ood"]["n"]) == (16, 20, 5)
    assert any("4 others of a split of their own calibrate" in note for note in record["train"]["notes"])
    assert "16 images in its list; OpenOOD v1.5's cifar10/test_cifar10.txt has 9,000" in record["id"]["notes"]


@pytest.mark.parametrize("listed", [True, False])
def test_without_training_images_runs_what_needs_none(listed, protocol, capsys):
    """ImageNet's are large: many have its validation split alone."""
    shutil.rmtree(protocol.folder / "data/images_classic/cifar10/train")
    if not listed:
        (protocol.folder / "data/benchmark_imglist/cifar10/train_cifar10.txt").unlink()
    made = yaml.safe_load(protocol.suite.read_text())
    made["rows"] = [{"method": name, "encoder": "pixels"} for name in ("lowlevel", "constant")]
    made["encoders"]["trained"] = {"kind": "classifier", "settings": {"architecture": "resnet8", "resolution": 32}}
    made["rows"].append({"method": "msp", "encoder": "trained"})
    protocol.suite.write_text(yaml.safe_dump(made))
    assert protocol.run(small=False) == 0
    of_row = {record["row"]: record for record in protocol.records("mini").values()}
    measured = of_row["constant@pixels"]
    assert (measured["status"], measured["id"]["n"], measured["train"]["n"]) == ("done", 16, 0)
    for row, why in {
        "lowlevel@pixels": "lowlevel is fitted on ID training images: cifar10 is not here",
        "msp@trained": "trained is trained on ID training images: cifar10 is not here",
    }.items():
        assert of_row[row]["status"] == "skipped"
        assert of_row[row]["reason"].startswith(why)
    assert "Fitted on 0 ID training images; none of them is here" in " ".join(capsys.readouterr().out.split())


def test_a_published_average_stands_beside_ours_where_all_of_its_sets_are_there(protocol):
    folders = {name: protocol.folder / name for name in ("data", "weights", "results", "cache")}
    made = planner.make(suite.read(str(protocol.suite)), Options(**folders), download=False)
    published = report.view(made, [], selected=True, notes=[]).published
    assert published["lowlevel@pixels", frames.NEAR, "auroc"] == 88.03
    assert published["lowlevel@pixels", frames.NEAR, "fpr95_ood"] == 48.17
    assert not any(average == frames.FAR for _, average, _ in published)  # svhn is not there


def test_an_average_over_other_sets_than_ours_stands_nowhere():
    whole = suite.read("imagenet1k")
    sets = {spec.set for spec in whole.ood}
    rows = [row.label for row in whole.rows]
    searched = {
        "react:searched@imagenet": "react@imagenet",
        "odin:searched@imagenet-odin:epsilon 1": "odin@imagenet-odin",
    }
    published = report.published(whole, sets, [*rows, *searched])
    for label, of in searched.items():  # the leaderboard's are searched as well
        assert published[label, frames.NEAR, "auroc"] == published[of, frames.NEAR, "auroc"]
    assert published["msp@imagenet", frames.NEAR, "auroc"] == 76.02
    assert published["scale@imagenet", "inaturalist", "auroc"] == 98.02
    assert not any(ood in (frames.FAR, "sun", "textures") for _, ood, _ in published)  # SUN is in our average
    assert frames.NEAR not in {ood for _, ood, _ in report.published(whole, sets - {"ninco"}, rows)}
    without = report.published(suite.read("openood-imagenet1k"), sets | {"imagenet_v2", "imagenet_c"}, rows)
    assert without["msp@imagenet", frames.FAR, "auroc"] == 85.23
    assert not any("spectrum" in ood for _, ood, _ in without)  # ImageNet-R is not there


def test_a_list_that_names_what_is_not_there_stops_its_set_alone(protocol, capsys):
    (protocol.folder / "data/images_classic/cifar100/test/apple/0001.png").unlink()
    protocol.run(small=False)
    captured = capsys.readouterr()
    assert re.search(r"1 of the 5 images that \S+\.txt names are not in", captured.out + captured.err)
    assert "Traceback" not in captured.err


def test_an_unknown_protocol_is_refused(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(
        "title: A\nid: {set: cifar10}\nprotocol: cifar\nood: [{set: svhn}]\n"
        "encoders: {pixels: {kind: pixels}}\nrows: [{method: lowlevel, encoder: pixels}]\n"
    )
    with pytest.raises(UsageError, match=r"no protocol 'cifar' of OpenOOD; did you mean 'cifar10'"):
        suite.read(str(path))


@pytest.mark.parametrize("name", [name for name in suite.names() if name.startswith("openood-")])
def test_the_suites_of_the_protocol_have_its_sets(name):
    read = suite.read(name)
    assert read.calibrate
    assert read.id.set == read.protocol
    listed = {of for protocol, of, split in openood.known() if protocol == read.protocol and split == "test"}
    shifted = {"cifar10_c", "imagenet_v2", "imagenet_c", "imagenet_r"}
    assert {ood.set for ood in read.ood} - shifted == listed - shifted - {read.id.set}
    assert read.metrics == ("auroc", "fpr95_ood")
