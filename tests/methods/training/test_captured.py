"""A training whose step is captured, rehearsed on the CPU, against one whose step is not, and that against plain code.

A graph of `tests.rerun` runs the function again on the graph's own buffers, so that what is copied, put back, seeded
and counted is what a GPU sees.
"""

import contextlib
import copy
import functools
import gc
import signal
import sys
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import methods
from methods.device import graphs
from methods.training import checkpoint, loop
from methods.training.loop import seeded, train
from methods.training.recipe import Recipe, flags, optimizer
from methods.vectors.noise import derive
from tests.methods.training import trainings
from tests.rerun import Rerun
from tests.waiting import Waits

DATA = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
RECIPE = Recipe(4, 8, "adamw", 0.01, 0.1, schedule="cosine", warmup_epochs=0.5, ema=0.9, clip=0.5)  # 6 x 8, and 2
STEPS = 28
OPTIMIZERS = ("adamw", "adam", "adamax", "sgd")


def network() -> nn.Module:
    """Buffers that a step changes, dropout, a weight that is not trained."""
    with seeded(3):
        made = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.SiLU(), nn.Linear(8, 4))
    made[0].bias.requires_grad_(False)
    return made


def batch(rows: Tensor, generator: torch.Generator) -> tuple[Tensor, ...]:
    return DATA[rows], torch.randn(len(rows), 4, generator=generator)


def loss(model: nn.Module, clean: Tensor, noise: Tensor) -> Tensor:
    error: Tensor = model(clean + noise) - clean
    return error.square().mean()


def run(model: nn.Module, recipe: Recipe = RECIPE, **how: Any) -> list[float]:
    return train(model, batch, loss, len(DATA), recipe, **{"seed": 5, "device": "cpu", "name": "test", **how})


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.fixture
def recorders(monkeypatch: pytest.MonkeyPatch) -> list[Rerun]:
    """From now on the CPU captures where it is asked to; these are what did, one a training."""
    made: list[Rerun] = []
    captured = graphs.Captured

    def strict(function: Any, changed: Any, generators: Any, recorder: Rerun) -> graphs.Captured:
        recorder.changed = changed
        made.append(recorder)
        return captured(function, changed, generators, recorder)

    monkeypatch.setattr(graphs, "recorder", lambda device: Rerun())
    monkeypatch.setattr(graphs, "Captured", strict)
    return made


# The loop


def plain(recipe: Recipe) -> tuple[dict[str, Tensor], list[float]]:
    """The same training as anybody would write it down, by no part of the loop but its seeds and rates."""
    model, history = network().train(), []
    parameters = [p for p in model.parameters() if p.requires_grad]
    made = torch.optim.AdamW(parameters, recipe.lr, weight_decay=recipe.weight_decay, fused=True)
    averaged = [t for t in (*model.parameters(), *model.buffers()) if t.is_floating_point()]
    average, step = [t.detach().clone() for t in averaged], 0
    for epoch in range(recipe.epochs):
        order = torch.randperm(50, generator=torch.Generator().manual_seed(derive(5, 0, epoch)))
        total = torch.zeros(())
        for place, rows in enumerate(order.split(8)):
            generator = torch.Generator().manual_seed(derive(5, 1, epoch, place))
            torch.manual_seed(derive(5, 2, epoch, place))
            clean = DATA[rows]
            noise = torch.randn(len(rows), 4, generator=generator)
            made.param_groups[0]["lr"] = recipe.lr_at(step, 50)
            made.zero_grad()
            error = (model(clean + noise) - clean).square().mean()
            error.backward()
            nn.utils.clip_grad_norm_(model.parameters(), recipe.clip or 0)
            made.step()
            step += 1
            decay = min(recipe.ema or 0, (1 + step) / (10 + step))
            with torch.no_grad():
                for mean, value in zip(average, averaged, strict=True):
                    mean.lerp_(value, 1 - decay)
            total += error.detach() * len(rows)
        history.append(float(total / 50))
    with torch.no_grad():
        for mean, value in zip(average, averaged, strict=True):
            value.copy_(mean)
    return model.state_dict(), history


def test_the_loop_is_the_plain_one() -> None:
    expected, losses = plain(RECIPE)
    model = network()
    assert run(model) == pytest.approx(losses, rel=1e-6)
    assert same(model.state_dict(), expected)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_captured_is_as_eager(name: Any, recorders: list[Rerun]) -> None:
    momentum = {"momentum": 0.9, "nesterov": True} if name == "sgd" else {}
    recipe = Recipe(3, 8, name, 0.05, 0.01, schedule="cosine", ema=0.9, **momentum)  # type: ignore[arg-type]
    eager, captured = network(), network()
    seen: list[list[Tensor]] = [[], []]
    histories = [
        run(model, recipe, capture=capture, on_epoch=lambda _, m, kept=kept: kept.append(copy.deepcopy(m)[0].weight))
        for model, capture, kept in ((eager, False, seen[0]), (captured, True, seen[1]))
    ]
    assert histories[0] == histories[1]
    assert same(eager.state_dict(), captured.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(*seen, strict=True))
    (recorder,) = recorders
    assert (recorder.recorded, recorder.replayed) == (2, 21)  # one for whole batches, one for the last of an epoch
    assert all(p.grad is None for p in captured.parameters())  # they would keep a graph's memory


def interrupted(step: int, workdir: Path, monkeypatch: pytest.MonkeyPatch, **how: Any) -> None:
    done = 0

    def stopping(model: nn.Module, clean: Tensor, noise: Tensor) -> Tensor:
        return loss(model, clean, noise)

    def read(rows: Tensor, generator: torch.Generator) -> tuple[Tensor, ...]:
        nonlocal done
        done += 1
        if done == step:
            signal.raise_signal(signal.SIGINT)
        return batch(rows, generator)

    with pytest.raises(KeyboardInterrupt):
        train(network(), read, stopping, 50, RECIPE, seed=5, device="cpu", name="test", workdir=workdir, **how)


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("step", [3, 7, 16])
def test_a_training_goes_on_where_it_was_captured_or_not(
    tmp_path: Path, recorders: list[Rerun], before: bool, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state that a checkpoint brings is that of the tensors the graph knows."""
    undisturbed = network()
    history = run(undisturbed)
    interrupted(step, tmp_path, monkeypatch, capture=before)
    model = network()
    assert run(model, workdir=tmp_path, capture=not before) == history
    assert same(model.state_dict(), undisturbed.state_dict())


def test_a_checkpoint_holds_state_and_no_flags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One with the flags of another device, as older ones have, goes on with those of this device."""
    undisturbed = network()
    history = run(undisturbed)
    interrupted(9, tmp_path, monkeypatch)
    path = tmp_path / "training.pt"
    state = torch.load(path, weights_only=True)
    assert state["optimizer"].keys() == {"state"}
    group = {"lr": torch.tensor(7.0), "fused": None, "foreach": True, "capturable": True, "params": list(range(5))}
    checkpoint.save(path, state | {"optimizer": state["optimizer"] | {"param_groups": [group]}})
    model = network()
    assert run(model, workdir=tmp_path) == history
    assert same(model.state_dict(), undisturbed.state_dict())


def test_flags_of_the_optimisers() -> None:
    """What torch's classes take: Adamax has no `fused`, SGD no `capturable`."""
    one, many, capturable = {"fused": True}, {"foreach": True}, {"capturable": True}
    assert [flags(name, capturable=False) for name in OPTIMIZERS] == [one, one, many, one]
    wanted = [one | capturable, one | capturable, many | capturable, one]
    assert [flags(name, capturable=True) for name in OPTIMIZERS] == wanted


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_rate_of_a_captured_step_is_a_tensor(name: Any) -> None:
    model = network()
    eager, captured = (optimizer(model, Recipe(1, 8, name, 0.05), capturable=held) for held in (False, True))
    assert [type(made.param_groups[0]["lr"]) for made in (eager, captured)] == [float, Tensor]
    assert float(captured.param_groups[0]["lr"]) == pytest.approx(0.05)
    assert len(captured.param_groups[0]["params"]) == 5  # the sixth is not trained


# What stands around it


class Elsewhere:
    """In the place of CUDA's generators, of which there are two."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.generators = (torch.Generator().manual_seed(10), torch.Generator().manual_seed(11))
        monkeypatch.setattr(torch.cuda, "init", lambda: None)
        monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
        monkeypatch.setattr(torch.cuda, "default_generators", self.generators)


@pytest.mark.parametrize(("device", "used"), [("cuda", 1), ("cuda:0", 0)])
def test_seeded_follows_its_device_and_keeps_every_generator(
    device: str, used: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    generators = (torch.default_generator, *Elsewhere(monkeypatch).generators)
    before = [generator.get_state() for generator in generators]
    with contextlib.suppress(InterruptedError), seeded(4, device):
        assert [generator.initial_seed() == 4 for generator in generators[1:]] == [used == 0, used == 1]
        torch.rand(3)
        torch.rand(3, generator=generators[1 + used])
        raise InterruptedError
    assert all(torch.equal(g.get_state(), state) for g, state in zip(generators, before, strict=True))


def test_seeded_on_the_cpu_starts_no_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    def touched(*_: object) -> None:
        raise AssertionError("CUDA was touched")

    for name in ("init", "manual_seed_all", "get_rng_state", "_lazy_call"):
        monkeypatch.setattr(torch.cuda, name, touched)
    with seeded(4):
        drawn = torch.rand(3)
    assert torch.equal(drawn, torch.rand(3, generator=torch.Generator().manual_seed(4)))


def test_a_batch_that_does_not_fit_is_one_line(tmp_path: Path) -> None:
    tried: list[int] = []

    def full(rows: Tensor, generator: torch.Generator) -> tuple[Tensor, ...]:
        tried.append(len(rows))
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    how: dict[str, Any] = {"seed": 0, "device": "cpu", "name": "vae"}
    with pytest.raises(RuntimeError) as found:
        train(network(), full, loss, 5000, Recipe(1, 2048, "sgd", 0.1), **how)
    assert str(found.value) == "training vae: a batch of 2,048 does not fit in the memory of cpu: lower batch_size"
    assert tried == [2048]  # never halved


@pytest.mark.parametrize("capture", [False, True])
def test_a_training_that_has_ended_is_gone_at_once(
    capture: bool, recorders: list[Rerun], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its moments, averages and graphs do not wait for the garbage collector in a cycle."""
    runs: list[weakref.ref[Any]] = []

    class Watched(loop._Run):
        def __init__(self, *given: Any, **more: Any) -> None:
            super().__init__(*given, **more)
            runs.append(weakref.ref(self))

    run(network())  # what torch keeps of the first one of a process is its own
    monkeypatch.setattr(loop, "_Run", Watched)
    gc.disable()
    try:
        run(network(), capture=capture)
        recorders.clear()
        assert runs[0]() is None
    finally:
        gc.enable()


def test_precision_is_set_around_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, str]] = []
    real = loop.precisions.switches
    monkeypatch.setattr(loop.precisions, "switches", lambda *given: seen.append(given) or real(*given))
    for precision in ("32", "tf32", "bf16"):
        run(network(), Recipe(1, 50, "sgd", 0.1), precision=precision)
    assert seen == [("32", "cpu"), ("tf32", "cpu"), ("bf16", "cpu")]


# The trainings of the project


@pytest.mark.parametrize("name", trainings.NAMES)
def test_every_captured_training_is_as_eager(name: str, recorders: list[Rerun], request: Any) -> None:
    captured = trainings.learned(name, "cpu", "32")
    assert recorders
    assert all(recorder.recorded >= 1 and recorder.replayed >= 4 for recorder in recorders)
    request.getfixturevalue("monkeypatch").setattr(graphs, "recorder", lambda device: None)
    assert same(eager(name)[0], captured)


def test_what_waits_is_seen() -> None:
    x = torch.arange(3.0)
    with Waits() as waits:
        x[:2], x[torch.tensor([1])], x[x > 1], float(x.sum()), x.nonzero()
    assert waits.found == ["lift_fresh", "index", "_local_scalar_dense", "nonzero"]


@functools.cache
def eager(name: str) -> tuple[dict[str, Tensor], list[list[str]]]:
    """What a training that is not captured ends with, and what each of its steps waited for."""
    learn, found = loop._Run.learn, []
    with pytest.MonkeyPatch.context() as patch:

        def watched(self: Any, *tensors: Tensor) -> Tensor:
            with Waits() as waits:
                step = self.optimizer.step

                def unwatched() -> None:
                    waits.paused = True
                    step()
                    waits.paused = False

                patch.setattr(self.optimizer, "step", unwatched)
                value = learn(self, *tensors)
                patch.setattr(self.optimizer, "step", step)
            found.append(waits.found)
            return value

        patch.setattr(loop._Run, "learn", watched)
        return trainings.learned(name, "cpu", "32"), found


@pytest.mark.parametrize("name", trainings.NAMES)
def test_a_step_that_is_captured_never_waits_for_the_device(name: str) -> None:
    """In a capture that is an error, of which a CPU tells nothing. (The optimiser's flags are those of the device.)"""
    _, found = eager(name)
    assert found
    assert not any(found)


def test_methods_that_train_pass_their_precision_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """And no other method takes one."""
    assert {name for name in methods.names() if methods.create(name).trains} == set(trainings.METHODS)
    for name, (train_on, settings) in trainings.METHODS.items():
        given: list[str] = []

        def stop(*_: Any, precision: str, given: list[str] = given, **__: Any) -> None:
            given.append(precision)
            raise InterruptedError

        method = methods.create(name, **settings)
        monkeypatch.setattr(sys.modules[type(method).__module__], "train_network", stop)
        fit: Any = method.fit
        for how in ({"precision": "bf16"}, {}):
            with contextlib.suppress(InterruptedError):
                fit(train_on, **how)
        assert given == ["bf16", "32"], name


def test_a_training_in_bf16_is_another_one_and_finite() -> None:
    for name in ("dlsr", "vae", "pixelcnn"):
        losses = trainings.learned(name, "cpu", "bf16")["losses"]
        strict = trainings.learned(name, "cpu", "32")["losses"]
        assert not torch.equal(losses, strict)
        torch.testing.assert_close(losses, strict, rtol=0.05, atol=0)
