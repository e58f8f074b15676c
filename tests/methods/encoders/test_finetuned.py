from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from methods.base import CannotRun, Features
from methods.encoders import finetuned
from methods.encoders.finetuned import Finetuned
from methods.encoders.registry import create

MODEL = "test_efficientnet.r160_in1k"  # 0.4 M parameters; maps of 16, 24, 32, 48, 64 channels
HEADER = {"mean": "[0.1, 0.2, 0.3]", "std": "[0.5, 0.6, 0.7]"}
TINY = {"model": MODEL, "resolution": 32, "epochs": 5, "batch_size": 16, "lr": 2e-3}


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """No network, and nothing from the developer's own cache."""

    def offline(*args: Any, **kwargs: Any) -> None:
        raise OSError("[Errno -2] Name or service not known")

    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *args: None)
    monkeypatch.setattr(huggingface_hub, "get_session", lambda: SimpleNamespace(head=offline))


def save(path: Path, model: str = MODEL, classes: int = 1000, size: int = 64, **metadata: str) -> nn.Module:
    """A whole network under timm's names, with random weights and running statistics."""
    torch.manual_seed(0)
    network: nn.Module = timm.create_model(model, pretrained=False, num_classes=classes)
    with torch.no_grad():
        network.train()(torch.randn(2, 3, size, size))
    save_file(network.state_dict(), path, metadata=metadata or None)
    return network.eval()


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / f"{MODEL}.safetensors"
    save(path, **HEADER)
    return path


def toy(n: int = 96, seed: int = 0) -> Features:
    """Three classes: the brightest colour channel; 8 x 8 pixels."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    pixels = rng.integers(0, 150, (n, 8, 8, 3))
    pixels[np.arange(n), :, :, labels] += 100
    return Features(pixels=torch.from_numpy(pixels.astype(np.uint8)), labels=torch.from_numpy(labels))


@pytest.fixture(scope="module")
def trained(start: Path) -> Finetuned:
    encoder = create("finetuned", **TINY)
    assert isinstance(encoder, Finetuned)
    return encoder.open(None).start_from(start).fit(toy(), seed=1)


def untrained(monkeypatch: pytest.MonkeyPatch, start: Path, **settings: Any) -> Any:
    """As it is before the first step."""
    monkeypatch.setattr(finetuned.loop, "train", lambda *args, **kwargs: [0.0])
    return create("finetuned", **TINY | settings).open(None).start_from(start).fit(toy(16))


def test_training_learns(trained: Finetuned) -> None:
    test = toy(60, seed=5)
    predicted = trained.encode(test.pixels)["logits"].argmax(1)
    assert (predicted == test.labels).float().mean() > 0.9
    assert len(trained.losses) == TINY["epochs"]
    # the first epoch's mean lies near ln 3, where a classifier of zeros starts
    assert trained.losses[-1] < 0.5 < trained.losses[0] < 2


def test_training_starts_from_the_given_weights(monkeypatch: pytest.MonkeyPatch, start: Path) -> None:
    encoder = untrained(monkeypatch, start)
    reference = create("pretrained", model=MODEL, resolution=32).open(start)
    x = toy(5).pixels
    ours, theirs = encoder.encode(x), reference.encode(x)
    torch.testing.assert_close(ours["embedding"], theirs["embedding"])
    torch.testing.assert_close(ours["layers"], theirs["layers"])
    assert encoder.layer_sizes == reference.layer_sizes == (16, 24, 32, 48, 64)
    assert torch.equal(ours["logits"], torch.zeros(5, 3))
    np.testing.assert_allclose(encoder.state()["mean"], [0.1, 0.2, 0.3], rtol=1e-6)
    np.testing.assert_allclose(encoder.state()["std"], [0.5, 0.6, 0.7], rtol=1e-6)


def test_the_whole_network_is_trained(trained: Finetuned, start: Path) -> None:
    before, after = load_file(start), trained.state()
    for name, _ in timm.create_model(MODEL, num_classes=3).named_parameters():
        if not name.startswith("classifier"):
            moved = (after[f"network.{name}"] - before[name]).norm()
            # weight decay alone: 36 steps of at most lr * 1e-2 make less than 1e-3 of it
            assert moved > 0.005 * before[name].norm(), name


def test_norms_keep_their_statistics(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With the norms folded (mean 0, variance 1), what is trained still is the network that encodes."""
    network: nn.Module = timm.create_model(MODEL, pretrained=False)
    state = network.state_dict()  # fresh: mean 0, variance 1
    save_file(state, tmp_path / "folded.safetensors")
    losses: list[float] = []

    def train(model: nn.Module, batch: Any, loss: Any, n: int, *_: Any, **__: Any) -> list[float]:
        model.train()
        with torch.no_grad():
            model.get_classifier().weight.normal_()
            losses.append(float(loss(model, *batch(torch.arange(n), torch.Generator()))))
        return losses

    monkeypatch.setattr(finetuned.loop, "train", train)
    encoder = create("finetuned", **TINY | {"augment": "none"}).open(None)
    encoder.start_from(tmp_path / "folded.safetensors").fit(toy())
    logits = encoder.encode(toy().pixels)["logits"]
    assert losses[0] == pytest.approx(float(nn.functional.cross_entropy(logits, toy().labels)), rel=1e-4)
    for name, values in encoder.state().items():
        if "running" in name:
            assert torch.equal(values, state[name.removeprefix("network.")]), name


def test_what_is_trained_sees_stretched_normalised_images(monkeypatch: pytest.MonkeyPatch, start: Path) -> None:
    seen: list[Tensor] = []
    values: list[Tensor] = []

    def train(model: nn.Module, batch: Any, loss: Any, n: int, *_: Any, **__: Any) -> list[float]:
        def record(x: Tensor) -> Tensor:
            seen.append(x)
            return torch.tensor([[2.0, 1, 0], [0, 0, 0]])

        values.append(loss(record, *batch(torch.tensor([4, 9]), torch.Generator())))
        return [1.0]

    monkeypatch.setattr(finetuned.loop, "train", train)
    settings = TINY | {"augment": "none", "resolution": 16}
    create("finetuned", **settings).open(None).start_from(start).fit(toy())
    x = torch.nn.functional.interpolate(toy().pixels[[4, 9]].permute(0, 3, 1, 2).float(), (16, 16), mode="bilinear")
    mean, std = torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1), torch.tensor([0.5, 0.6, 0.7]).view(3, 1, 1)
    torch.testing.assert_close(seen[0], (x / 255 - mean) / std, rtol=1e-4, atol=1e-5)
    # labels 1 and 0: logsumexp(2, 1, 0) - 1 = 1.4076059 and ln 3 (baselines.md)
    assert float(values[0]) == pytest.approx((1.4076059 + np.log(3)) / 2)


@pytest.mark.parametrize(("augment", "expected"), [("flip", 1), ("none", 0)])
def test_augmentation(monkeypatch: pytest.MonkeyPatch, start: Path, augment: str, expected: int) -> None:
    calls = []
    monkeypatch.setattr(finetuned, "random_flip", lambda batch, generator: calls.append(1) or batch)
    create("finetuned", **TINY | {"augment": augment, "epochs": 1}).open(None).start_from(start).fit(toy(16))
    assert len(calls) == expected


def test_training_is_a_function_of_data_and_seed(start: Path) -> None:
    torch.manual_seed(123)
    before = torch.random.get_rng_state()
    one, again, other = (
        create("finetuned", **TINY | {"epochs": 1}).open(None).start_from(start).fit(toy(48), seed=seed)
        .encode(toy(9).pixels)["logits"] for seed in (1, 1, 2)
    )  # fmt: skip
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.testing.assert_close(one, again)
    assert (again - other).abs().max() > 0.001


@pytest.mark.parametrize("model", [MODEL, "test_vit", "test_convnext", "test_resnet"])
def test_state_goes_to_a_fresh_instance(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, model: str) -> None:
    """Whatever the model calls its classifier."""
    size = 160 if model == "test_vit" else 64
    save(tmp_path / "x.safetensors", model, size=size)
    settings = {"model": model, "resolution": size}
    encoder = untrained(monkeypatch, tmp_path / "x.safetensors", **settings)
    save_file(encoder.state(), tmp_path / "state.safetensors")
    fresh = create("finetuned", **TINY | settings).open(None)
    assert fresh.state() == {}
    assert fresh.head is None
    fresh.load_state(load_file(tmp_path / "state.safetensors"))
    ours, theirs = encoder.encode(toy(4).pixels), fresh.encode(toy(4).pixels)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert {k: v.tolist() for k, v in fresh.state().items()} == {k: v.tolist() for k, v in encoder.state().items()}
    assert fresh.head is not None
    assert fresh.head.weight.shape == (3, ours["embedding"].shape[1])


@pytest.mark.parametrize("model", [MODEL, "test_vit", "test_convnext"])
def test_a_checkpoint_gives_timms_own_logits(tmp_path: Path, model: str) -> None:
    network = save(tmp_path / "mine.safetensors", model, classes=5, size=160, **HEADER)
    encoder = create("finetuned", model=model, resolution=160, checkpoint="mine")
    encoder.open(encoder.find_weights(tmp_path))
    x = torch.randint(256, (3, 160, 160, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    out = encoder.encode(x)
    mean, std = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.5, 0.6, 0.7])
    with torch.no_grad():
        expected = network(((x / 255 - mean) / std).permute(0, 3, 1, 2))
    torch.testing.assert_close(out["logits"], expected, rtol=1e-3, atol=1e-4)
    head = encoder.head
    assert head is not None
    torch.testing.assert_close(out["logits"], out["embedding"] @ head.weight.T + head.bias, rtol=1e-4, atol=1e-5)
    assert encoder.state() == {}  # nothing was trained here
    assert set(out) == set(encoder.offers)
    assert out["layers"].shape[1] == sum(encoder.layer_sizes)
    with pytest.raises(ValueError, match=r"mine.safetensors has 5 classes, not 10"):
        create("finetuned", model=model, resolution=160, classes=10).open(tmp_path / "mine.safetensors")


def test_features_do_not_depend_on_the_batch(trained: Finetuned) -> None:
    x = [toy().pixels[0], torch.full((20, 9, 3), 7, dtype=torch.uint8), *toy().pixels[1:4]]
    whole = trained.encode(x)
    for rows in ([0], [4, 1], [2, 3, 0]):
        part = trained.encode([x[row] for row in rows])
        for name in trained.offers:
            torch.testing.assert_close(part[name], whole[name][rows], rtol=1e-4, atol=1e-4)


def test_bf16_is_near_and_leaves_the_head_exact(trained: Finetuned) -> None:
    half = create("finetuned", **TINY).open(None, precision="bf16").load_state(trained.state())
    exact, out = trained.encode(toy(8).pixels), half.encode(toy(8).pixels)
    assert {values.dtype for values in out.values()} == {torch.float32}
    assert 0 < (out["embedding"] - exact["embedding"]).norm() / exact["embedding"].norm() < 0.1
    head = half.head
    assert head is not None
    torch.testing.assert_close(out["logits"], out["embedding"] @ head.weight.T + head.bias, rtol=1e-4, atol=1e-5)


def test_where_weights_are_looked_for(tmp_path: Path, start: Path) -> None:
    encoder = create("finetuned", model=MODEL, checkpoint="mine")
    with pytest.raises(CannotRun, match="no network mine in"):  # and it is not trained in its place
        encoder.find_weights(tmp_path)
    with pytest.raises(CannotRun, match=rf"{MODEL}.safetensors, or run `hf download timm/test_efficientnet"):
        encoder.find_start(tmp_path)
    assert encoder.find_start(start.parent) == start
    (tmp_path / "mine.safetensors").touch()
    assert encoder.find_weights(tmp_path) == tmp_path / "mine.safetensors"
    with pytest.raises(ValueError, match="did you mean 'resnet5"):
        create("finetuned", model="resnet51").find_weights(None)


def test_what_it_cannot_be_trained_on(start: Path) -> None:
    encoder = create("finetuned", **TINY).open(None)
    with pytest.raises(RuntimeError, match="start_from"):
        encoder.fit(toy())
    encoder.start_from(start)
    with pytest.raises(CannotRun, match="labels"):
        encoder.fit(Features(pixels=toy().pixels))
    with pytest.raises(CannotRun, match="pixels"):
        encoder.fit(Features(embedding=torch.zeros(3, 2), labels=torch.arange(3)))
    with pytest.raises(ValueError, match="3 classes, more than classes: 2"):
        create("finetuned", **TINY, classes=2).open(None).start_from(start).fit(toy())
    with pytest.raises(RuntimeError, match="before encode"):
        encoder.encode(toy(1).pixels)


def test_weights_that_do_not_fit(tmp_path: Path, start: Path) -> None:
    with pytest.raises(ValueError, match=r"r160_in1k.safetensors does not fit test_resnet"):
        create("finetuned", model="test_resnet", resolution=32).open(None).start_from(start).fit(toy(16))
    body = {name: values for name, values in load_file(start).items() if not name.startswith("classifier")}
    save_file(body, tmp_path / "body.safetensors")
    with pytest.raises(ValueError, match=r"body.safetensors holds no classifier \(classifier.weight\)"):
        create("finetuned", model=MODEL).open(tmp_path / "body.safetensors")


@pytest.mark.parametrize("wrong", [{"augment": "crop"}, {"resolution": 8}, {"classes": 1}, {"epochs": 0}, {"lr": 0.0}])
def test_settings_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=str(next(iter(wrong.values())))):
        create("finetuned", **wrong)
