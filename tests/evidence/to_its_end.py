"""Trains DLSR to its end, seed by seed, and keeps what its evidence reads: for a machine that is lent for minutes.

    python -m tests.evidence.to_its_end --data DATA --weights WEIGHTS --cache CACHE --fits FITS \
        --checkpoints CHECKPOINTS --device cuda

The networks after the epochs of the curve go to CHECKPOINTS as they come, every fit to FITS and to the store, where
`run_all` with the same --cache finds it, with `--resolution id` too where the training images' features are then the
same, bit for bit; `curve` and `why` read what is there.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from safetensors.torch import save_file
from torch import nn

from benchmark.jobs.fitting import FitMethod
from benchmark.jobs.worker import Worker
from benchmark.store.entries import Store
from methods import dlsr
from methods.training import loop
from tests.evidence import trained

EPOCHS = (1, 3, 5, 13, 26, 51, 102)  # of 391 steps: about 391, 1k, 2k, 5k, 10k, 20k, 40k


def main() -> None:
    parse = trained.parser(__doc__)
    parse.add_argument("--checkpoints", type=Path, required=True)
    parse.add_argument("--row", default="dlsr-mse", help="of the suite; its fit's name in FITS")
    parse.add_argument("--seeds", type=int, nargs="+", default=trained.SEEDS)
    parse.add_argument("--precision", help="of the trainings alone: bf16, .. (default: as the command line's)")
    given = parse.parse_args()
    for folder in (given.checkpoints, given.fits):
        folder.mkdir(parents=True, exist_ok=True)
    store = Store(given.cache)
    native, at_id_size = (trained.read(given, resolution).train for resolution in ("native", "id"))
    same = torch.equal(native.layers, at_id_size.layers)
    print(f"the training images' features at both resolutions: {'the same' if same else 'not the same'}", flush=True)
    with patch.object(dlsr, "train_network", kept(given.checkpoints)):
        for seed in given.seeds:
            train(given, seed, store, same=same)


def train(given: argparse.Namespace, seed: int, store: Store, *, same: bool) -> None:
    def fit_at(resolution: str) -> FitMethod:
        found = trained.fit_of(trained.planned(given, given.row, (seed,), resolution))
        return replace(found, precision=given.precision or found.precision)

    fit = fit_at("native")
    if not fit.done(store):
        with store.lock(fit.key):
            fit.run(Worker(store, device=given.device))
    state, meta = store.tensors("fit", fit.key), store.meta("fit", fit.key)
    save_file(state, trained.path(given, given.row, seed))
    if same:
        store.put("fit", fit_at("id").key, tensors=state, meta=meta)
    took = "in several sittings" if meta["seconds"] is None else f"in {meta['seconds']:.0f} s"
    print(f"seed {seed}: trained {took}", flush=True)


def kept(folder: Path) -> Callable[..., list[float]]:
    """The training loop, which puts the network after each of EPOCHS in `folder`, as `curve` reads a checkpoint."""
    training = loop.train

    def train(*of: Any, on_epoch: Callable[[int, nn.Module], None], **how: Any) -> list[float]:
        n, recipe, seed = of[3], of[4], how["seed"]
        identity = json.dumps({"name": how["name"], "seed": seed, "recipe": {"ema": recipe.ema}})

        def both(epoch: int, network: nn.Module) -> None:
            on_epoch(epoch, network)
            if epoch + 1 in EPOCHS:
                step = (epoch + 1) * recipe.steps_per_epoch(n)
                weights = {name: value.cpu() for name, value in network.state_dict().items()}
                state = {"identity": identity, "step": step, "model": weights, "average": []}
                torch.save(state, folder / f"seed{seed}.step{step}.pt")

        return training(*of, on_epoch=both, **how)

    return train


if __name__ == "__main__":
    main()
