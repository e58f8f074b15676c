"""Encoders that are trained by the run: from a file's weights, and without labels."""

import numpy as np
import timm
import torch
from safetensors.torch import save_file

MODEL = "test_efficientnet.r160_in1k"
TUNED = {"kind": "finetuned", "settings": {"model": MODEL, "resolution": 32, "epochs": 1, "augment": "none"}}
SIMCLR = {
    "kind": "simclr",
    "settings": {"architecture": "resnet8", "resolution": 8, "epochs": 1, "warmup_epochs": 0, "augment": "digits"},
}


def save(folder, seed):
    folder.mkdir(exist_ok=True)
    torch.manual_seed(seed)
    network = timm.create_model(MODEL, pretrained=False)
    with torch.no_grad():
        network.train()(torch.randn(8, 3, 32, 32))
    save_file(network.state_dict(), folder / f"{MODEL}.safetensors")


def test_a_finetuned_encoder_is_trained_once_for_each_start(trial, counted, monkeypatch):
    weights = trial.folder / "weights"
    save(weights, seed=0)
    trial.write(encoders={"tuned": TUNED}, rows=[{"method": "msp", "encoder": "tuned"}])
    assert trial.run() == 0
    first = trial.records()
    assert {record["status"] for record in first.values()} == {"done"}
    assert {record["accuracy"] is not None for record in first.values()} == {True}
    assert counted["TrainEncoder"] == 1
    counted.clear()
    assert trial.run() == 0
    assert not counted
    save(weights, seed=1)  # the same name, other weights
    assert trial.run() == 0
    assert counted["TrainEncoder"] == 1
    assert trial.records() != first


def test_the_plan_says_how_to_get_an_absent_start(trial, capsys):
    trial.write(encoders={"tuned": TUNED}, rows=[{"method": "msp", "encoder": "tuned"}])
    assert trial.run("--plan") == 0  # nothing is looked for in a network
    assert f"weights/{MODEL}.safetensors" in capsys.readouterr().out


def test_a_checkpoint_needs_neither_start_nor_training(trial, counted):
    weights = trial.folder / "weights"
    save(weights, seed=0)
    (weights / f"{MODEL}.safetensors").rename(weights / "mine.safetensors")
    spec = {**TUNED, "settings": {**TUNED["settings"], "checkpoint": "mine"}}
    trial.write(encoders={"tuned": spec}, rows=[{"method": "msp", "encoder": "tuned"}])
    assert trial.run() == 0
    assert counted["TrainEncoder"] == 0
    assert {record["status"] for record in trial.records().values()} == {"done"}


def test_only_what_needs_labels_is_skipped_without_them(trial):
    from PIL import Image

    for split, count in (("train", 40), ("test", 12)):
        folder = trial.folder / "own" / split
        folder.mkdir(parents=True)
        for number in range(count):
            pixels = np.random.default_rng(number).integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
    encoders = {"net": {"kind": "classifier", "settings": {"architecture": "resnet8", "epochs": 1}}, "simclr": SIMCLR}
    rows = [{"method": "knn", "encoder": encoder, "settings": {"k": 5}} for encoder in encoders]
    trial.write(id={"set": "./own"}, encoders=encoders, rows=rows)
    assert trial.run() == 0
    statuses = {record["row"]: record["status"] for record in trial.records().values()}
    assert statuses == {"knn@net": "skipped", "knn@simclr": "done"}
