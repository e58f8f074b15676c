"""Which network an encoder of a suite is: from a file that is named, shipped with the suite, or trained on purpose."""

import pytest
import torch
from safetensors.torch import save_file

from methods.encoders.networks import cifar

NET = {"architecture": "resnet8", "epochs": 1, "augment": "none"}
HEADER = {"mean": "[0.5, 0.5, 0.5]", "std": "[0.25, 0.25, 0.25]"}


def save(path, *, classes=10, seed=0, **header):
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    save_file(cifar.build("resnet8", classes).state_dict(), path, {**HEADER, **header})


def write(trial, kind="classifier", method="msp", **settings):
    trial.write(
        encoders={"net": {"kind": kind, "settings": {**NET, **settings}}}, rows=[{"method": method, "encoder": "net"}]
    )


def statuses(trial, suite="mini+limit=30+limit-train=60"):
    return {(record["seed"], record["status"]) for record in trial.records(suite).values()}


@pytest.mark.parametrize("file", [None, "mine.bin", "Mine.safetensors"])
def test_a_checkpoint_that_is_not_there_is_never_replaced_by_a_training(trial, counted, capsys, file):
    if file is not None:
        save(trial.folder / "weights" / file)
    write(trial, checkpoint="mine")
    assert trial.run("--plan") == 0
    assert "there is no network mine in" in capsys.readouterr().out
    assert trial.run() in (0, 1)  # 1 where a run that measures nothing counts as failed
    assert statuses(trial) == {(0, "skipped")}
    assert counted["TrainEncoder"] == 0
    out = capsys.readouterr()
    assert "there is no network mine in" in out.out
    assert "skipped: msp@net: there is no network mine in" in out.err


@pytest.mark.parametrize("kind", ["finetuned", "simclr", "oal"])
def test_no_kind_of_encoder_trains_for_a_checkpoint_that_is_not_there(trial, counted, kind):
    settings = {"checkpoint": "mine", "epochs": 1}
    settings |= {"model": "test_efficientnet.r160_in1k", "resolution": 32} if kind == "finetuned" else {}
    method = "msp" if kind != "simclr" else "knn"
    trial.write(encoders={"net": {"kind": kind, "settings": settings}}, rows=[{"method": method, "encoder": "net"}])
    trial.run()
    assert counted["TrainEncoder"] == 0
    assert statuses(trial) == {(0, "skipped")}


def test_a_checkpoint_may_be_named_with_its_ending(trial, counted):
    save(trial.folder / "weights" / "mine.safetensors")
    write(trial, checkpoint="mine.safetensors")
    assert trial.run() == 0
    assert counted["TrainEncoder"] == 0


def test_what_a_suite_ships_is_used_without_seeds_and_for_seed_0(trial, counted, capsys):
    save(trial.folder / "net.safetensors", seed=3)
    write(trial, shipped="net.safetensors")
    assert trial.run() == 0
    assert counted["TrainEncoder"] == 0
    without = [record["metrics"] for record in trial.records().values()]
    assert trial.run("--seeds", "0", "1") == 0
    assert counted["TrainEncoder"] == 1  # that of seed 1
    assert statuses(trial) == {(0, "done"), (1, "done")}
    of_seed = {seed: [r["metrics"] for r in trial.records().values() if r["seed"] == seed] for seed in (0, 1)}
    assert of_seed[0] == without
    assert of_seed[1] != without
    assert "n = 2" in capsys.readouterr().out  # both stand in one table: they are one encoder


def test_what_a_suite_ships_is_not_looked_for_among_the_weights_and_never_trained_where_it_is_absent(trial, counted):
    save(trial.folder / "weights" / "net.safetensors")
    write(trial, shipped="net.safetensors")
    trial.run()
    assert counted["TrainEncoder"] == 0
    assert statuses(trial) == {(0, "skipped")}


@pytest.mark.parametrize("shipped", ["../net.safetensors", "net.pth", "/tmp/net.safetensors", "net"])
def test_what_is_shipped_lies_beside_the_suite_as_safetensors(trial, capsys, shipped):
    write(trial, shipped=shipped)
    assert trial.run() == 2
    assert "shipped is the name of a .safetensors file" in capsys.readouterr().err
