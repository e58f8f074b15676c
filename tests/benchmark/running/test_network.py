"""`--network NAME --checkpoint FILE`: the user's own network in the place of the suite's encoders."""

import numpy as np
import pytest
import timm
import torch
import yaml

from benchmark.planning import changing, suite
from datasets.sources import find
from tests.benchmark.conftest import SUITE


@pytest.fixture
def checkpoint(tmp_path):
    torch.manual_seed(0)
    network = timm.create_model("test_resnet", num_classes=10).eval()
    torch.save({"state_dict": network.state_dict(), "epoch": 3}, tmp_path / "my.pth")
    return network


def own(tmp_path, *more):
    return ("--network", "test_resnet", "--checkpoint", str(tmp_path / "my.pth"), "--size", "32", "--crop", "1", *more)


def test_every_row_that_can_stand_on_it_does(trial, checkpoint, tmp_path, capsys):
    assert trial.run(*own(tmp_path)) == 0
    records = trial.records("mini+network=test_resnet+limit=30+limit-train=60")
    assert {record["row"] for record in records.values()} == {
        "msp@test_resnet", "knn@test_resnet", "mse@test_resnet", "sim@test_resnet", "lowlevel@pixels",
    }  # fmt: skip
    said = "my.pth: read as timm's test_resnet, under 'state_dict'; its images: short side to 32 pixels (bilinear)"
    assert said in capsys.readouterr().err
    first = next(record for record in records.values() if record["row"] == "msp@test_resnet")
    assert any(said in footnote for footnote in first["footnotes"])


def test_accuracy_is_the_networks_own(trial, checkpoint, tmp_path):
    assert trial.run(*own(tmp_path, "--methods", "msp", "--ood", "letters"), small=False) == 0
    (record,) = trial.records("mini+network=test_resnet").values()
    test = find("digits", "test", tmp_path / "data")
    pixels = torch.stack([torch.from_numpy(image) for image in test.read(np.arange(len(test)))])
    config = timm.get_pretrained_cfg("test_resnet")
    x = (pixels.permute(0, 3, 1, 2) / 255 - torch.tensor(config.mean).view(3, 1, 1)) / torch.tensor(config.std).view(
        3, 1, 1
    )
    with torch.inference_mode():
        right = checkpoint(x).argmax(1).numpy() == test.labels
    assert record["accuracy"] == pytest.approx(right.mean(), abs=1e-9)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--network", "test_resnet"), "--network NAME with --checkpoint FILE"),
        (("--checkpoint", "my.pth"), "my.pth"),
        (("--size", "32"), "--network NAME with --checkpoint FILE"),
        (("--network", "test_resnet", "--checkpoint", "/absent.pth"), "/absent.pth is no file"),
    ],
)
def test_half_of_it_is_a_usage_error(trial, capsys, flags, said):
    with pytest.raises(SystemExit, match="2"):
        trial.run(*flags)
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--network", "resnet81"), "neither timm nor torchvision has a network 'resnet81'; did you mean"),
        (("--mean", "125", "123", "114"), "mean is"),
        (("--crop", "0"), "crop is"),
    ],
)
def test_what_cannot_be_is_one_line(trial, checkpoint, tmp_path, capsys, flags, said):
    assert trial.run(*own(tmp_path, *flags)) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


def test_a_file_that_does_not_fit_skips_the_network_alone_and_names_both_sides(trial, checkpoint, tmp_path, capsys):
    torch.save({"other.weight": torch.zeros(3)}, tmp_path / "my.pth")
    assert trial.run(*own(tmp_path)) == 1
    assert "my.pth holds no classifier (fc.weight)" in capsys.readouterr().err


def test_of_rows_on_several_encoders_each_is_there_once():
    there = changing.with_network(suite.read("cifar10"), {"network": "test_resnet", "checkpoint": "x.pth"})
    labels = [row.label for row in there.rows]
    assert len(labels) == len(set(labels))
    assert {row.encoder for row in there.rows} <= {
        "test_resnet",
        *(n for n, s in there.encoders.items() if s.kind == "pixels"),
    }
    assert all(row.published is None for row in there.rows if row.encoder == "test_resnet")


def test_a_suite_names_a_file_from_where_it_lies(trial, checkpoint, tmp_path):
    net = {"kind": "network", "settings": {"network": "test_resnet", "checkpoint": "./my.pth", "size": 32, "crop": 1.0}}
    trial.write(encoders={**SUITE["encoders"], "net": net})
    assert trial.run("--methods", "msp") == 0
    assert {record["status"] for record in trial.records().values()} == {"done"}
    text = yaml.safe_dump(list(trial.records().values()))
    assert str(tmp_path) not in text
