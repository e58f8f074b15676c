"""OAL as an encoder: its arms, what each of its settings reaches, and that it survives an interruption."""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from methods.base import CannotRun, Features
from methods.encoders.classifier import Classifier, split
from methods.encoders.oal import OAL
from methods.encoders.outliers import border, feature_diffusion
from methods.encoders.outliers import loss as outlier_loss
from methods.encoders.registry import create
from methods.training import loop

CLASSIFIER = {"architecture": "resnet8", "resolution": 8, "epochs": 4, "batch_size": 16, "augment": "crop"}
TINY: dict[str, Any] = CLASSIFIER | {
    "tune_epochs": 2,
    "n_out": 24,
    "k": 10,
    "diffusion_epochs": 25,
    "diffusion_lr": 5e-3,
    "diffusion_blocks": 1,
}
ARMS: dict[str, dict[str, Any]] = {
    "CE": {"outliers": "none", "distil": False},
    "CE+KD": {"outliers": "none"},
    "knn": {"outliers": "knn"},
    "diffusion": {"outliers": "diffusion"},
    "gaussian": {"outliers": "gaussian"},
    "club": {"outliers": "knn", "club": True},
    "logistic": {"outliers": "knn", "loss": "logistic"},
    "uniform": {"outliers": "knn", "loss": "uniform"},
    "mixed": {"outliers": "diffusion", "guidance": "mixed"},
}


def toy(n: int = 150, seed: int = 0) -> Features:
    """Three classes: the brightest colour channel; 8 x 8 pixels."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    pixels = rng.integers(0, 150, (n, 8, 8, 3))
    pixels[np.arange(n), :, :, labels] += 100
    return Features(pixels=torch.from_numpy(pixels.astype(np.uint8)), labels=torch.from_numpy(labels))


def pixels_and_labels(n: int = 150) -> tuple[Tensor, Tensor]:
    x = toy(n)
    return x.need("pixels"), x.need_labels()


@pytest.fixture(scope="module", autouse=True)
def _few_candidates() -> Iterator[None]:
    """Of toys, a hundred for a boundary feature are as good as 1,500."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(border, "CANDIDATES", 100)
        yield


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of the classifier that OAL trains for itself with seed 1."""
    pixels, labels = pixels_and_labels()
    rows, _ = split(len(labels), 0.1)
    classifier = create("classifier", **CLASSIFIER).open(None)
    state = classifier.fit(Features(pixels=pixels[rows], labels=labels[rows]), seed=1).state()
    path = tmp_path_factory.mktemp("weights") / "toy.safetensors"
    weights = {name.removeprefix("network."): x for name, x in state.items() if name.startswith("network.")}
    save_file(weights, path, metadata={name: json.dumps(state[name].tolist()) for name in ("mean", "std")})
    return path


@pytest.fixture(scope="module")
def tuned(start: Path) -> Callable[..., OAL]:
    """OAL from that checkpoint, with other settings; each is trained once."""
    kept: dict[str, OAL] = {}

    def fit(backbone: str = "frozen", **settings: Any) -> OAL:
        key = json.dumps({"backbone": backbone, **settings}, sort_keys=True)
        if key not in kept:
            encoder = create("oal", **{**TINY, "backbone": backbone, **settings}).open(None).start_from(start)
            assert isinstance(encoder, OAL)
            kept[key] = encoder.fit(toy(), seed=1)
        return kept[key]

    return fit


def same(a: OAL, b: OAL) -> bool:
    """Whether what images go through is bit for bit the same."""
    first, second = (
        {name: x for name, x in encoder.state().items() if name.startswith(("network.", "adapter."))}
        for encoder in (a, b)
    )
    assert first.keys() == second.keys()
    return all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("arm", ARMS)
def test_every_arm_gives_features_logits_and_a_head(tuned: Callable[..., OAL], arm: str) -> None:
    encoder = tuned(**ARMS[arm])
    test = toy(60, seed=5)
    out = encoder.encode(test.need("pixels"))
    assert set(out) == set(encoder.offers)
    head = encoder.head
    assert head is not None
    torch.testing.assert_close(out["logits"], head(out["embedding"]))
    assert (out["logits"].argmax(1) == test.need_labels()).float().mean() > 0.9
    assert len(encoder.losses) == TINY["tune_epochs"]
    assert len(encoder.diffusion_losses) == (25 if arm in ("diffusion", "gaussian", "mixed") else 0)
    assert set(encoder.selection) == {"accuracy_before", "accuracy_after"} | (set() if arm[:2] == "CE" else {"auroc"})
    assert encoder.selection["accuracy_after"] > 0.9


def test_arms_differ(tuned: Callable[..., OAL]) -> None:
    logits = [tuned(**settings).encode(toy(9).need("pixels"))["logits"] for settings in ARMS.values()]
    for place, first in enumerate(logits):
        for second in logits[:place]:
            assert not torch.equal(first, second)


@pytest.mark.parametrize("backbone", ["frozen", "trained"])
def test_no_weight_or_no_outliers_is_the_arm_without(tuned: Callable[..., OAL], backbone: str) -> None:
    without = tuned(backbone, **ARMS["CE+KD"])
    assert same(tuned(backbone, outliers="knn", weight=0.0), without)
    assert same(tuned(backbone, outliers="knn", n_out=0), without)
    assert not same(tuned(backbone, outliers="knn"), without)


class Ring(nn.Module):
    """In the place of a network: embeddings near a circle, of the classes its quarters; the head is trained."""

    def __init__(self, points: Tensor, labels: Tensor) -> None:
        super().__init__()
        with loop.seeded(0):
            self.head = nn.Linear(2, 4)
        optimizer = torch.optim.Adam(self.head.parameters(), 0.1)
        for _ in range(100):
            optimizer.zero_grad()
            nn.functional.cross_entropy(self.head(points), labels).backward()
            optimizer.step()


@pytest.mark.parametrize("from_file", [True, False])
def test_calibration_images_that_are_given_are_not_held_out_again(start: Path, from_file: bool) -> None:
    train = toy()
    rows, held = split(len(train), TINY.get("held_out", 0.1))
    states = []
    for given in (train, replace(train[rows], validation=train[held])):
        encoder = create("oal", **TINY | {"outliers": "knn", "epochs": 1, "tune_epochs": 1}).open(None)
        encoder = encoder.start_from(start) if from_file else encoder
        states.append(encoder.fit(given, seed=1).state())
    assert all(torch.equal(states[1][name], value) for name, value in states[0].items())


def test_on_a_ring_the_loss_falls_and_outliers_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(border, "CANDIDATES", 1500)
    generator = torch.Generator().manual_seed(0)
    angle = 2 * math.pi * torch.rand(400, generator=generator)
    radius = 1 + 0.05 * torch.randn(400, generator=generator)
    points, labels = radius[:, None] * torch.stack((angle.cos(), angle.sin()), 1), (angle * 2 / math.pi).long()
    rows, held = split(400, 0.1)

    def embed(self: OAL, pixels: Tensor) -> Tensor:
        found = points[rows if len(pixels) == len(rows) else held]
        return found if self._adapter is None else self._adapter(found).detach()

    monkeypatch.setattr(OAL, "_classify", lambda self, *_: setattr(self, "_network", Ring(points, labels)))
    monkeypatch.setattr(OAL, "_embed", embed)
    monkeypatch.setattr(OAL, "_place", lambda self, network: network)
    ring = {
        "tune_epochs": 15,
        "tune_lr": 0.05,
        "sigma": 0.5,
        "weight": 1.0,
        "diffusion_width": 32,
        "backbone": "frozen",
    }
    train = Features(pixels=torch.zeros(400, 1, 1, 3, dtype=torch.uint8), labels=labels)
    ours = create("oal", **TINY | ring)
    without = create("oal", **TINY | ring | {"weight": 0.0})
    assert isinstance(ours, OAL)
    assert isinstance(without, OAL)
    ours.fit(train, seed=1)
    without.fit(train, seed=1)
    assert ours.losses[-1] < 0.8 * ours.losses[0]
    assert ours.selection["auroc"] > without.selection["auroc"] + 0.05
    assert ours.selection["accuracy_after"] >= ours.selection["accuracy_before"] - 0.005


def test_distillation_holds_the_student_by_its_teacher(tuned: Callable[..., OAL], start: Path) -> None:
    x = toy(60, seed=5).need("pixels")
    teacher = create("classifier", **CLASSIFIER).open(start).encode(x)

    def away(encoder: OAL) -> float:
        return float(outlier_loss.distillation(teacher["logits"], encoder.encode(x)["logits"]))

    long = {"outliers": "none", "tune_epochs": 10, "tune_lr": 0.01}
    assert away(tuned(**long)) < 0.5 * away(tuned(**long, distil=False))


def test_a_frozen_backbone_is_frozen_and_a_trained_one_is_not(tuned: Callable[..., OAL], start: Path) -> None:
    before = load_file(start)
    head = {"linear.weight", "linear.bias"}
    for backbone in ("frozen", "trained"):
        state = tuned(backbone, **ARMS["CE+KD"]).state()
        changed = {name for name in before if not torch.equal(before[name], state[f"network.{name}"])}
        assert changed == head if backbone == "frozen" else changed > head
        assert any(name.startswith("adapter.") for name in state) == (backbone == "frozen")


def test_latents_run_the_published_loss(start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_file({"z": torch.randn(30, 4, 64, 64, generator=torch.Generator().manual_seed(0))}, tmp_path / "z.safetensors")
    students: list[Any] = []
    real = loop.train

    def spy(model: Any, *args: Any, **kwargs: Any) -> list[float]:
        students.append(model)
        return real(model, *args, **kwargs)

    monkeypatch.setattr(loop, "train", spy)
    settings = TINY | {"outliers": "latents", "latents": str(tmp_path / "z.safetensors"), "backbone": "frozen"}
    encoder = create("oal", **settings).open(None).start_from(start)
    assert isinstance(encoder, OAL)
    encoder.fit(toy(), seed=1)
    assert len(students) == 1  # k-NN outliers need no diffusion
    assert set(students[0].terms) == {"outliers", "transfer"}
    assert isinstance(students[0].terms["outliers"], outlier_loss.PublishedTerm)
    assert bool(students[0].terms["transfer"][0].running_mean.any())  # it saw the teacher's features
    assert encoder.selection["accuracy_after"] > 0.9
    other = tmp_path / "other.safetensors"
    save_file({"z": torch.zeros(3, 64)}, other)
    digest = encoder.latents_sha256
    assert digest is not None
    assert create("oal", outliers="latents", latents=str(other)).latents_sha256 != digest
    with pytest.raises(CannotRun, match="no latents at"):
        create("oal", outliers="latents", latents=str(tmp_path / "absent.pt")).open(None).fit(toy())


@pytest.mark.parametrize("backbone", ["frozen", "trained"])
def test_bf16_trains_too(start: Path, backbone: str) -> None:
    settings = TINY | {"tune_epochs": 1, "backbone": backbone, "outliers": "knn", "club": True}
    encoder = create("oal", **settings).open(None, precision="bf16").start_from(start)
    encoder.fit(toy(), seed=1)
    assert isinstance(encoder, OAL)
    assert encoder.selection["accuracy_after"] > 0.9
    assert {x.dtype for x in encoder.encode(toy(3).need("pixels")).values()} == {torch.float32}


def test_state_goes_to_a_fresh_instance_without_a_fit(tuned: Callable[..., OAL], tmp_path: Path) -> None:
    for backbone in ("frozen", "trained"):
        encoder = tuned(backbone, outliers="knn")
        fresh = create("oal", **{**TINY, "backbone": backbone, "outliers": "knn"}).open(None)
        assert isinstance(fresh, OAL)
        assert fresh.state() == {}
        save_file(encoder.state(), tmp_path / "state.safetensors")
        fresh.load_state(load_file(tmp_path / "state.safetensors"))
        ours, theirs = encoder.encode(toy().pixels), fresh.encode(toy().pixels)
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
        assert fresh.losses == pytest.approx(encoder.losses)
        assert fresh.selection == pytest.approx(encoder.selection)


def test_training_is_a_function_of_data_and_seed(tuned: Callable[..., OAL], start: Path) -> None:
    settings = TINY | {"backbone": "frozen", **ARMS["diffusion"]}
    again, other = (create("oal", **settings).open(None).start_from(start).fit(toy(), seed=seed) for seed in (1, 2))
    assert isinstance(again, OAL)
    assert isinstance(other, OAL)
    assert same(again, tuned(**ARMS["diffusion"]))
    assert not same(other, again)


def test_a_tenth_is_held_out_of_every_training(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, int] = {}

    def train(model: Any, batch: Any, loss: Any, n: int, *args: Any, **kwargs: Any) -> list[float]:
        seen[kwargs["name"]] = n
        return []

    monkeypatch.setattr(loop, "train", train)
    monkeypatch.setattr(feature_diffusion, "synthesise", lambda network, seeds, *args, **kwargs: seeds)
    monkeypatch.setattr(
        "methods.encoders.outliers.border.Shell.holds", lambda self, x: torch.ones(len(x), dtype=torch.bool)
    )
    create("oal", **TINY).open(None).fit(toy(), seed=1)
    assert seen == {"resnet8": 135, "feature diffusion": 135, "oal": 135}
    rows, held = split(1000, 0.1)
    assert len(held) == 100
    assert len(split(4, 0.1)[1]) == 1
    assert len(split(4, 0.0)[1]) == 0
    assert sorted([*rows.tolist(), *held.tolist()]) == list(range(1000))
    assert held.diff().min() > 0
    assert torch.equal(split(1000, 0.1)[1], held)


@pytest.mark.parametrize("at", ["feature diffusion", "oal"])
def test_an_interrupted_training_repeats_nothing_that_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tuned: Callable[..., OAL], at: str
) -> None:
    settings = TINY | {"backbone": "frozen"}
    names: list[str] = []
    real = loop.train

    def train(*args: Any, **kwargs: Any) -> list[float]:
        names.append(kwargs["name"])
        if kwargs["name"] == at and names.count(at) == 1:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(loop, "train", train)
    with pytest.raises(KeyboardInterrupt):
        create("oal", **settings).open(None).fit(toy(), seed=1, workdir=tmp_path)
    names.append("again")
    resumed = create("oal", **settings).open(None).fit(toy(), seed=1, workdir=tmp_path)
    every = ["resnet8", "feature diffusion", "oal"]
    assert names == [*every[: every.index(at) + 1], "again", *every[every.index(at) :]]
    assert isinstance(resumed, OAL)
    whole = tuned(**ARMS["diffusion"])  # whose classifier is the same
    assert same(whole, resumed)
    assert resumed.diffusion_losses == pytest.approx(whole.diffusion_losses)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_where_it_starts_from(start: Path, tmp_path: Path, tuned: Callable[..., OAL]) -> None:
    encoder = create("oal", **TINY, checkpoint="toy")
    assert encoder.find_weights(start.parent) is None  # a file is where it starts, not what it ends with
    assert encoder.find_start(start.parent) == start
    with pytest.raises(CannotRun, match="no network toy in"):
        encoder.find_start(tmp_path)
    assert create("oal", **TINY).find_start(start.parent) is None
    # the checkpoint is what it would have trained for itself: the same student comes out
    trained = create("oal", **{**TINY, "backbone": "frozen", **ARMS["CE+KD"]}).open(None).fit(toy(), seed=1)
    assert isinstance(trained, OAL)
    assert same(trained, tuned(**ARMS["CE+KD"]))
    base = create("classifier", **CLASSIFIER, held_out=0.1).open(None).fit(toy(), seed=1)
    on_base = create("oal", **{**TINY, "backbone": "frozen", "base": "net", **ARMS["CE+KD"]}).open(None)
    assert on_base.load_state(base.state()).state() == {}
    assert isinstance(on_base, OAL)
    assert same(on_base.fit(toy(), seed=1), trained)
    assert same(on_base.fit(toy(), seed=1), trained)  # not from what it ended with


def test_margins_are_medians_before_the_tuning_and_half_of_the_outliers_are_not_trained_on(
    start: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    terms: list[outlier_loss.OutlierTerm] = []
    real = outlier_loss.OutlierTerm

    def spy(*args: Any, **kwargs: Any) -> outlier_loss.OutlierTerm:
        terms.append(real(*args, **kwargs))
        return terms[-1]

    monkeypatch.setattr(outlier_loss, "OutlierTerm", spy)
    chosen_by: list[Tensor] = []

    def auroc(self: OAL, known: Tensor, outliers: Tensor) -> float:
        chosen_by.append(outliers)
        return 0.5

    monkeypatch.setattr(OAL, "_auroc", auroc)
    encoder = create("oal", **{**TINY, "backbone": "frozen", "outliers": "knn"}).open(None).start_from(start)
    assert isinstance(encoder, OAL)
    encoder.fit(toy(), seed=1)
    (term,) = terms
    (kept,) = chosen_by
    assert kept.shape == (24, 64)
    assert encoder._adapter is not None
    assert torch.cdist(encoder._adapter(term._outliers), kept).min() > 1e-2
    classifier = create("classifier", **CLASSIFIER).open(start)
    assert isinstance(classifier, Classifier)
    pixels, labels = pixels_and_labels()
    head = classifier.head
    assert head is not None
    held = classifier.encode(pixels[split(len(labels), 0.1)[1]])["logits"]
    assert term.m_in == pytest.approx(float(outlier_loss.energy(held).median()), rel=1e-4)
    outside = head(term._outliers)
    assert len(outside) == 24
    assert term.m_out == pytest.approx(float(outlier_loss.energy(outside).median()), rel=1e-4)
    assert (term.kind, term.weight, term.club) == ("energy", 0.1, None)


def test_weights_by_loss_are_those_of_the_papers() -> None:
    assert outlier_loss.WEIGHTS == {"energy": 0.1, "logistic": 2.5, "uniform": 0.5}
    assert (outlier_loss.KD_LOGITS, outlier_loss.KD_FEATURES) == (4, 8)
    recipe = OAL()._tuning
    assert (recipe.lr, recipe.momentum, recipe.nesterov, recipe.weight_decay) == (0.005, 0.9, True, 5e-4)
    assert (recipe.batch_size, recipe.epochs, recipe.schedule) == (128, 20, "cosine")


def test_labels_are_needed() -> None:
    pixels = toy().pixels
    for labels in (None, torch.full((len(pixels),), -1)):
        with pytest.raises(CannotRun, match="labels"):
            create("oal", **TINY).open(None).fit(Features(pixels=pixels, labels=labels))
    with pytest.raises(RuntimeError, match="before encode"):
        create("oal", **TINY).open(None).encode(pixels)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"outliers": "diffuse"}, "outliers is 'diffuse'"),
        ({"loss": "hinge"}, "loss is 'hinge'"),
        ({"backbone": "freeze"}, "backbone is 'freeze'"),
        ({"guidance": "toward"}, "guidance is 'toward'"),
        ({"k": 0}, "k is 0; it must be a whole number, at least 1"),
        ({"weight": -0.1}, "weight is -0.1; it must be a number, at least 0"),
        ({"n_out": -1}, "n_out is -1; it must be a whole number, at least 0"),
        ({"tune_epochs": 0}, "tune_epochs is 0; it must be a whole number, at least 1"),
        ({"outliers": "latents"}, "go together"),
        ({"latents": "x.pt"}, "go together"),
        ({"outliers": "latents", "latents": "x.pt", "club": True}, "OAL's own loss"),
        ({"augment": "flip"}, "augment is 'flip'"),
        ({"held_out": 0.0}, "held_out is 0.0; it must be a number, above 0 and below 1"),
        ({"base": "net", "checkpoint": "net"}, "not from both"),
    ],
)
def test_settings_that_cannot_be(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        create("oal", **wrong)
