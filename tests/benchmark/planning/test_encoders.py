"""Which network an encoder of a suite is: from a file that is named, shipped with the suite, or trained on purpose."""

import os

import pandas as pd
import pytest
import timm
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


def broken(kind, path):
    """A file that is there and is no network."""
    path.parent.mkdir(exist_ok=True)
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "text":
        path.write_text("<html>404</html>")
    elif kind == "pixels":
        save(path, mean="[125.3, 123.0, 113.9]", std="[63.0, 62.1, 66.7]")
    elif kind == "integers":
        state = cifar.build("resnet8", 10).state_dict()
        save_file({name: value.to(torch.int8) for name, value in state.items()}, path, HEADER)
    else:
        with path.open("wb") as file:
            file.truncate(1 << 40)


@pytest.mark.parametrize("kind", ["fifo", "device", "text", "pixels", "integers", "terabyte"])
def test_a_file_that_is_no_network_stops_its_rows_alone(trial, counted, capsys, kind):
    broken(kind, trial.folder / "weights" / "mine.safetensors")
    trial.write(
        encoders={
            "net": {"kind": "classifier", "settings": {**NET, "checkpoint": "mine"}},
            "pixels": {"kind": "pixels", "settings": {"resolution": 8}},
        },
        rows=[{"method": "msp", "encoder": "net"}, {"method": "lowlevel", "encoder": "pixels"}],
    )
    assert trial.run() == 1
    assert counted["TrainEncoder"] == 0
    records = trial.records().values()
    assert {record["status"] for record in records if record["method"] == "lowlevel"} == {"done"}
    reasons = {record["reason"] for record in records if record["method"] == "msp"}
    assert len(reasons) == 1
    assert "mine.safetensors" in reasons.pop()
    assert "Traceback" not in capsys.readouterr().err


def test_a_checkpoint_without_names_says_in_table_and_record_what_it_is_taken_for(trial, capsys):
    save(trial.folder / "weights" / "mine.safetensors")
    write(trial, checkpoint="mine")
    assert trial.run() == 0
    note = "mine.safetensors does not name its classes; taken as "
    assert note in capsys.readouterr().out
    assert all(any(note in line for line in record["footnotes"]) for record in trial.records().values())


def test_a_checkpoint_for_each_seed_is_taken_in_turn(trial, counted, capsys):
    for seed in (0, 1):
        save(trial.folder / "weights" / f"net_s{seed}.safetensors", seed=seed)
    encoders = {
        "net": {"kind": "classifier", "settings": {**NET, "checkpoint": "net_s{seed}"}},
        "moved": {"kind": "perturbed", "settings": {"base": "net"}},
    }
    trial.write(encoders=encoders, rows=[{"method": "msp", "encoder": name} for name in encoders])
    assert trial.run("--seeds", "0", "1") == 0
    assert counted["TrainEncoder"] == 0
    assert statuses(trial) == {(0, "done"), (1, "done")}
    of = {(record["row"], record["seed"]): record["metrics"] for record in trial.records().values()}
    for row in ("msp@net", "msp@moved"):
        assert of[row, 0] != of[row, 1]
    assert "Left out" not in capsys.readouterr().out
    table = pd.read_csv(next(trial.results.glob("*/table.csv")))
    assert set(table.seeds) == {2}
    write(trial, checkpoint="net_s1")
    trial.results = trial.folder / "alone"
    assert trial.run() == 0
    assert {record["row"]: record["metrics"] for record in trial.records().values()} == {"msp@net": of["msp@net", 1]}


@pytest.mark.parametrize("seeds", ["02", "20"])
def test_a_seed_whose_checkpoint_is_not_there_is_skipped_alone(trial, capsys, seeds):
    save(trial.folder / "weights" / "net_s0.safetensors")
    spec = {"kind": "classifier", "settings": {**NET, "checkpoint": "net_s{seed}"}, "title": "Three of a kind"}
    trial.write(encoders={"net": spec}, rows=[{"method": "msp", "encoder": "net"}])
    trial.run("--seeds", *seeds)
    assert statuses(trial) == {(0, "done"), (2, "skipped")}
    out = capsys.readouterr()
    assert "there is no network net_s2 in" in out.err
    assert "Three of a kind\n" in out.out
    assert {record["encoder_title"] for record in trial.records().values()} == {"Three of a kind"}


def test_a_file_without_a_head_is_told_before_anything_is_encoded(trial, counted, capsys):
    model = "test_efficientnet.r160_in1k"
    network = timm.create_model(model, num_classes=0)
    (trial.folder / "weights").mkdir()
    save_file(network.state_dict(), trial.folder / "weights" / f"{model}.safetensors")
    encoders = {
        "net": {"kind": "pretrained", "settings": {"model": model, "resolution": 32}},
        "odin": {"kind": "perturbed", "settings": {"base": "net"}},
    }
    trial.write(encoders=encoders, rows=[{"method": "msp", "encoder": name} for name in encoders])
    assert trial.run() == 1
    told = capsys.readouterr().err
    assert f"msp reads logits, which net does not offer: {model}.safetensors holds none" in told
    assert f"odin runs the head of net, and {model}.safetensors holds none" in told
    assert counted["Encode"] == 0
