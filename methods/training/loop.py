"""The one training loop: every network of the project is trained by `train`.

It is a pure function of its arguments: batches and random numbers come from (seed, epoch, step), so that a
training that was interrupted and resumed ends in the same weights, bit for bit on the CPU.
"""

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from methods.device import graphs, memory, tensors
from methods.device import precision as precisions
from methods.training import checkpoint
from methods.training.progress import Progress
from methods.training.recipe import Recipe, optimizer
from methods.vectors.noise import derive

CHECKPOINT_SECONDS = 60.0  # at most this much is lost to a kill -9

Batch = Callable[[Tensor, torch.Generator], tuple[Tensor, ...]]
Loss = Callable[..., Tensor]  # of the network and what a `Batch` gave


@contextlib.contextmanager
def seeded(seed: int, device: str = "cpu") -> Iterator[None]:
    """Inside, torch's global random numbers (initial weights, dropout) follow `seed`; outside, untouched.

    Those of the CPU and of `device`: the generators of other devices are never looked at.
    """
    generators = _generators(device)
    states = [generator.get_state() for generator in generators]
    try:
        for generator in generators:
            generator.manual_seed(seed)
        yield
    finally:
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)


def _generators(device: str) -> list[torch.Generator]:
    """torch's global ones, of the CPU and of `device`; `torch.manual_seed` would move those of all devices."""
    generators = [torch.default_generator]
    if torch.device(device).type == "cuda":
        torch.cuda.init()  # type: ignore[no-untyped-call]
        index = torch.device(device).index
        generators.append(torch.cuda.default_generators[torch.cuda.current_device() if index is None else index])
    return generators


def train(
    model: nn.Module,
    batch: Batch,
    loss: Loss,
    n: int,
    recipe: Recipe,
    *,
    seed: int,
    device: str,
    name: str,
    workdir: Path | None = None,
    on_epoch: Callable[[int, nn.Module], None] | None = None,
    precision: str = "32",
    capture: bool = False,
) -> list[float]:
    """Train `model` (moved to `device`) on rows 0 .. n - 1; returns the mean loss of each epoch.

    `batch(rows, generator)`: what a step reads of a batch of row numbers (B,) int64, tensors on `device`;
    `generator` is its source of random numbers; both on `device`. `loss(model, *tensors)`: their mean loss.
    `on_epoch(epoch, model)` follows each epoch, in eval mode, in which the model also ends. With `recipe.ema` both
    see the averaged weights. `precision`: "32", "tf32" on a GPU, or "bf16" for autocast of the loss.

    `capture`: on a GPU a step (loss, its gradient, the optimiser) is captured as one graph and replayed, where it
    never waits for the device and does the same whatever the numbers are; `batch` is not part of it.

    `workdir` (this training's own) keeps a checkpoint every minute and at Ctrl-C, from which the next call
    goes on, on any device; epochs before it are not passed to `on_epoch` again. A file that cannot be read, or that is
    of another training, is ignored. RuntimeError where the loss is not finite, or a batch does not fit in memory.
    """
    if n < 1:
        raise ValueError(f"training {name}: there are no training samples")
    precisions.usable(precision, device)
    memory.keep_freed()
    recorder = graphs.recorder(torch.device(device)) if capture else None
    run = _Run(model.to(device), loss, recipe, n, name, seed, device, precision, captured=recorder is not None)
    path = None if workdir is None else workdir / "training.pt"
    if path is not None:
        run.resume(checkpoint.load(path, run.identity, tensors.room(run.model)))
    learn: Callable[..., Tensor] = run.learn
    if recorder is not None:
        learn = graphs.Captured(run.learn, run.changed, run.generators, recorder)
    generator = torch.Generator(device)
    progress = Progress(name, run.steps, run.step, min(n, recipe.batch_size))
    model.train()
    with (
        seeded(seed, device),
        torch.enable_grad(),
        precisions.switches(precision, device),
        checkpoint.Interrupt() as interrupt,
        progress.bar,
        _one_line(name, recipe.batch_size, device),
    ):
        saved = time.monotonic()
        while run.step < run.steps:
            epoch, place = divmod(run.step, run.per_epoch)
            if place == 0 or run.order is None:
                run.order = _permutation(n, seed, epoch).to(device, non_blocking=True)
            generator.manual_seed(derive(seed, 1, epoch, place))
            for own in run.generators:
                own.manual_seed(derive(seed, 2, epoch, place))
            rows = run.order[place * recipe.batch_size : (place + 1) * recipe.batch_size]
            run.update(learn, batch(rows, generator), place)
            progress.watch(run.step, run.read, place)
            if place == run.per_epoch - 1:
                run.end_epoch(epoch, on_epoch)
            # Only now: a checkpoint is of whole steps, and an epoch in it has been seen by `on_epoch`.
            if path is not None and (interrupt.pending or time.monotonic() - saved >= CHECKPOINT_SECONDS):
                run.read()  # no checkpoint of a training that has diverged
                checkpoint.save(path, run.state())
                saved = time.monotonic()
            interrupt.act()
    run.optimizer.zero_grad()  # gradients lie in the graph's memory, and keep it
    run.swap_average()
    model.eval()
    if path is not None:
        checkpoint.remove(path)
    return run.history


@contextlib.contextmanager
def _one_line(name: str, batch_size: int, device: str) -> Iterator[None]:
    """A batch that does not fit in memory is never halved: that would be another training."""
    try:
        yield
    except Exception as error:
        if memory.out_of_memory(error):
            raise RuntimeError(
                f"training {name}: a batch of {batch_size:,} does not fit in the memory of {device}: lower batch_size"
            ) from None
        raise


def _permutation(n: int, seed: int, epoch: int) -> Tensor:
    """The order of rows in an epoch; drawn on the CPU so that it is the same on every device."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(derive(seed, 0, epoch)))


class _Run:
    """The state of a training: what a checkpoint holds, and how a step changes it."""

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        recipe: Recipe,
        n: int,
        name: str,
        seed: int,
        device: str,
        precision: str,
        *,
        captured: bool,
    ) -> None:
        self.model, self.loss, self.recipe, self.n, self.name = model, loss, recipe, n, name
        self.device, self.precision, self.generators = torch.device(device), precision, _generators(device)
        self.per_epoch = recipe.steps_per_epoch(n)
        self.steps = recipe.epochs * self.per_epoch
        self.captured = captured
        self.optimizer = optimizer(model, recipe, capturable=captured and self.device.type == "cuda")
        self.step = 0
        self.history: list[float] = []
        # This epoch's losses stay on the device: fetching each would make every step wait for it.
        self.losses = torch.zeros(self.per_epoch, device=self.device)
        self.order: Tensor | None = None
        # Buffers are averaged as parameters are: batch norm's statistics then belong to the averaged weights.
        weights = [t for t in (*model.parameters(), *model.buffers()) if t.is_floating_point()]
        self.averaged = weights if recipe.ema is not None else []
        self.average = [weight.detach().clone() for weight in self.averaged]
        shapes = {key: list(value.shape) for key, value in model.state_dict().items()}
        identity = {"name": name, "n": n, "seed": seed, "precision": precision, "recipe": asdict(recipe)}
        self.identity = json.dumps({**identity, "model": shapes}, sort_keys=True)

    def update(self, learn: Callable[..., Tensor], tensors: tuple[Tensor, ...], place: int) -> None:
        """One step of the optimiser by `learn`, this run's own or that as a graph, and of the average."""
        rate = self.recipe.lr_at(self.step, self.n)
        for group in self.optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate
        self.losses[place] = learn(*tensors)
        self.step += 1
        if self.recipe.ema is not None:
            decay = min(self.recipe.ema, (1 + self.step) / (10 + self.step))
            with torch.no_grad():
                torch._foreach_lerp_(self.average, self.averaged, 1 - decay)

    def learn(self, *tensors: Tensor) -> Tensor:
        """Loss, its gradient, a step of the optimiser: what a graph holds. Returns the loss."""
        self.optimizer.zero_grad(set_to_none=True)
        cached = not self.captured  # a cast of the weights that is kept would be one of other weights in a replay
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16", cache_enabled=cached):
            value = self.loss(self.model, *tensors)
        value.backward()  # type: ignore[no-untyped-call]
        if self.recipe.clip is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip)
        self.optimizer.step()
        return value.detach()

    def changed(self) -> list[Tensor]:
        """The tensors that a step changes: weights, buffers, the optimiser's state."""
        state = [t for own in self.optimizer.state.values() for t in own.values() if isinstance(t, Tensor)]
        return [*self.model.parameters(), *self.model.buffers(), *state]

    def swap_average(self) -> None:
        """Exchange the model's weights with their average; a second call takes it back. Nothing is copied."""
        for weight, average in zip(self.averaged, self.average, strict=True):
            weight.data, average.data = average.data, weight.data

    def end_epoch(self, epoch: int, on_epoch: Callable[[int, nn.Module], None] | None) -> None:
        losses = self.read()
        sizes = torch.full((self.per_epoch,), float(min(self.n, self.recipe.batch_size)))
        if not self.recipe.drop_last:
            sizes[-1] = self.n - (self.per_epoch - 1) * self.recipe.batch_size
        self.history.append(float((losses * sizes).sum() / sizes.sum()))
        self.losses.zero_()
        if on_epoch is not None:
            self.swap_average()
            self.model.eval()
            with torch.no_grad():
                on_epoch(epoch, self.model)
            self.model.train()
            self.swap_average()

    def read(self) -> Tensor:
        """This epoch's losses on the CPU (waits for the device); RuntimeError where one is not finite."""
        losses = self.losses.cpu()
        bad = (~losses.isfinite()).nonzero().flatten()
        if len(bad):
            place = int(bad[0])
            step = (self.step - 1) // self.per_epoch * self.per_epoch + place + 1
            raise RuntimeError(
                f"training {self.name} diverged at step {step:,} (loss {float(losses[place])}): lower lr"
            )
        return losses

    def state(self) -> dict[str, Any]:
        """The optimiser's flags are not in it: they are those of the device, and it may go on on another one."""
        return {
            "identity": self.identity,
            "step": self.step,
            "history": self.history,
            "losses": self.losses,
            "model": self.model.state_dict(),
            "optimizer": {"state": self.optimizer.state_dict()["state"]},
            "average": self.average,
        }

    def resume(self, state: dict[str, Any] | None) -> None:
        """Go on from `state`, where there is one."""
        if state is None:
            return
        self.model.load_state_dict(state["model"])
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state["optimizer"]["state"], "param_groups": groups})
        for average, kept in zip(self.average, state["average"], strict=True):
            average.copy_(kept)
        self.losses.copy_(state["losses"])
        self.step, self.history = state["step"], state["history"]
