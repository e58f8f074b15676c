import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from methods.base import CannotRun, Features
from methods.encoders import classifier
from methods.encoders.classifier import Classifier, split
from methods.encoders.images import preprocessing
from methods.encoders.networks import cifar
from methods.encoders.registry import create

TINY = {"architecture": "resnet8", "resolution": 8, "epochs": 4, "batch_size": 16, "augment": "crop"}


def toy(n: int = 96, seed: int = 0) -> Features:
    """Three classes: the brightest colour channel; 8 x 8 pixels."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    pixels = rng.integers(0, 150, (n, 8, 8, 3))
    pixels[np.arange(n), :, :, labels] += 100
    return Features(pixels=torch.from_numpy(pixels.astype(np.uint8)), labels=torch.from_numpy(labels))


def images(n: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (n, 32, 32, 3), dtype=torch.uint8, generator=generator)


@pytest.fixture(scope="module")
def trained() -> Classifier:
    encoder = create("classifier", **TINY)
    assert isinstance(encoder, Classifier)
    assert encoder.find_weights(None) is None
    return encoder.open(None).fit(toy(), seed=1)


def save(path: Path, name: str, classes: int, **metadata: Any) -> cifar.Network:
    """A network with random weights and running statistics, and its file."""
    torch.manual_seed(0)
    network = cifar.build(name, classes)
    network.train()(torch.randn(8, 3, 32, 32))
    metadata = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3]} | metadata
    save_file(network.state_dict(), path, metadata={k: json.dumps(v) for k, v in metadata.items()})
    return network.eval()


def test_training_learns(trained: Classifier) -> None:
    test = toy(60, seed=5)
    predicted = trained.encode(test.pixels)["logits"].argmax(1)
    assert (predicted == test.labels).float().mean() > 0.9


def test_state_goes_to_a_fresh_instance_without_a_fit(trained: Classifier, tmp_path: Path) -> None:
    fresh = create("classifier", **TINY).open(None)
    assert fresh.head is None
    assert fresh.state() == {}
    save_file(trained.state(), tmp_path / "state.safetensors")
    fresh.load_state(load_file(tmp_path / "state.safetensors"))
    ours, theirs = trained.encode(toy().pixels), fresh.encode(toy().pixels)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert fresh.head is not None
    assert fresh.head.weight.shape == (3, 64)
    assert {k: v.tolist() for k, v in fresh.state().items()} == {k: v.tolist() for k, v in trained.state().items()}


def test_training_is_a_function_of_data_and_seed(trained: Classifier) -> None:
    torch.manual_seed(123)
    before = torch.random.get_rng_state()
    again = create("classifier", **TINY).open(None).fit(toy(), seed=1)
    other = create("classifier", **TINY).open(None).fit(toy(), seed=2)
    assert torch.equal(torch.random.get_rng_state(), before)
    ours, same, different = (x.encode(toy().pixels)["logits"] for x in (trained, again, other))
    torch.testing.assert_close(ours, same)
    assert (ours - different).abs().max() > 0.01


def test_initial_weights_come_from_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classifier.loop, "train", lambda *args, **kwargs: [])
    first, same, other = (
        create("classifier", **TINY).open(None).fit(toy(), seed=seed).state()["network.conv1.weight"]
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_mean_and_std_are_those_of_the_training_images(trained: Classifier) -> None:
    values = toy().pixels.numpy().reshape(-1, 3) / 255
    np.testing.assert_allclose(trained.state()["mean"], values.mean(0), rtol=1e-5)
    np.testing.assert_allclose(trained.state()["std"], values.std(0), rtol=1e-5)


def test_more_than_one_block_of_pixels() -> None:
    pixels = torch.randint(256, (2500, 2, 2, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    pixels[..., 2] = 7  # a constant channel: one grey level instead of a division by 0
    mean, std = preprocessing.statistics(pixels)
    values = pixels.numpy().reshape(-1, 3) / 255
    np.testing.assert_allclose(mean, values.mean(0), rtol=1e-6)
    np.testing.assert_allclose(std, [*values.std(0)[:2], 1 / 255], rtol=1e-6)


@pytest.mark.parametrize(("augment", "called"), [("none", set()), ("crop", {"crop"}), ("crop_flip", {"crop", "flip"})])
def test_augmentation(monkeypatch: pytest.MonkeyPatch, augment: str, called: set[str]) -> None:
    seen = set()

    def crop(batch: Tensor, padding: int, generator: torch.Generator) -> Tensor:
        assert padding == 1  # an eighth of 8
        seen.add("crop")
        return batch

    def flip(batch: Tensor, generator: torch.Generator) -> Tensor:
        seen.add("flip")
        return batch

    monkeypatch.setattr(classifier, "random_crop", crop)
    monkeypatch.setattr(classifier, "random_flip", flip)
    create("classifier", **(TINY | {"augment": augment, "epochs": 1})).open(None).fit(toy(16))
    assert seen == called


def test_training_images_of_another_size_are_resized() -> None:
    encoder = create("classifier", **(TINY | {"resolution": 16, "epochs": 1})).open(None).fit(toy(16))
    assert encoder.encode(toy(2).pixels)["embedding"].shape == (2, 64)


def test_a_share_can_be_held_out() -> None:
    train = toy(40)
    rows, held = split(40, 0.25)
    assert len(held) == 10
    pixels, labels = train.need("pixels"), train.need_labels()
    settings = {"architecture": "resnet8", "resolution": 8, "epochs": 1, "batch_size": 16}
    ours = create("classifier", **settings, held_out=0.25).open(None).fit(train).state()
    theirs = create("classifier", **settings).open(None).fit(Features(pixels=pixels[rows], labels=labels[rows])).state()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours | theirs)
    given = Features(pixels=pixels[rows], labels=labels[rows], validation=train[held])
    apart = create("classifier", **settings, held_out=0.25).open(None).fit(given).state()
    assert all(torch.equal(apart[name], theirs[name]) for name in apart | theirs)


def test_labels_are_needed_and_have_to_fit() -> None:
    pixels = toy().pixels
    for labels in (None, torch.full((len(pixels),), -1)):
        with pytest.raises(CannotRun, match="labels"):
            create("classifier", **TINY).open(None).fit(Features(pixels=pixels, labels=labels))
    with pytest.raises(CannotRun, match="pixels"):
        create("classifier", **TINY).open(None).fit(Features(embedding=torch.zeros(3, 2), labels=torch.arange(3)))
    with pytest.raises(ValueError, match="3 classes, more than classes: 2"):
        create("classifier", **TINY, classes=2).open(None).fit(toy())


@pytest.mark.parametrize(
    "wrong",
    [
        {"architecture": "resnet19"},
        {"augment": "flip"},
        {"resolution": 4},
        {"classes": 1},
        {"epochs": 0},
        {"lr": 0.0},
        {"held_out": 1.0},
    ],
)
def test_settings_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=str(next(iter(wrong.values())))):
        create("classifier", **wrong)


@pytest.mark.parametrize("name", ["resnet20", "densenet_bc_100_12", "resnet18"])
def test_a_checkpoint_gives_the_networks_own_features(tmp_path: Path, name: str) -> None:
    network = save(tmp_path / "x.safetensors", name, 5)
    encoder = create("classifier", architecture=name, checkpoint="x")
    encoder.open(encoder.find_weights(tmp_path))
    x = images(3)
    out = encoder.encode(x)
    mean, std = torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.25, 0.3])
    with torch.no_grad():
        normalised = ((x / 255 - mean) / std).permute(0, 3, 1, 2)
        torch.testing.assert_close(out["logits"], network(normalised), rtol=1e-3, atol=1e-4)
        pooled = [stage.mean((2, 3)) for stage in network.stages(normalised)]
    torch.testing.assert_close(out["layers"], torch.cat(pooled, 1), rtol=1e-3, atol=1e-4)
    assert out["layers"].shape[1] == sum(encoder.layer_sizes)
    assert encoder.state() == {}  # nothing was trained here
    head = encoder.head
    assert head is not None
    torch.testing.assert_close(out["logits"], out["embedding"] @ head.weight.T + head.bias)
    assert set(out) == set(encoder.offers)


def test_opening_draws_no_weights_and_counts_no_batches(tmp_path: Path) -> None:
    network = save(tmp_path / "whole.safetensors", "resnet8", 10)
    state = {name: value for name, value in network.state_dict().items() if "tracked" not in name}
    metadata = {"mean": "[0.5, 0.5, 0.5]", "std": "[0.25, 0.25, 0.25]"}
    save_file(state, tmp_path / "less.safetensors", metadata)
    before = torch.get_rng_state()
    opened = Classifier(architecture="resnet8").open(tmp_path / "less.safetensors")
    assert torch.equal(torch.get_rng_state(), before)
    weights, _ = opened.weights()
    counts = {name: int(value) for name, value in weights.items() if "tracked" in name}
    assert set(counts.values()) == {0}
    assert all(torch.equal(weights[name], value) for name, value in state.items())


def test_features_do_not_depend_on_the_batch(tmp_path: Path) -> None:
    save(tmp_path / "x.safetensors", "resnet20", 5)
    encoder = create("classifier", architecture="resnet20", checkpoint="x")
    encoder.open(encoder.find_weights(tmp_path))
    x = images(6)
    whole = encoder.encode(x)
    for rows in ([0], [4, 1], [5, 3, 0]):
        part = encoder.encode(x[rows])
        for name in encoder.offers:
            torch.testing.assert_close(part[name], whole[name][rows], rtol=1e-4, atol=1e-5)


def test_bf16_is_near_and_leaves_the_head_exact(tmp_path: Path) -> None:
    save(tmp_path / "x.safetensors", "resnet20", 5)
    single, half = (
        create("classifier", architecture="resnet20").open(tmp_path / "x.safetensors", precision=precision)
        for precision in ("32", "bf16")
    )
    x = images(4)
    exact, out = single.encode(x), half.encode(x)
    assert {values.dtype for values in out.values()} == {torch.float32}
    assert 0 < (out["embedding"] - exact["embedding"]).norm() / exact["embedding"].norm() < 0.05
    head = half.head
    assert head is not None
    torch.testing.assert_close(out["logits"], out["embedding"] @ head.weight.T + head.bias)
    with pytest.raises(ValueError, match="precision '16'"):
        create("classifier").open(None, precision="16")


def test_what_a_checkpoint_has_to_have(tmp_path: Path) -> None:
    network = save(tmp_path / "x.safetensors", "resnet20", 5)
    with pytest.raises(ValueError, match=r"x.safetensors has 5 classes, not 10"):
        create("classifier", architecture="resnet20", classes=10).open(tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match=r"x.safetensors does not fit resnet32: 60 missing"):
        # 2 more blocks in each of 3 stages: 2 convolutions and 2 norms of 4 entries and a counter each
        create("classifier", architecture="resnet32").open(tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match=r"x.safetensors does not fit resnet18"):
        create("classifier", architecture="resnet18").open(tmp_path / "x.safetensors")
    torch.save(network.state_dict(), tmp_path / "y.pth")
    with pytest.raises(ValueError, match=r"y.pth does not say its mean and std"):
        create("classifier", architecture="resnet20").open(tmp_path / "y.pth")
