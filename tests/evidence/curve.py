"""AUROC of DLSR's scores against training steps, from checkpoints that were kept while it trained; none is chosen.

    python -m tests.evidence.curve --data DATA --weights WEIGHTS --cache CACHE --fits FITS --checkpoints CHECKPOINTS \
        --out results/evidence/dlsr-curve.csv

`--row mse-released`: of the released code's preset, its averaged networks and its sampler.

CHECKPOINTS holds copies of `<cache>/work/*/training.pt`, taken by hand; what seed each is of stands in it. A training
that has not ended has no fit: its network of the first epoch, which lies beside its checkpoint, is copied there as
`first_epoch.seed<N>.pt` (of older trainings `.safetensors`), and its curve ends where its last checkpoint does.
"""

import argparse
import csv
import json
from collections.abc import Iterator
from dataclasses import replace
from operator import itemgetter
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file
from torch import Tensor

from methods.base import Features
from methods.device import tensors
from methods.dlsr import DLSR
from methods.training.recipe import Recipe
from methods.vectors.layers import BLOCK, normalise
from methods.vectors.reconstruction import mfsim, mse
from tests.evidence import trained

Errors = dict[str, tuple[Tensor, Tensor]]  # MSE and MFsim of every set's images


def main() -> None:
    parse = trained.parser(__doc__)
    parse.add_argument("--checkpoints", type=Path, required=True)
    parse.add_argument("--row", default="dlsr-mse", help="of the suite; its fit's name in FITS")
    parse.add_argument("--resolutions", nargs="+", choices=("native", "id"), default=["native", "id"])
    parse.add_argument("--out", type=Path, required=True, help="the CSV that is written")
    given = parse.parse_args()
    method = DLSR(**trained.fit_of(trained.planned(given, given.row, (0,))).settings)
    with given.out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("encoder", "resolution", "seed", "steps", "measure", "set", "n", "auroc", "fpr95"))
        for resolution in given.resolutions:
            sets = trained.read(given, resolution)
            images = {"": sets.id, **sets.ood}
            for seed in trained.SEEDS:
                if (fit := _fit(given, method, seed, sets.train.layer_sizes)) is None:
                    continue
                recipe = Recipe(fit.epochs, fit.batch_size, "adamw", fit.lr, drop_last=fit.drop_last)
                epoch = recipe.steps_per_epoch(len(sets.train))
                first = _errors(fit, images, "first_epoch")
                found: list[tuple[int, Errors]] = [(epoch, first)]
                for step, network in sorted(_kept(given.checkpoints, fit, seed), key=itemgetter(0)):
                    if step > epoch:
                        found.append((step, _errors(_put(fit, network, given.device), images, "final")))
                if trained.path(given, given.row, seed).is_file():
                    found.append((fit.epochs * epoch, _errors(fit, images, "final")))
                for step, errors in found:
                    for measure, scores in _scores(errors, first).items():
                        for name in sets.ood:
                            value = trained.figures(scores[""], scores[name])
                            row = (given.encoder, resolution, seed, step, measure, name, len(scores[name]))
                            writer.writerow((*row, value["auroc"], value["fpr95"]))
                    file.flush()
                    print(resolution, seed, step, flush=True)


def _fit(given: argparse.Namespace, method: DLSR, seed: int, sizes: tuple[int, ...]) -> DLSR | None:
    """Of a training that has not ended: with the first epoch's network in the final one's place."""
    if (path := trained.path(given, given.row, seed)).is_file():
        return replace(method).load_state(load_file(path), device=given.device)
    copies = sorted(given.checkpoints.glob(f"first_epoch.seed{seed}.*"))
    if not copies:
        return None
    found, _ = tensors.read(copies[0], 4 << 30)
    state = {"seed": torch.tensor(seed), "layer_sizes": torch.tensor(sizes), "losses": torch.tensor([])}
    for name, value in found.get("network", found).items():
        state |= {f"first.{name}": value, f"final.{name}": value}
    return replace(method).load_state(state, device=given.device)


def _put(fit: DLSR, network: dict[str, Tensor], device: str) -> DLSR:
    """The fit with another state of its network in the final one's place."""
    state = fit.state() | {f"final.{name}": value for name, value in network.items()}
    return replace(fit).load_state(state, device=device)


def _kept(folder: Path, fit: DLSR, seed: int) -> Iterator[tuple[int, dict[str, Tensor]]]:
    """Step and network, averaged where the training averages, of every checkpoint of this training."""
    for path in sorted(set(folder.glob("*.pt")) - set(folder.glob("first_epoch.*"))):
        state: dict[str, Any] = torch.load(path, weights_only=True, mmap=True)
        identity = json.loads(state["identity"])
        if (identity["name"], identity["seed"], identity["recipe"]["ema"]) == ("dlsr", seed, fit.ema):
            averaged = dict(zip(dict(fit._final.named_parameters()), state["average"], strict=False))
            yield state["step"], {**state["model"], **averaged}


@torch.no_grad()
def _errors(fit: DLSR, images: dict[str, Features], which: str) -> Errors:
    def of(x: Features) -> tuple[Tensor, Tensor]:
        parts = []
        for block in x.blocks(BLOCK):
            z = normalise(block.need("layers"), block.layer_sizes, fit.std)
            back = fit._reconstruct(cast(Any, which), z, block.index, 0)
            skipped = int(fit.mfsim_layers == "without_first")
            parts.append((mse(z, back), mfsim(z, back, block.layer_sizes, first=skipped)))
        return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])

    return {name: of(x) for name, x in images.items()}


def _scores(errors: Errors, first: Errors) -> dict[str, dict[str, Tensor]]:
    """The paper's three scores; LR with the paper's sign, as `DLSR` has it."""
    found = {
        "mse": {name: value[0] for name, value in errors.items()},
        "mfsim": {name: value[1] for name, value in errors.items()},
    }
    if errors is not first:
        found["lr"] = {name: value[0] - first[name][0] for name, value in errors.items()}
    return found


if __name__ == "__main__":
    main()
