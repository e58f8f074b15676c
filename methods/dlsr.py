"""DLSR: how badly a diffusion model of the ID images' layer features reconstructs an image's features."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, cast

import torch
from torch import Tensor, nn

from methods.base import Count, Features, Method, NotNegative, Positive, Range, Share, register
from methods.device import tensors
from methods.networks.lfdn import LFDN, restore
from methods.training import checkpoint
from methods.training.loop import Batch, Loss, seeded
from methods.training.loop import train as train_network
from methods.training.recipe import Recipe
from methods.vectors import diffusion
from methods.vectors.layers import BLOCK, Std, check_layers, normalise, normalised
from methods.vectors.noise import derive, normal
from methods.vectors.reconstruction import mfsim, mse

_FIRST = "the network of the first epoch"
_SCORE_ONLY = ("measure", "network", "k", "sampler", "eta", "mfsim_layers", "lr_sign", "n_draws")


@register("dlsr")
@dataclass
class DLSR(Method):
    """Error of z~, the reconstruction of z0: the layers' channels, normalised within each layer.

    z0 is noised to level `k` and denoised by LFDN, trained on the ID images' z0. Scores:

    - mse: mean (z0 - z~)^2
    - mfsim: -mean over layers of cos(z0^m, z~^m); "without_first" leaves out the first one, as the code does
    - lr: mse with the final network - mse with the network of the first epoch, each with its own noise. The
      paper argues that ID has the larger regret (initial - final); "released", the code's sign, is opposite

    mse and mfsim are the final `network`'s or that of the "first_epoch". `layers` "last": of the last one alone.

    The network predicts z0 from sqrt(a[t]) z0 + sqrt(1 - a[t]) noise, t uniform in 0 .. 99, under the
    squared L2 norm (the code takes the mean over features, a factor that AdamW does not see). `k`: an index
    1 .. 99. `sampler`: "ddim" (correct, with `eta`), "released" (the code's, off by one: diffusion.py) or
    "single" (one prediction). `n_draws`: scores are averaged over as many draws of the noise. `ema`: cap of
    the decay of averaged weights, None for none. `width` None: twice the channels; `hidden` None: `width`.
    The preset "released" is the released code; its pooling is a setting of the encoder, grid14.
    """

    title: ClassVar[str] = "DLSR"
    paper: ClassVar[str] = (
        "Yang et al., Diffusion-based Layer-wise Semantic Reconstruction for Unsupervised "
        "Out-of-Distribution Detection, NeurIPS 2024, https://arxiv.org/abs/2411.10701"
    )
    reads: ClassVar[tuple[str, ...]] = ("layers",)
    score_only: ClassVar[tuple[str, ...]] = _SCORE_ONLY
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "released": {
            "sampler": "released",
            "k": 3,
            "mfsim_layers": "without_first",
            "lr_sign": "released",
            "std": "unbiased",
            "lr": 1e-5,
            "weight_decay": 0.02,
            "batch_size": 256,
            "drop_last": True,
            "ema": 0.9999,
        }
    }
    random_fit: ClassVar[bool] = True
    trains: ClassVar[bool] = True

    measure: Literal["mfsim", "mse", "lr"] = "mfsim"
    network: Literal["final", "first_epoch"] = "final"
    layers: Literal["all", "last"] = "all"
    k: Annotated[int, Range(1, diffusion.STEPS - 1)] = 3
    sampler: Literal["ddim", "released", "single"] = "ddim"
    eta: Share = 0.0
    mfsim_layers: Literal["all", "without_first"] = "all"
    lr_sign: Literal["paper", "released"] = "paper"
    n_draws: Count = 1
    std: Std = "biased"
    width: Count | None = None
    hidden: Count | None = None
    blocks: Count = 16
    epochs: Count = 150
    lr: Positive = 1e-4
    weight_decay: NotNegative = 1e-4
    batch_size: Count = 128
    drop_last: bool = False
    ema: Share | None = None

    @torch.no_grad()
    def score(self, x: Features) -> Tensor:
        x = self._read(x)
        check_layers(x, self._sizes)
        return torch.cat([self._score(block) for block in x.blocks(BLOCK)])

    def _read(self, x: Features) -> Features:
        """The layers that z0 is made of."""
        if self.layers == "all":
            return x
        last = x.layer_sizes[-1:]
        return replace(x, layers=x.need("layers")[:, -last[0] :], layer_sizes=last)

    def _score(self, x: Features) -> Tensor:
        z = normalise(x.need("layers"), self._sizes, self.std)
        scores = torch.zeros(z.shape[0], device=z.device)
        for draw in range(self.n_draws):
            if self.measure == "lr":
                regret = mse(z, self._reconstruct("first_epoch", z, x.index, draw))
                regret -= mse(z, self._reconstruct("final", z, x.index, draw))
                scores += regret if self.lr_sign == "released" else -regret
                continue
            reconstructed = self._reconstruct(self.network, z, x.index, draw)
            if self.measure == "mse":
                scores += mse(z, reconstructed)
            else:
                scores += mfsim(z, reconstructed, self._sizes, first=int(self.mfsim_layers == "without_first"))
        return scores / self.n_draws

    def _reconstruct(self, which: Literal["final", "first_epoch"], z: Tensor, index: Tensor, draw: int) -> Tensor:
        """z~ (N, C). `draw`: the number of the noise; each network has its own."""
        lfdn, number = (self._final, 2 * draw) if which == "final" else (self._first, 2 * draw + 1)

        def noise(step: int) -> Tensor:
            return normal(index, z.shape[1], seed=self._seed, stream=number * (diffusion.STEPS + 1) + step)

        def network(x: Tensor, level: int) -> Tensor:
            return lfdn(x, torch.full((1,), level, device=x.device))  # type: ignore[no-any-return]

        x = diffusion.noised(z, noise(diffusion.STEPS), self.k)
        if self.sampler == "ddim":
            return diffusion.ddim(network, x, self.k, noise, eta=self.eta)
        if self.sampler == "released":
            return diffusion.released(network, x, self.k, noise)
        return diffusion.single(network, x, self.k)

    def fit(
        self,
        train: Features,
        *,
        seed: int = 0,
        device: str = "cpu",
        workdir: Path | None = None,
        precision: str = "32",
    ) -> Self:
        train = self._read(train)
        z = normalised(train, self.std, device)
        batch, loss = objective(z)
        first: list[LFDN] = []
        kept = None if workdir is None else workdir / "first_epoch.pt"

        def keep(epoch: int, network: nn.Module) -> None:
            if epoch == 0:
                first.append(cast(LFDN, copy.deepcopy(network)))
                if kept is not None:  # a resumed training does not come by here again
                    checkpoint.save(kept, {"identity": _FIRST, "network": network.state_dict()})

        def run(recipe: Recipe, workdir: Path | None) -> tuple[LFDN, list[float]]:
            with seeded(derive(seed), device):
                network = LFDN(z.shape[1], **self._network())
            losses = train_network(
                network,
                batch,
                loss,
                len(z),
                recipe,
                seed=seed,
                device=device,
                name="dlsr",
                workdir=workdir,
                on_epoch=keep,
                precision=precision,
                capture=True,
            )
            return network, losses

        recipe = Recipe(
            epochs=self.epochs,
            batch_size=self.batch_size,
            optimizer="adamw",
            lr=self.lr,
            weight_decay=self.weight_decay,
            drop_last=self.drop_last,
            ema=self.ema,
        )
        self._seed, self._sizes = seed, train.layer_sizes
        self._final, self.losses = run(recipe, workdir)
        if not first and kept is not None:
            found = checkpoint.load(kept, _FIRST, tensors.room(self._final))
            if found is None:  # it is quickly had again
                run(replace(recipe, epochs=1), None)
            else:
                first.append(restore(found["network"], z.shape[1], device, **self._network()))
        self._first = first[0]
        if kept is not None:
            checkpoint.remove(kept)
        return self

    def _network(self) -> dict[str, Any]:
        return {"width": self.width, "hidden": self.hidden, "blocks": self.blocks}

    def state(self) -> dict[str, Tensor]:
        state = {"seed": torch.tensor(self._seed), "layer_sizes": torch.tensor(self._sizes)}
        state["losses"] = torch.tensor(self.losses, dtype=torch.float64)
        for prefix, network in (("final", self._final), ("first", self._first)):
            state |= {f"{prefix}.{name}": value.cpu() for name, value in network.state_dict().items()}
        return state

    def load_state(self, state: Mapping[str, Tensor], *, device: str = "cpu") -> Self:
        self._seed, self._sizes = int(state["seed"]), tuple(state["layer_sizes"].tolist())
        self.losses = state["losses"].tolist()
        self._final, self._first = (
            restore(state, sum(self._sizes), device, prefix=f"{prefix}.", **self._network())
            for prefix in ("final", "first")
        )
        return self


def objective(z: Tensor) -> tuple[Batch, Loss]:
    """What a step of the training reads, rows of z0 (N, C) with their levels and noise; and its loss (`DLSR`)."""
    alphas = diffusion.alphas_cumprod().float().to(z.device)
    signal, spread = alphas.sqrt()[:, None], (1 - alphas).sqrt()[:, None]

    def batch(rows: Tensor, generator: torch.Generator) -> tuple[Tensor, ...]:
        clean = z[rows]
        level = torch.randint(diffusion.STEPS, rows.shape, generator=generator, device=clean.device)
        return clean, level, torch.randn(clean.shape, generator=generator, device=clean.device)

    def loss(network: nn.Module, clean: Tensor, level: Tensor, noise: Tensor) -> Tensor:
        error: Tensor = network(signal[level] * clean + spread[level] * noise, level) - clean
        return error.square().sum(dim=1).mean()

    return batch, loss
