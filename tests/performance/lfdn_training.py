"""A training step and an epoch of LFDN (DLSR), against plain matrix products of the same shapes.

Each linear layer makes three products a step: forward, to its input, to its weights. What the step takes beside these
are norms, activations, noise and the optimiser, which reads and writes each weight five times. After the features are
encoded once, no encoder takes part.

With `--device cuda`: steps a second by precision, launched one by one (eager) and as a captured graph.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from statistics import median

import torch
from torch import nn

import methods
from methods import dlsr
from methods.base import Features
from methods.device import memory, precision
from methods.networks.lfdn import LFDN
from methods.training.loop import train
from methods.training.recipe import Recipe
from tests.performance import paired

BATCH = 128
CHANNELS = (512, 720)  # of GPU.md's table, and of the paper
TIMED = 3  # epochs, after one that warms up and captures
SIZES = {"resnet18": (64, 128, 256, 512), "efficientnet_b4": (24, 32, 56, 160, 448)}


def products(network: nn.Module, device: str) -> Callable[[], None]:
    """The matrix products of one training step; the time embedding's too."""
    layers = [module for module in network.modules() if isinstance(module, nn.Linear)]
    shapes = {(layer.in_features, layer.out_features) for layer in layers}
    made = {(n, m): [torch.randn(size, device=device) for size in ((BATCH, n), (n, m), (BATCH, m))] for n, m in shapes}

    def run() -> None:
        for layer in layers:
            x, weight, y = made[layer.in_features, layer.out_features]
            _ = x @ weight, y @ weight.T, y.T @ x

    return run


def steps_per_second(channels: int, device: str, asked: str, *, capture: bool, steps: int) -> float:
    """Training steps of LFDN: `steps` of them, TIMED times, on random features."""
    z = torch.randn(steps * BATCH, channels, generator=torch.Generator().manual_seed(0)).to(device)
    ends: list[float] = []
    train(
        LFDN(channels),
        *dlsr.objective(z),
        len(z),
        Recipe(1 + TIMED, BATCH, "adamw", 1e-4, 1e-4),
        seed=0,
        device=device,
        name="lfdn",
        on_epoch=lambda *_: ends.append(time.perf_counter()),  # the loop has waited for the device
        precision=asked,
        capture=capture,
    )
    return steps / median(end - start for start, end in pairwise(ends))


def by_precision(device: str, channels: Sequence[int] = CHANNELS, *, steps: int = 60) -> dict[str, dict[str, float]]:
    """Steps a second, eager and captured: by "channels, precision", of those precisions that the device has."""
    found: dict[str, dict[str, float]] = {}
    for width in channels:
        for asked in precision.PRECISIONS:
            try:
                precision.resolve(asked, device)
            except ValueError:
                continue
            found[f"{width} channels, {asked}"] = {
                name: steps_per_second(width, device, asked, capture=capture, steps=steps)
                for name, capture in (("eager", False), ("captured", True))
            }
    return found


def repeated(step: Callable[[], object], times: int) -> list[object]:
    return [step() for _ in range(times)]


def main() -> None:
    given = paired.arguments(__doc__)
    memory.keep_freed()
    if given.device.startswith("cuda"):
        found = by_precision(given.device, steps=400 if given.full else 60)
        pairs = {name: (each["eager"], each["captured"]) for name, each in found.items()}
        rows = [(name, eager, captured, captured / eager) for name, (eager, captured) in pairs.items()]
        heads = ("LFDN, batch 128", "steps/s eager", "steps/s captured", "ratio")
        paired.finish("Training LFDN (DLSR)", heads, rows, given.device, full=given.full, steps_per_second=found)
        return
    steps = 400 if given.full else 2
    rows, shares = [], {}
    for name, sizes in SIZES.items():
        n = steps * BATCH
        z = torch.randn(n, sum(sizes), generator=torch.Generator().manual_seed(0))
        train = Features(layers=z, layer_sizes=sizes)

        def fit(epochs: int, train: Features = train) -> Callable[[], object]:
            return lambda: methods.create("dlsr", epochs=epochs).fit(train, device=given.device)

        step = products(LFDN(sum(sizes)), given.device)
        work: dict[str, Callable[[], object]] = {
            "one": fit(1),
            "three": fit(3),
            "products": partial(repeated, step, steps),
        }
        seconds = paired.interleaved(3, work, device=given.device)
        epochs = [(three - one) / 2 for one, three in zip(seconds["one"], seconds["three"], strict=True)]
        shares[name] = paired.ratio(seconds["products"], epochs)
        epoch = median(epochs)
        rows.append((f"{name}, {sum(sizes)} channels", 1000 * epoch / steps, epoch / n * 50_000, shares[name]))
    heads = ("features", "ms a step of 128", "s an epoch of 50,000", "share of the plain matmul rate")
    paired.finish("Training LFDN (DLSR)", heads, rows, given.device, full=given.full, matmul_shares=shares)


if __name__ == "__main__":
    main()
