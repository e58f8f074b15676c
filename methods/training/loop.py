"""The one training loop: every network of the project is trained by `train`.

It is a pure function of its arguments: batches and random numbers come from (seed, epoch, step), so that a
training that was interrupted and resumed ends in the same weights, bit for bit on the CPU.
"""

import contextlib
import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from tqdm import tqdm

from methods.base import nearest
from methods.device import memory, tensors
from methods.training import checkpoint
from methods.vectors.noise import derive

CHECKPOINT_SECONDS = 60.0  # at most this much is lost to a kill -9
READ_SECONDS = 0.5  # how often the loss is fetched from the device
ANNOUNCE_SECONDS = 60.0  # a training longer than this says so at its start

Loss = Callable[[nn.Module, Tensor, torch.Generator], Tensor]


@dataclass(frozen=True)
class Recipe:
    """How to train. `ema`: cap of the decay min(ema, (1 + n) / (10 + n)) at update n, or None: no averaging.

    `schedule` is per step, after `warmup_epochs` of linear warm-up. `clip`: the gradient's largest norm.
    """

    epochs: int
    batch_size: int
    optimizer: Literal["adamw", "adam", "adamax", "sgd"]
    lr: float
    weight_decay: float = 0.0
    momentum: float = 0.0
    nesterov: bool = False
    schedule: Literal["constant", "cosine"] = "constant"
    warmup_epochs: float = 0.0
    ema: float | None = None
    clip: float | None = None
    drop_last: bool = False

    def __post_init__(self) -> None:
        for name, valid in (("optimizer", ("adamw", "adam", "adamax", "sgd")), ("schedule", ("constant", "cosine"))):
            if getattr(self, name) not in valid:
                raise ValueError(f"{name} {getattr(self, name)!r}: {nearest(str(getattr(self, name)), valid)}")
        for name in ("epochs", "batch_size", "lr"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be greater than 0, not {getattr(self, name)}")

    def steps_per_epoch(self, n: int) -> int:
        """Batches in an epoch of n samples; with `drop_last` whole ones only, but never none."""
        return max(1, n // self.batch_size) if self.drop_last else math.ceil(n / self.batch_size)

    def lr_at(self, step: int, n: int) -> float:
        """The learning rate of step 0, 1, ...: linear warm-up, then constant or half a cosine down to 0."""
        per_epoch = self.steps_per_epoch(n)
        warmup, total = round(self.warmup_epochs * per_epoch), self.epochs * per_epoch
        if step < warmup:
            return self.lr * (step + 1) / warmup
        if self.schedule == "constant":
            return self.lr
        return self.lr * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


@contextlib.contextmanager
def seeded(seed: int, device: str = "cpu") -> Iterator[None]:
    """Inside, torch's global random numbers (initial weights, dropout) follow `seed`; outside, untouched."""
    cuda = torch.device(device).type == "cuda"
    with torch.random.fork_rng(devices=[torch.device(device)] if cuda else []):
        torch.manual_seed(seed)
        yield


def train(
    model: nn.Module,
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
) -> list[float]:
    """Train `model` (moved to `device`) on rows 0 .. n - 1; returns the mean loss of each epoch.

    `loss(model, rows, generator)` is the mean over a batch of row numbers (B,) int64; `generator` is its
    source of random numbers; both on `device`. `on_epoch(epoch, model)` follows each epoch, in eval mode, in
    which the model also ends. With `recipe.ema` both see the averaged weights. `precision`: "32", or "bf16"
    for autocast.

    `workdir` (this training's own) keeps a checkpoint every minute and at Ctrl-C, from which the next call
    goes on; epochs before it are not passed to `on_epoch` again. A file that cannot be read, or that is of
    another training, is ignored. RuntimeError where the loss is not finite.
    """
    if n < 1:
        raise ValueError(f"training {name}: there are no training samples")
    if precision not in ("32", "bf16"):
        raise ValueError(f"precision {precision!r}: {nearest(precision, ('32', 'bf16'))}")
    memory.keep_freed()
    run = _Run(model.to(device), recipe, n, name, seed, device, precision)
    path = None if workdir is None else workdir / "training.pt"
    if path is not None:
        run.resume(checkpoint.load(path, run.identity, tensors.room(run.model)))
    generator = torch.Generator(device)
    model.train()
    with seeded(seed, device), torch.enable_grad(), checkpoint.Interrupt() as interrupt, run.bar() as bar:
        saved = time.monotonic()
        while run.step < run.steps:
            epoch, place = divmod(run.step, run.per_epoch)
            if place == 0 or run.order is None:
                run.order = _permutation(n, seed, epoch).to(device, non_blocking=True)
            generator.manual_seed(derive(seed, 1, epoch, place))
            torch.manual_seed(derive(seed, 2, epoch, place))
            rows = run.order[place * recipe.batch_size : (place + 1) * recipe.batch_size]
            run.update(loss, rows, generator, place)
            run.watch(bar)
            if place == run.per_epoch - 1:
                run.end_epoch(epoch, on_epoch)
            # Only now: a checkpoint is of whole steps, and an epoch in it has been seen by `on_epoch`.
            if path is not None and (interrupt.pending or time.monotonic() - saved >= CHECKPOINT_SECONDS):
                run.read()  # no checkpoint of a training that has diverged
                checkpoint.save(path, run.state())
                saved = time.monotonic()
            interrupt.act()
    run.swap_average()
    model.eval()
    if path is not None:
        checkpoint.remove(path)
    return run.history


def _permutation(n: int, seed: int, epoch: int) -> Tensor:
    """The order of rows in an epoch; drawn on the CPU so that it is the same on every device."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(derive(seed, 0, epoch)))


class _Run:
    """The state of a training: what a checkpoint holds, and what the progress bar shows."""

    def __init__(
        self, model: nn.Module, recipe: Recipe, n: int, name: str, seed: int, device: str, precision: str
    ) -> None:
        self.model, self.recipe, self.n, self.name, self.device = model, recipe, n, name, torch.device(device)
        self.precision = precision
        self.per_epoch = recipe.steps_per_epoch(n)
        self.steps = recipe.epochs * self.per_epoch
        self.optimizer = _optimizer(model, recipe)
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
        self.announced = False
        self.timed = self.read_at = 0.0
        self.timed_from = -1

    def update(self, loss: Loss, rows: Tensor, generator: torch.Generator, place: int) -> None:
        """One step of the optimiser, and of the average."""
        rate = self.recipe.lr_at(self.step, self.n)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            value = loss(self.model, rows, generator)
        value.backward()  # type: ignore[no-untyped-call]
        if self.recipe.clip is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip)
        self.optimizer.step()
        self.losses[place] = value.detach()
        self.step += 1
        if self.recipe.ema is not None:
            decay = min(self.recipe.ema, (1 + self.step) / (10 + self.step))
            with torch.no_grad():
                torch._foreach_lerp_(self.average, self.averaged, 1 - decay)

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

    def bar(self) -> "tqdm[Any]":
        return tqdm(total=self.steps, initial=self.step, desc=self.name, unit="step", delay=2, dynamic_ncols=True)

    def watch(self, bar: "tqdm[Any]") -> None:
        """Progress: a few readings a second at most, for each waits for the device."""
        now = time.monotonic()
        if self.timed_from < 0:  # the first step warms up and is not timed
            self.read()
            self.timed, self.timed_from, self.read_at = time.monotonic(), self.step, now
        elif now - self.read_at >= READ_SECONDS:
            losses, now = self.read(), time.monotonic()
            done, self.read_at = self.step - self.timed_from, now
            seconds = (now - self.timed) / done
            place = (self.step - 1) % self.per_epoch
            rate = min(self.n, self.recipe.batch_size) / seconds
            bar.set_postfix_str(f"loss {losses[place]:.4g}, {rate:,.0f} images/s", refresh=False)
            left = self.steps - self.step
            if not self.announced and (now - self.timed) >= 2 * READ_SECONDS:
                self.announced = True
                if seconds * left > ANNOUNCE_SECONDS:
                    message = f"training {self.name}: about {_duration(seconds * left)} ({left:,} steps)"
                    tqdm.write(message, file=sys.stderr)
        bar.update(self.step - bar.n)

    def state(self) -> dict[str, Any]:
        return {
            "identity": self.identity,
            "step": self.step,
            "history": self.history,
            "losses": self.losses,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average,
        }

    def resume(self, state: dict[str, Any] | None) -> None:
        """Go on from `state`, where there is one."""
        if state is None:
            return
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        for average, kept in zip(self.average, state["average"], strict=True):
            average.copy_(kept)
        self.losses.copy_(state["losses"])
        self.step, self.history = state["step"], state["history"]


def _optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    parameters = [p for p in model.parameters() if p.requires_grad]
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(
            parameters,
            recipe.lr,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
            nesterov=recipe.nesterov,
            fused=True,
        )
    if recipe.optimizer == "adamax":
        return torch.optim.Adamax(parameters, recipe.lr, weight_decay=recipe.weight_decay, foreach=True)
    kind = torch.optim.AdamW if recipe.optimizer == "adamw" else torch.optim.Adam
    return kind(parameters, recipe.lr, weight_decay=recipe.weight_decay, fused=True)


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 100 * 60 else f"{seconds / 3600:.1f} h"
