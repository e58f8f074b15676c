"""pytorch-ood on the sets of a whole table: in the process that asks for it, or, as its users have it, in its own.

python -m tests.performance.peer FOLDER DEVICE BATCH ...: with torch's own settings, each batch size once after a trial;
the last line has the seconds of the best. FOLDER holds what `write` wrote.
"""

import json
import sys
import time
from collections import Counter
from collections.abc import MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pytorch_ood import detector
from pytorch_ood.benchmark import Benchmark
from pytorch_ood.utils import extract_features
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import ConcatDataset, DataLoader, Dataset, TensorDataset

from methods.encoders.networks import cifar

K, DICE, ASH, REACT = 50, 90, 90, 90
ROWS = {
    "msp": "MaxSoftmax",
    "maxlogit": "MaxLogit",
    "ebo": "EnergyBased",
    "dice": "DICE",
    "ash": "ASH",
    "react": "ReAct",
    "mahalanobis": "Mahalanobis",
    "knn": "KNN",
    "vim": "ViM",
}
Figures = dict[tuple[str, str], float]  # AUROC by method and OOD set


@dataclass(frozen=True)
class Images:
    """A set as the others read it: uint8 (N, 32, 32, 3), the same normalised (N, 3, 32, 32), and labels (N,)."""

    pixels: Tensor
    x: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def dataset(self, label: int | None = None) -> Dataset[Any]:
        """For torch's loader; `label` in the place of all labels."""
        return TensorDataset(self.x, self.labels if label is None else torch.full_like(self.labels, label))


@dataclass(frozen=True)
class Sets:
    """What a table is of."""

    train: Images
    id: Images
    ood: dict[str, Images]


class _Peer(Benchmark):  # type: ignore[misc]
    """The same sets, as pytorch-ood takes them: each OOD set with the ID set."""

    def __init__(self, known: Images, unknown: dict[str, Images]) -> None:
        self.ood_names = list(unknown)
        self._sets: list[Dataset[Any]] = [
            ConcatDataset([known.dataset(), images.dataset(-1)]) for images in unknown.values()
        ]

    def train_set(self) -> Dataset[Any]:
        raise NotImplementedError

    def test_sets(self, known: bool = True, unknown: bool = True) -> list[Dataset[Any]]:
        return list(self._sets)


def figures(sets: Sets, network: Any, device: str, batch: int, encoded: MutableMapping[str, int]) -> Figures:
    """Its whole table; `encoded` counts the images that its encoder took."""

    def embed(x: Tensor) -> Tensor:
        encoded["peer"] += len(x)
        embedding: Tensor = network.embedding(network.stages(x)[-1])
        return embedding

    def logits(x: Tensor) -> Tensor:
        return of_embedding(embed(x))

    def maps(x: Tensor) -> Tensor:  # its ASH and ReAct take maps: the pooled ones, as the methods' papers do
        return embed(x)[:, :, None, None]

    def of_maps(x: Tensor) -> Tensor:
        return of_embedding(x.flatten(1))

    def of_embedding(x: Tensor) -> Tensor:
        found: Tensor = head(x)
        return found

    head = network.head
    weight, bias = head.weight.detach(), head.bias.detach()
    detectors = {
        "msp": detector.MaxSoftmax(logits),
        "maxlogit": detector.MaxLogit(logits),
        "ebo": detector.EnergyBased(logits),
        "dice": detector.DICE(embed, weight, bias, p=DICE / 100),
        "ash": detector.ASH(maps, of_maps, variant="ash-s", percentile=ASH / 100),
        "react": detector.ReAct(maps, of_maps, percentile=REACT / 100),
        "mahalanobis": detector.Mahalanobis(embed),
        "knn": detector.KNN(embed, k=K),
        "vim": detector.ViM(embed, d=weight.shape[1] // 2, w=weight, b=bias),
    }
    loader = DataLoader(sets.train.dataset(), batch_size=batch)
    with torch.no_grad():
        z, y = extract_features(model=embed, data_loader=loader, device=device)
        for name in ("dice", "mahalanobis", "knn", "vim"):
            detectors[name].fit_features(z, y)
        detectors["react"].fit_feature_maps(z[:, :, None, None], y)
        results = _Peer(sets.id, sets.ood).evaluate(
            list(detectors.values()), loader_kwargs={"batch_size": batch}, device=device, cache=True
        )
    names = {peer: ours for ours, peer in ROWS.items()}
    return {(names[result["Detector"]], result["Dataset"]): result["AUROC"] for result in results}


def best_batch(network: nn.Module, x: Tensor, device: str) -> int:
    """Of some batch sizes the one with which a plain forward pass over these images (N, 3, 32, 32) is fastest."""
    seconds = {}
    with torch.no_grad():
        for batch in (64, 16, 32, 64, 128, 256):  # the first time is a trial
            start = time.perf_counter()
            for part in torch.split(x, batch):
                network(part.to(device))
            seconds[batch] = time.perf_counter() - start
    return min(seconds, key=lambda batch: seconds[batch])


def write(sets: Sets, architecture: str, weights: Path, folder: Path) -> None:
    """For a process of its own."""
    saved = {"sets": _plain(sets), "architecture": architecture, "weights": str(weights)}
    torch.save(saved, folder / "peer.pt")


def _plain(sets: Sets) -> dict[str, Any]:
    named = {"train": sets.train, "id": sets.id, **{f"ood/{name}": images for name, images in sets.ood.items()}}
    return {name: (images.pixels, images.x, images.labels) for name, images in named.items()}


def read(folder: Path) -> tuple[Sets, nn.Module]:
    """What `write` wrote; the network on the CPU."""
    saved = torch.load(folder / "peer.pt", weights_only=True)
    found = {name: Images(*tensors) for name, tensors in saved["sets"].items()}
    network = cifar.build(saved["architecture"], 10).eval()
    network.load_state_dict(load_file(saved["weights"]))
    ood = {name.removeprefix("ood/"): images for name, images in found.items() if name.startswith("ood/")}
    return Sets(found["train"], found["id"], ood), network


def main() -> None:
    folder, device, *sizes = sys.argv[1:]
    sets, network = read(Path(folder))
    network.to(device)
    seconds = dict[int, float]()
    for batch in map(int, sizes):
        if not seconds:
            figures(sets, network, device, batch, Counter())
        start = time.perf_counter()
        found = figures(sets, network, device, batch, Counter())  # AUROC are numbers of the CPU: it is done
        seconds[batch] = time.perf_counter() - start
    best = min(seconds, key=lambda batch: seconds[batch])
    auroc = {f"{method} {ood}": value for (method, ood), value in found.items()}
    print(json.dumps({"seconds": seconds[best], "batch": best, "of": seconds, "auroc": auroc}))


if __name__ == "__main__":
    main()
