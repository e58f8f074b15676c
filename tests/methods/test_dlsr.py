"""DLSR: its scores by hand, what its noise depends on, that it learns, and that one fit serves every score."""

import math
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

import methods
from methods import dlsr as module
from methods.base import CannotRun, Features
from methods.dlsr import DLSR
from methods.training import loop
from methods.vectors.diffusion import alphas_cumprod
from methods.vectors.layers import check_layers, normalise
from methods.vectors.noise import normal
from methods.vectors.reconstruction import mfsim, mse

SIZES = (6, 10, 8)
TINY: dict[str, Any] = {"blocks": 2, "width": 32, "epochs": 30, "batch_size": 32, "lr": 2e-3}
BRIEF = {**TINY, "epochs": 5}  # of 10 steps


def gaussian(count: int, *, pattern: int, seed: int, first: int = 0) -> Features:
    """Images whose layers lie around one vector: another `pattern`, another distribution."""
    centre = np.random.default_rng(pattern).standard_normal(sum(SIZES))
    noise = np.random.default_rng(seed).standard_normal((count, sum(SIZES)))
    layers = (centre + 0.5 * noise).astype(np.float32)
    return Features(layers=layers, layer_sizes=SIZES, index=np.arange(first, first + count))


TRAIN = gaussian(320, pattern=1, seed=0)
ID = gaussian(150, pattern=1, seed=1)
OOD = gaussian(150, pattern=2, seed=2, first=150)


@pytest.fixture(scope="module")
def fitted() -> DLSR:
    return DLSR(**TINY).fit(TRAIN, seed=5)


@pytest.fixture(scope="module")
def brief() -> DLSR:
    return DLSR(**BRIEF).fit(TRAIN, seed=2)


@pytest.fixture(scope="module")
def averaged() -> DLSR:
    return DLSR(**BRIEF, ema=0.9).fit(TRAIN, seed=2)


def as_fitted(fitted: DLSR, **settings: Any) -> DLSR:
    """The same networks under other scoring settings."""
    return DLSR(**{**TINY, **settings}).load_state(fitted.state())


def auroc(method: DLSR) -> float:
    scores = torch.cat((method.score(ID), method.score(OOD)))
    return float(roc_auc_score([0] * len(ID) + [1] * len(OOD), scores))


# Scores by hand


def test_mfsim_over_five_and_over_four_layers() -> None:
    # Layers of two channels whose reconstructions are at the cosines 1, 0, -1, .6, .8, at several lengths.
    z = torch.tensor([[1.0, 0, 1, 0, 1, 0, 1, 0, 0, 2]])
    reconstructed = torch.tensor([[3.0, 0, 0, 1, -2, 0, 0.6, 0.8, 3, 4]])
    assert mfsim(z, reconstructed, (2,) * 5).item() == pytest.approx(-1.4 / 5)
    assert mfsim(z, reconstructed, (2,) * 5, first=1).item() == pytest.approx(-0.4 / 4)
    # Uneven layers count equally.
    assert mfsim(z, reconstructed, (2, 8)).item() == pytest.approx(-(1 + 6.6 / math.sqrt(7 * 31)) / 2, rel=1e-5)
    with pytest.raises(CannotRun, match="without its first 1 of 1 layers has none left"):
        mfsim(z, reconstructed, (10,), first=1)


def test_mfsim_of_no_reconstruction_is_zero() -> None:
    assert mfsim(torch.ones(1, 4), torch.zeros(1, 4), (2, 2)).item() == 0


def test_mse() -> None:
    assert mse(torch.tensor([[1.0, 2, 3, 4]]), torch.tensor([[1.0, 0, 0, 5]])).item() == (4 + 9 + 1) / 4


def test_squared_norm_of_normalised_features() -> None:
    sizes = (24, 32, 56, 160, 448)
    layers = 3 * torch.randn(6, 720, generator=torch.Generator().manual_seed(0)) + 2
    unbiased, biased = (normalise(layers, sizes, std) for std in ("unbiased", "biased"))
    assert unbiased.square().sum(1).tolist() == pytest.approx([715] * 6, rel=1e-4)  # the sum of c_m - 1
    assert biased.square().sum(1).tolist() == pytest.approx([720] * 6, rel=1e-4)
    for block in unbiased.split(sizes, 1):
        assert block.mean(1).tolist() == pytest.approx([0] * 6, abs=1e-5)


def test_normalise_by_hand() -> None:
    layers = torch.tensor([[1.0, 3.0, 0.0, 3.0, 6.0]])
    # Variances 1 and 6 (biased), deviations sqrt(2) and 3 (unbiased).
    biased = [-1, 1, -3 / 6**0.5, 0, 3 / 6**0.5]
    assert normalise(layers, (2, 3), "biased")[0].tolist() == pytest.approx(biased, abs=1e-5)
    unbiased = [-1 / 2**0.5, 1 / 2**0.5, -1, 0, 1]
    assert normalise(layers, (2, 3), "unbiased")[0].tolist() == pytest.approx(unbiased, abs=1e-5)
    constant = normalise(torch.full((1, 5), 7.0), (2, 3), "unbiased")
    assert torch.equal(constant, torch.zeros(1, 5))


def answering(fitted: DLSR, final: Tensor, first: Tensor, **settings: Any) -> DLSR:
    """DLSR whose networks give one and the same vector for every input."""
    state = fitted.state()
    for prefix, answer in (("final", final), ("first", first)):
        state[f"{prefix}.leave.weight"] = torch.zeros_like(state[f"{prefix}.leave.weight"])
        state[f"{prefix}.leave.bias"] = answer
    return DLSR(**{**TINY, **settings}).load_state(state)


@pytest.mark.parametrize("sampler", ["ddim", "single"])
def test_scores_with_networks_that_are_known(fitted: DLSR, sampler: str) -> None:
    final, first = torch.randn(2, sum(SIZES), generator=torch.Generator().manual_seed(3))
    z = normalise(ID.layers, SIZES, "biased")

    def score(**settings: Any) -> Tensor:
        return answering(fitted, final, first, sampler=sampler, **settings).score(ID)

    errors = [(z - answer).square().mean(1) for answer in (final, first)]
    assert torch.allclose(score(measure="mse"), errors[0], atol=1e-5)
    assert torch.allclose(score(measure="mse", network="first_epoch"), errors[1], atol=1e-5)
    assert torch.allclose(score(measure="lr"), errors[0] - errors[1], atol=1e-5)
    assert torch.allclose(score(measure="lr", lr_sign="released"), errors[1] - errors[0], atol=1e-5)
    cosines = [
        (a * b).sum(1) / (a.norm(dim=1) * b.norm()) for a, b in zip(z.split(SIZES, 1), final.split(SIZES), strict=True)
    ]
    assert torch.allclose(score(), -(cosines[0] + cosines[1] + cosines[2]) / 3, atol=1e-5)
    last_two = -(cosines[1] + cosines[2]) / 2
    assert torch.allclose(score(mfsim_layers="without_first"), last_two, atol=1e-5)


def test_released_at_one_step_is_the_noise_alone(fitted: DLSR) -> None:
    z, alpha = normalise(ID.layers, SIZES, "biased"), float(alphas_cumprod()[1])
    scores = as_fitted(fitted, measure="mse", sampler="released", k=1).score(ID)
    # Each squared error is that of (sqrt(a) - 1) z + sqrt(1 - a) e, with e standard normal: its mean is known.
    expected = (math.sqrt(alpha) - 1) ** 2 * z.square().mean() + (1 - alpha)
    assert scores.mean().item() == pytest.approx(float(expected), rel=0.1)
    assert abs(auroc(as_fitted(fitted, measure="mse", sampler="released", k=1)) - 0.5) < 0.15


# Learning


@pytest.mark.parametrize("sampler", ["ddim", "released", "single"])
@pytest.mark.parametrize("measure", ["mse", "mfsim", "lr"])
def test_separates_two_gaussians(fitted: DLSR, measure: str, sampler: str) -> None:
    # The paper's sign of LR: an ID image has gained more from training than an OOD image has. It is a difference
    # of two noisy errors, and separates less; the other sign would be below .5.
    assert auroc(as_fitted(fitted, measure=measure, sampler=sampler, k=25)) > (0.75 if measure == "lr" else 0.9)


def test_the_released_sign_of_lr_is_the_opposite(fitted: DLSR) -> None:
    paper, released = (as_fitted(fitted, measure="lr", lr_sign=sign).score(ID) for sign in ("paper", "released"))
    assert torch.equal(paper, -released)


def test_training_lowers_the_error_on_id_images(fitted: DLSR) -> None:
    regret = as_fitted(fitted, measure="lr", lr_sign="released", k=25).score(ID)
    assert float(regret.mean()) > 0


def test_all_three_scores_share_a_fit(brief: DLSR) -> None:
    shared = {"measure", "network", "k", "sampler", "eta", "mfsim_layers", "lr_sign", "n_draws"}
    assert set(DLSR.score_only) == shared
    other = DLSR(**BRIEF, measure="lr", k=9, sampler="released", n_draws=3).fit(TRAIN, seed=2).state()
    state = brief.state()
    assert state.keys() == other.keys()
    assert all(torch.equal(value, other[name]) for name, value in state.items())


def test_the_first_network_is_that_of_the_first_epoch(fitted: DLSR) -> None:
    once = replace(fitted, epochs=1).fit(TRAIN, seed=5).state()
    state = fitted.state()
    names = [name.removeprefix("first.") for name in state if name.startswith("first.")]
    assert names
    for name in names:
        assert torch.equal(state[f"first.{name}"], once[f"final.{name}"])
    assert any(not torch.equal(state[f"first.{name}"], state[f"final.{name}"]) for name in names)


def test_the_last_layer_alone() -> None:
    def cut(x: Features) -> Features:
        return Features(layers=x.layers[:, -8:], layer_sizes=(8,), index=x.index)

    tiny = {**TINY, "epochs": 2, "measure": "mse"}
    alone, same = DLSR(**tiny, layers="last").fit(TRAIN, seed=5), DLSR(**tiny).fit(cut(TRAIN), seed=5)
    assert torch.equal(alone.score(ID), same.score(cut(ID)))


def test_averaged_weights_serve_both_networks(brief: DLSR, averaged: DLSR) -> None:
    for network in ("first", "final"):
        name = f"{network}.enter.weight"
        assert not torch.equal(brief.state()[name], averaged.state()[name])


# Noise


def test_noise_is_the_image_s(fitted: DLSR) -> None:
    whole = as_fitted(fitted, measure="mse", k=50).score(ID)
    moved = Features(layers=ID.layers, layer_sizes=SIZES, index=ID.index + 1000)
    assert not torch.allclose(as_fitted(fitted, measure="mse", k=50).score(moved), whole, rtol=1e-3)
    other = fitted.state()
    other["seed"] = other["seed"] + 1
    reseeded = DLSR(**{**TINY, "measure": "mse", "k": 50}).load_state(other)
    assert not torch.allclose(reseeded.score(ID), whole, rtol=1e-3)


def test_every_draw_of_noise_is_another(fitted: DLSR, monkeypatch: pytest.MonkeyPatch) -> None:
    streams: list[int] = []

    def record(index: Tensor, width: int, *, seed: int, stream: int) -> Tensor:
        assert seed == 5
        streams.append(stream)
        return normal(index, width, seed=seed, stream=stream)

    monkeypatch.setattr(module, "normal", record)
    as_fitted(fitted, measure="lr", n_draws=3, k=99, eta=1.0).score(ID[:2])
    assert len(streams) == 3 * 2 * 100  # for each draw and network the start and 99 noisy steps
    assert len(set(streams)) == len(streams)


def test_more_draws_less_spread(fitted: DLSR) -> None:
    same = Features(layers=ID.layers[:1].expand(400, -1), layer_sizes=SIZES)  # one image at 400 places

    def variance(draws: int) -> float:
        return float(as_fitted(fitted, measure="mse", k=50, n_draws=draws).score(same).var())

    # The mean of 8 independent draws has an eighth of the variance; 400 values know it to 10 %.
    assert variance(1) / variance(8) == pytest.approx(8, rel=0.5)


# Interruption


class Interruption:
    """Ctrl-C in a given optimiser step."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
        self.steps, self.step, self.update = 0, step, loop._Run.update
        monkeypatch.setattr(loop._Run, "update", lambda *a: self(*a))

    def __call__(self, *arguments: Any) -> None:
        self.steps += 1
        if self.steps == self.step:
            signal.raise_signal(signal.SIGINT)
        self.update(*arguments)


@pytest.mark.parametrize("lost", ["", "torn", "a bit flipped", "a folder"])
@pytest.mark.parametrize("step", [4, 10, 33])  # 10 steps an epoch
def test_an_interrupted_fit_goes_on(
    averaged: DLSR, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int, lost: str
) -> None:
    settings = {**BRIEF, "ema": 0.9}
    expected = averaged.state()
    interruption = Interruption(monkeypatch, step)
    with pytest.raises(KeyboardInterrupt):
        DLSR(**settings).fit(TRAIN, seed=2, workdir=tmp_path)
    kept = tmp_path / "first_epoch.pt"
    if lost == "a bit flipped" and kept.exists():
        content = kept.read_bytes()
        weights = content.index(torch.load(kept, weights_only=True)["network"]["blocks.0.linear1.weight"].numpy().data)
        kept.write_bytes(content[:weights] + bytes([content[weights] ^ 1]) + content[weights + 1 :])
    elif lost:
        kept.unlink(missing_ok=True)
        kept.mkdir() if lost == "a folder" else kept.write_bytes(b"torn")
    interruption.steps, interruption.step = 0, -1
    state = DLSR(**settings).fit(TRAIN, seed=2, workdir=tmp_path).state()
    again = 10 if lost and step >= 10 else 0  # the first epoch once more
    assert interruption.steps == 50 - step + again
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], expected[name]) for name in state)
    assert list(tmp_path.iterdir()) == []


# Settings


def test_released_preset() -> None:
    method = methods.create("dlsr", preset="released")
    assert isinstance(method, DLSR)
    assert (method.lr, method.weight_decay, method.batch_size, method.drop_last) == (1e-5, 0.02, 256, True)
    assert (method.ema, method.std, method.sampler, method.k) == (0.9999, "unbiased", "released", 3)
    assert (method.mfsim_layers, method.lr_sign, method.epochs) == ("without_first", "released", 150)
    paper = methods.create("dlsr")
    assert isinstance(paper, DLSR)
    assert (paper.lr, paper.weight_decay, paper.batch_size, paper.epochs) == (1e-4, 1e-4, 128, 150)
    assert (paper.ema, paper.std, paper.sampler, paper.mfsim_layers) == (None, "biased", "ddim", "all")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"measure": "mfsin"}, "DLSR: measure is 'mfsin'; it must be 'mfsim' or 'mse' or 'lr'"),
        ({"k": 0}, "k is 0; it must be a whole number, at least 1 and at most 99"),
        ({"k": 100, "sampler": "released"}, "k is 100; it must be a whole number, at least 1 and at most 99"),
        ({"eta": 1.5}, "eta is 1.5; it must be a number, at least 0 and at most 1"),
    ],
)
def test_bad_settings(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        DLSR(**settings)


@pytest.mark.parametrize("sampler", ["ddim", "released"])
def test_the_last_level_works(fitted: DLSR, sampler: str) -> None:
    assert bool(as_fitted(fitted, sampler=sampler, k=99).score(ID[:3]).isfinite().all())


def test_layers_must_be_those_of_the_fit(fitted: DLSR) -> None:
    other = Features(layers=ID.layers, layer_sizes=(8, 10, 6))
    with pytest.raises(ValueError, match=r"fitted on layers of \(6, 10, 8\) channels; these have \(8, 10, 6\)"):
        fitted.score(other)
    check_layers(ID, SIZES)
