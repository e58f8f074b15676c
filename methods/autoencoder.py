"""The autoencoder of the DLSR paper's tables 1, 2 and 11: the same network and features, without noise."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor, nn

from methods.base import Features, Method, nearest, register
from methods.lfdn import LFDN, restore
from methods.noise import derive
from methods.reconstruction import BLOCK, Std, check_layers, mfsim, mse, normalise, normalised
from methods.training import Recipe, seeded
from methods.training import train as train_network


@register("autoencoder")
@dataclass
class Autoencoder(Method):
    """Error of z~ = LFDN(z0) without time embedding; z0: the layers' channels, normalised within each layer.

    Trained as DLSR is, under ||z0 - z~||^2 without noise. Scores: "mfsim", -mean over layers of
    cos(z0^m, z~^m), the paper's; "mse", mean (z0 - z~)^2. The network is wider than its input (`width` None:
    twice the channels; `hidden` None: `width`) and may learn the identity, hence the paper's weak row.
    """

    title: ClassVar[str] = "AutoEncoder"
    paper: ClassVar[str] = (
        "Yang et al., Diffusion-based Layer-wise Semantic Reconstruction for Unsupervised "
        "Out-of-Distribution Detection, NeurIPS 2024, appendix C.5, https://arxiv.org/abs/2411.10701"
    )
    reads: ClassVar[tuple[str, ...]] = ("layers",)
    score_only: ClassVar[tuple[str, ...]] = ("measure",)
    random_fit: ClassVar[bool] = True

    measure: Literal["mfsim", "mse"] = "mfsim"
    std: Std = "biased"
    width: int | None = None
    hidden: int | None = None
    blocks: int = 16
    epochs: int = 150
    lr: float = 1e-4
    weight_decay: float = 1e-4
    batch_size: int = 128

    def __post_init__(self) -> None:
        for name, valid in (("measure", ("mfsim", "mse")), ("std", ("biased", "unbiased"))):
            value = getattr(self, name)
            if value not in valid:
                raise ValueError(f"autoencoder: {name} {value!r}; {nearest(str(value), valid)}")

    @torch.no_grad()
    def score(self, x: Features) -> Tensor:
        check_layers(x, self._sizes)
        return torch.cat([self._score(block) for block in x.blocks(BLOCK)])

    def _score(self, x: Features) -> Tensor:
        z = normalise(x.need("layers"), self._sizes, self.std)
        reconstructed: Tensor = self._lfdn(z)
        return mse(z, reconstructed) if self.measure == "mse" else mfsim(z, reconstructed, self._sizes)

    def fit(self, train: Features, *, seed: int = 0, device: str = "cpu", workdir: Path | None = None) -> Self:
        z = normalised(train, self.std, device)

        def loss(network: nn.Module, rows: Tensor, generator: torch.Generator) -> Tensor:
            clean = z[rows]
            error: Tensor = network(clean) - clean
            return error.square().sum(dim=1).mean()

        recipe = Recipe(self.epochs, self.batch_size, "adamw", self.lr, self.weight_decay)
        with seeded(derive(seed), device):
            self._lfdn = LFDN(z.shape[1], **self._network())
        self._sizes = train.layer_sizes
        train_network(self._lfdn, loss, len(z), recipe, seed=seed, device=device, name="autoencoder", workdir=workdir)
        return self

    def _network(self) -> dict[str, Any]:
        return {"width": self.width, "hidden": self.hidden, "blocks": self.blocks, "time": 0}

    def state(self) -> dict[str, Tensor]:
        network = {f"lfdn.{name}": value.cpu() for name, value in self._lfdn.state_dict().items()}
        return {"layer_sizes": torch.tensor(self._sizes), **network}

    def load_state(self, state: Mapping[str, Tensor], *, device: str = "cpu") -> Self:
        self._sizes = tuple(state["layer_sizes"].tolist())
        self._lfdn = restore(state, sum(self._sizes), device, prefix="lfdn.", **self._network())
        return self
