"""The autoencoder of the DLSR paper's tables 1, 2 and 11: the same network and features, without noise.

And two controls that the paper does not have: with a bottleneck, and with noise of one level.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

import torch
from torch import Tensor, nn

from methods.base import Count, Features, Method, NotNegative, Positive, Range, register
from methods.networks.lfdn import LFDN
from methods.training.loop import seeded
from methods.training.loop import train as train_network
from methods.training.recipe import Recipe
from methods.vectors import diffusion
from methods.vectors.layers import BLOCK, Std, check_layers, normalise, normalised
from methods.vectors.noise import derive, normal
from methods.vectors.reconstruction import mfsim, mse


@register("autoencoder")
@dataclass
class Autoencoder(Method):
    """Error of z~ = LFDN(z0) without time embedding; z0: the layers' channels, normalised within each layer.

    Trained as DLSR is, under ||z0 - z~||^2 without noise. Scores: "mfsim", -mean over layers of
    cos(z0^m, z~^m), the paper's; "mse", mean (z0 - z~)^2. The network is wider than its input (`width` None:
    twice the channels; `hidden` None: `width`) and may learn the identity, hence the paper's weak row. Two ways
    to keep it from that: all goes through `bottleneck` channels between the halves of the blocks (None: it
    does not), or z0 is brought to the `noise_level` of DLSR's schedule, 0 .. 99, in training and in scoring, and z~
    is still held against z0 (None: no noise).
    """

    title: ClassVar[str] = "AutoEncoder"
    paper: ClassVar[str] = (
        "Yang et al., Diffusion-based Layer-wise Semantic Reconstruction for Unsupervised "
        "Out-of-Distribution Detection, NeurIPS 2024, appendix C.5, https://arxiv.org/abs/2411.10701"
    )
    reads: ClassVar[tuple[str, ...]] = ("layers",)
    score_only: ClassVar[tuple[str, ...]] = ("measure",)
    random_fit: ClassVar[bool] = True
    trains: ClassVar[bool] = True

    measure: Literal["mfsim", "mse"] = "mfsim"
    std: Std = "biased"
    width: Count | None = None
    hidden: Count | None = None
    blocks: Count = 16
    epochs: Count = 150
    lr: Positive = 1e-4
    weight_decay: NotNegative = 1e-4
    batch_size: Count = 128
    bottleneck: Count | None = None
    noise_level: Annotated[int, Range(0, diffusion.STEPS - 1)] | None = None

    @torch.no_grad()
    def score(self, x: Features) -> Tensor:
        check_layers(x, self._sizes)
        return torch.cat([self._score(block) for block in x.blocks(BLOCK)])

    def _score(self, x: Features) -> Tensor:
        z = normalise(x.need("layers"), self._sizes, self.std)
        noisy = z
        if self.noise_level is not None:
            noisy = diffusion.noised(z, normal(x.index, z.shape[1], seed=self._seed), self.noise_level)
        reconstructed: Tensor = self._lfdn(noisy)
        return mse(z, reconstructed) if self.measure == "mse" else mfsim(z, reconstructed, self._sizes)

    def fit(
        self,
        train: Features,
        *,
        seed: int = 0,
        device: str = "cpu",
        workdir: Path | None = None,
        precision: str = "32",
    ) -> Self:
        z = normalised(train, self.std, device)

        def batch(rows: Tensor, generator: torch.Generator) -> tuple[Tensor, ...]:
            clean = z[rows]
            if self.noise_level is None:
                return clean, clean
            noise = torch.randn(clean.shape, generator=generator, device=clean.device)
            return clean, diffusion.noised(clean, noise, self.noise_level)

        def loss(network: nn.Module, clean: Tensor, noisy: Tensor) -> Tensor:
            error: Tensor = network(noisy) - clean
            return error.square().sum(dim=1).mean()

        recipe = Recipe(self.epochs, self.batch_size, "adamw", self.lr, self.weight_decay)
        with seeded(derive(seed), device):
            self._lfdn = self._network(z.shape[1])
        self._seed, self._sizes = seed, train.layer_sizes
        self.losses = train_network(
            self._lfdn,
            batch,
            loss,
            len(z),
            recipe,
            seed=seed,
            device=device,
            name="autoencoder",
            workdir=workdir,
            precision=precision,
            capture=True,
        )
        return self

    def _network(self, channels: int) -> LFDN:
        network = LFDN(channels, width=self.width, hidden=self.hidden, blocks=self.blocks, time=0)
        if self.bottleneck is not None:
            network.blocks.insert(self.blocks // 2, Bottleneck(network.width, self.bottleneck))
        return network

    def state(self) -> dict[str, Tensor]:
        return {
            "seed": torch.tensor(self._seed),
            "layer_sizes": torch.tensor(self._sizes),
            "losses": torch.tensor(self.losses, dtype=torch.float64),
            **{f"lfdn.{name}": value.cpu() for name, value in self._lfdn.state_dict().items()},
        }

    def load_state(self, state: Mapping[str, Tensor], *, device: str = "cpu") -> Self:
        self._seed, self._sizes = int(state["seed"]), tuple(state["layer_sizes"].tolist())
        self.losses = state["losses"].tolist()
        with torch.device("meta"):  # no time spent on weights that are replaced at once
            self._lfdn = self._network(sum(self._sizes))
        weights = {k.removeprefix("lfdn."): v for k, v in state.items() if k.startswith("lfdn.")}
        self._lfdn.load_state_dict(weights, assign=True)
        self._lfdn.to(device).eval()
        return self


class Bottleneck(nn.Module):
    """Stands among LFDN's blocks, but without their way around: (N, width) to (N, channels) and back."""

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.narrow, self.widen = nn.Linear(width, channels), nn.Linear(channels, width)

    def forward(self, x: Tensor, embedding: Tensor | None) -> Tensor:
        """`embedding`: the time embedding that LFDN gives every block; not used."""
        return self.widen(self.narrow(x))  # type: ignore[no-any-return]
