"""The training loop: its arithmetic, and that an interrupted training ends as an undisturbed one."""

import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from methods.training import checkpoint, loop, progress
from methods.training.loop import Batch, Loss, seeded, train
from methods.training.recipe import Recipe
from tests.apart import Apart

ROOT = Path(__file__).parents[3]


class Scalar(nn.Module):
    """One weight, 0 at the start."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(()))


def falling(model: nn.Module, rows: Tensor) -> Tensor:
    """A loss of gradient 1: each SGD step lowers the weight by the learning rate."""
    return model.w + 0 * rows.sum()


def numbers(rows: Tensor, generator: torch.Generator) -> tuple[Tensor, ...]:
    return (rows,)


def run(
    model: nn.Module, loss: Loss, n: int, recipe: Recipe, *, batch: Batch = numbers, **settings: Any
) -> list[float]:
    return train(model, batch, loss, n, recipe, **{"seed": 0, "device": "cpu", "name": "test", **settings})


def sgd(**settings: Any) -> Recipe:
    return Recipe(**{"epochs": 1, "batch_size": 1, "optimizer": "sgd", "lr": 1.0, **settings})


# Arithmetic


def test_average_by_hand() -> None:
    seen: list[float] = []
    model = Scalar()
    run(model, falling, 1, sgd(epochs=2, ema=0.2), on_epoch=lambda _, m: seen.append(m.w.item()))
    # Weights -1, -2. Decay min(.2, 2/11) = 2/11, then min(.2, 3/12) = .2; the average starts at 0.
    first = 9 / 11 * -1
    assert seen == pytest.approx([first, 0.2 * first + 0.8 * -2])
    assert model.w.item() == pytest.approx(0.2 * first + 0.8 * -2)


def test_on_epoch_leaves_the_trained_weights_alone() -> None:
    model, other = Scalar(), Scalar()
    run(model, falling, 3, sgd(epochs=3, ema=0.5), on_epoch=lambda *_: None)
    run(other, falling, 3, sgd(epochs=3, ema=0.5))
    assert model.w.item() == other.w.item()


def test_schedules() -> None:
    cosine = Recipe(10, 10, "sgd", 0.4, schedule="cosine")  # 100 samples: 100 steps
    assert [cosine.lr_at(step, 100) for step in (0, 50, 100)] == pytest.approx([0.4, 0.2, 0.0], abs=1e-12)
    warm = Recipe(10, 10, "sgd", 0.4, schedule="cosine", warmup_epochs=2)
    assert [warm.lr_at(step, 100) for step in (0, 9, 19)] == pytest.approx([0.02, 0.2, 0.4])
    assert [warm.lr_at(step, 100) for step in (20, 60, 100)] == pytest.approx([0.4, 0.2, 0.0], abs=1e-12)
    flat = Recipe(10, 10, "sgd", 0.4, warmup_epochs=0.5)
    assert [flat.lr_at(step, 100) for step in (0, 4, 5, 99)] == pytest.approx([0.08, 0.4, 0.4, 0.4])


def test_the_schedule_is_followed_step_by_step() -> None:
    model = Scalar()
    run(model, falling, 4, sgd(epochs=5, lr=0.1, schedule="cosine"))
    # The sum over s = 0 .. T - 1 of (1 + cos(pi s / T)) / 2 is (T + 1) / 2; here T = 20.
    assert model.w.item() == pytest.approx(-0.1 * 21 / 2, rel=1e-5)


def test_clipping_bounds_the_step() -> None:
    model = Scalar()
    run(model, lambda m, *_: 10 * m.w, 1, sgd(clip=0.25))
    assert model.w.item() == pytest.approx(-0.25, rel=1e-5)


@pytest.mark.parametrize("name", ["adamw", "adam", "adamax", "sgd"])
def test_optimizers_are_torch_s(name: str) -> None:
    x = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
    with seeded(1):
        model, other = nn.Linear(3, 1), nn.Linear(3, 1)
    other.load_state_dict(model.state_dict())
    more: dict[str, Any] = {"momentum": 0.9, "nesterov": True} if name == "sgd" else {}
    recipe = Recipe(5, 8, name, 0.05, weight_decay=0.1, **more)
    run(model, lambda m, rows: m(x[rows]).square().mean(), 8, recipe)
    kinds = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "adamax": torch.optim.Adamax, "sgd": torch.optim.SGD}
    kind = kinds[name]
    optimizer = kind(other.parameters(), lr=0.05, weight_decay=0.1, **more)
    for _ in range(5):  # whole batches: the order of rows does not matter
        optimizer.zero_grad()
        other(x).square().mean().backward()
        optimizer.step()
    assert torch.allclose(model.weight, other.weight, atol=1e-6)
    assert torch.allclose(model.bias, other.bias, atol=1e-6)


def test_an_epoch_is_a_permutation_and_its_loss_the_mean_over_samples() -> None:
    data = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0])
    batches: list[list[int]] = []

    def loss(model: nn.Module, rows: Tensor) -> Tensor:
        batches.append(rows.tolist())
        return data[rows].mean() + 0 * model.w

    history = run(Scalar(), loss, 5, sgd(epochs=20, batch_size=2))
    assert [len(batch) for batch in batches] == [2, 2, 1] * 20
    epochs = [[*a, *b, *c] for a, b, c in zip(batches[::3], batches[1::3], batches[2::3], strict=True)]
    assert all(sorted(epoch) == [0, 1, 2, 3, 4] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 10
    assert history == pytest.approx([31 / 5] * 20)


def test_drop_last_drops_the_rest_but_never_all() -> None:
    sizes: list[int] = []

    def loss(model: nn.Module, rows: Tensor) -> Tensor:
        sizes.append(len(rows))
        return 0 * model.w

    run(Scalar(), loss, 7, sgd(batch_size=3, drop_last=True))
    assert sizes == [3, 3]
    run(Scalar(), loss, 2, sgd(batch_size=3, drop_last=True))
    assert sizes == [3, 3, 2]


def test_bf16_is_autocast() -> None:
    types: list[torch.dtype] = []

    def loss(model: nn.Module, rows: Tensor) -> Tensor:
        y = model(torch.ones(2, 3))
        types.append(y.dtype)
        return y.float().sum()

    model = nn.Linear(3, 1)
    run(model, loss, 1, sgd(), precision="bf16")
    run(model, loss, 1, sgd())
    assert types == [torch.bfloat16, torch.float32]
    assert model.weight.dtype == torch.float32


def test_nothing_outside_is_changed() -> None:
    state, handler = torch.random.get_rng_state(), signal.getsignal(signal.SIGINT)
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))
    torch.random.set_rng_state(state)
    run(model, lambda m, rows: m(torch.ones(len(rows), 2)).sum(), 4, sgd(batch_size=2))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert signal.getsignal(signal.SIGINT) is handler
    assert not model.training
    assert torch.is_grad_enabled()


def test_dropout_and_the_loss_s_generator_are_not_the_same_numbers() -> None:
    draws: list[tuple[Tensor, Tensor]] = []

    def batch(rows: Tensor, generator: torch.Generator) -> tuple[Tensor, ...]:
        return (torch.rand(8, generator=generator),)

    def loss(model: nn.Module, drawn: Tensor) -> Tensor:
        draws.append((torch.rand(8), drawn))
        return 0 * model.w

    run(Scalar(), loss, 2, sgd(), batch=batch)
    flat = [tuple(draw.tolist()) for pair in draws for draw in pair]
    assert len(set(flat)) == 4


# What it says


def test_divergence_names_the_step_and_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0)
    steps = 0

    def loss(model: nn.Module, rows: Tensor) -> Tensor:
        nonlocal steps
        steps += 1
        return falling(model, rows) * (float("nan") if steps == 8 else 1)

    with pytest.raises(RuntimeError, match=r"training wobbly diverged at step 8 \(loss nan\): lower lr"):
        run(Scalar(), loss, 3, sgd(epochs=5), name="wobbly", workdir=tmp_path)
    assert torch.load(tmp_path / "training.pt", weights_only=True)["step"] == 7


def test_divergence_between_two_readings_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "READ_SECONDS", 1e9)

    def loss(model: nn.Module, rows: Tensor) -> Tensor:
        return falling(model, rows) * (1 if int(rows) else float("inf"))

    epochs: list[int] = []
    with pytest.raises(RuntimeError, match=r"diverged at step \d+ \(loss -?(inf|nan)\)"):
        run(Scalar(), loss, 9, sgd(epochs=2), on_epoch=lambda epoch, _: epochs.append(epoch))
    assert epochs == []


def test_a_long_training_says_so_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    run(Scalar(), falling, 10, sgd(epochs=2))
    assert capsys.readouterr().err == ""  # nothing for a short one
    monkeypatch.setattr(progress, "READ_SECONDS", 0)
    monkeypatch.setattr(progress, "ANNOUNCE_SECONDS", 0)
    run(Scalar(), falling, 100, sgd(epochs=2), name="vae")
    said = capsys.readouterr().err
    assert re.search(r"training vae: about \d+ s \(198 steps\)", said)
    assert said.count("training vae") == 1


@pytest.mark.parametrize(("seconds", "text"), [(75, "75 s"), (720, "12 min"), (5999, "100 min"), (9000, "2.5 h")])
def test_durations(seconds: float, text: str) -> None:
    assert progress.duration(seconds) == text


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"optimizer": "adamww"}, "optimizer 'adamww': did you mean 'adamw'"),
        ({"schedule": "cosin"}, "schedule 'cosin': did you mean 'cosine'"),
        ({"epochs": 0}, "epochs must be greater than 0, not 0"),
        ({"lr": -1.0}, "lr must be greater than 0"),
    ],
)
def test_bad_recipes(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        sgd(**settings)


def test_nothing_to_train_on() -> None:
    with pytest.raises(ValueError, match="training test: there are no training samples"):
        run(Scalar(), falling, 0, sgd())
    with pytest.raises(ValueError, match="precision '16'"):
        run(Scalar(), falling, 1, sgd(), precision="16")


# Interruption and resumption

DATA = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
RECIPE = Recipe(6, 8, "adamw", 0.01, weight_decay=0.1, schedule="cosine", ema=0.9)  # 7 steps an epoch, 42 in all


def network() -> nn.Module:
    """All that a resumed training must bring back: buffers, dropout, and with RECIPE moments and averages."""
    with seeded(3):
        return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.SiLU(), nn.Linear(8, 4))


def noisy(rows: Tensor, generator: torch.Generator) -> tuple[Tensor, ...]:
    return DATA[rows], torch.randn(len(rows), 4, generator=generator)


def denoise(model: nn.Module, clean: Tensor, noise: Tensor) -> Tensor:
    error: Tensor = model(clean + noise) - clean
    return error.square().mean()


def after(steps: int, what: Callable[[], object]) -> Loss:
    """`denoise` that calls `what` in step number `steps`."""
    done = 0

    def loss(model: nn.Module, clean: Tensor, noise: Tensor) -> Tensor:
        nonlocal done
        done += 1
        if done == steps:
            what()
        return denoise(model, clean, noise)

    return loss


def stop() -> None:
    raise KeyboardInterrupt


@pytest.fixture(scope="module")
def undisturbed() -> tuple[dict[str, Tensor], list[float]]:
    model = network()
    history = run(model, denoise, 50, RECIPE, batch=noisy)
    return model.state_dict(), history


def resume(
    tmp_path: Path, undisturbed: tuple[dict[str, Tensor], list[float]], *, steps: int, epochs: list[int]
) -> None:
    """The training in `tmp_path` goes on for `steps` steps and `epochs`, and ends as the undisturbed one did."""
    model, seen, done = network(), [], 0

    def loss(model: nn.Module, clean: Tensor, noise: Tensor) -> Tensor:
        nonlocal done
        done += 1
        return denoise(model, clean, noise)

    history = run(model, loss, 50, RECIPE, batch=noisy, workdir=tmp_path, on_epoch=lambda epoch, _: seen.append(epoch))
    assert (done, seen) == (steps, epochs)
    assert history == undisturbed[1]
    assert all(torch.equal(value, undisturbed[0][name]) for name, value in model.state_dict().items())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("step", [1, 3, 14, 15, 41])
def test_ctrl_c_loses_no_whole_step(tmp_path: Path, undisturbed: Any, step: int) -> None:
    seen: list[int] = []
    loss = after(step, lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        run(network(), loss, 50, RECIPE, batch=noisy, workdir=tmp_path, on_epoch=lambda epoch, _: seen.append(epoch))
    assert seen == list(range(step // 7))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    resume(tmp_path, undisturbed, steps=42 - step, epochs=list(range(step // 7, 6)))


def test_a_second_ctrl_c_acts_at_once(tmp_path: Path) -> None:
    def twice() -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        raise AssertionError

    with pytest.raises(KeyboardInterrupt):
        run(network(), after(5, twice), 50, RECIPE, batch=noisy, workdir=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("step", [2, 8, 30])
def test_an_interrupt_inside_a_step(
    tmp_path: Path, undisturbed: Any, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0)  # one a step
    with pytest.raises(KeyboardInterrupt):
        run(network(), after(step, stop), 50, RECIPE, batch=noisy, workdir=tmp_path)
    resume(tmp_path, undisturbed, steps=42 - (step - 1), epochs=list(range((step - 1) // 7, 6)))


def test_kill_9(tmp_path: Path, undisturbed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.02)
    workdir = tmp_path / "work"

    def slow(*given: Any) -> Tensor:
        time.sleep(0.1)
        return denoise(*given)

    training = Apart(lambda: run(network(), slow, 50, RECIPE, batch=noisy, workdir=workdir), tmp_path)
    deadline = time.monotonic() + 60
    while not (workdir / "training.pt").exists():
        assert training.process.exitcode is None, training.wait()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(0.3)
    training.process.kill()
    assert training.wait()[0] == -signal.SIGKILL  # in the middle, not at its end
    step = torch.load(workdir / "training.pt", weights_only=True)["step"]
    assert 0 < step < 42
    resume(workdir, undisturbed, steps=42 - step, epochs=list(range(step // 7, 6)))


def interrupted(tmp_path: Path, **settings: Any) -> Path:
    """A checkpoint after 20 steps."""
    loss = after(20, lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        run(network(), loss, 50, RECIPE, batch=noisy, **{"workdir": tmp_path, **settings})
    return tmp_path / "training.pt"


def test_a_temporary_file_of_a_killed_write_is_cleared_away(tmp_path: Path, undisturbed: Any) -> None:
    interrupted(tmp_path).with_name("training.pt.123.tmp").write_bytes(b"torn")
    resume(tmp_path, undisturbed, steps=22, epochs=[2, 3, 4, 5])


class Hostile:
    def __reduce__(self) -> Any:
        return (exec, ("raise SystemExit('code ran')",))


@pytest.mark.parametrize("damage", ["empty", "text", "truncated", "flipped", "pickle", "other", "folder"])
def test_a_damaged_checkpoint_is_ignored_and_told(tmp_path: Path, undisturbed: Any, damage: str, capsys: Any) -> None:
    path = interrupted(tmp_path)
    whole = path.read_bytes()
    if damage == "pickle":
        torch.save({"identity": Hostile()}, path)
    elif damage == "other":
        torch.save({"step": 5, "model": {}}, path)
    elif damage == "folder":
        path.unlink()
        (path / "within").mkdir(parents=True)
    else:
        flipped = bytearray(whole)
        flipped[whole.index(torch.load(path, weights_only=True)["average"][0].numpy().tobytes()) + 3] ^= 64
        changed = {"empty": b"", "text": b"not a file", "truncated": whole[: len(whole) // 2]}
        path.write_bytes({**changed, "flipped": bytes(flipped)}[damage])
    resume(tmp_path, undisturbed, steps=42, epochs=[0, 1, 2, 3, 4, 5])
    why = "it is that of another training" if damage == "other" else "it is damaged"
    assert f"note: {path} is not used, and its steps are done again: {why}" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("other", [{"seed": 1}, {"name": "else"}, {"precision": "bf16"}])
def test_the_checkpoint_of_another_training_is_ignored(tmp_path: Path, undisturbed: Any, other: dict[str, Any]) -> None:
    interrupted(tmp_path, **other)
    resume(tmp_path, undisturbed, steps=42, epochs=[0, 1, 2, 3, 4, 5])


def test_a_file_is_whole_or_absent(tmp_path: Path) -> None:
    def torn(path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    path = tmp_path / "folder" / "file"
    checkpoint.write(path, lambda temporary: temporary.write_bytes(b"old"))
    with pytest.raises(OSError, match="No space"):
        checkpoint.write(path, torn)
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in path.parent.iterdir()] == ["file"]
