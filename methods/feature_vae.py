"""The VAE of the DLSR paper's tables 1 and 2: on the same features as DLSR's network."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor, nn

from methods.base import Count, Features, Method, NotNegative, Positive, register
from methods.training.loop import seeded
from methods.training.loop import train as train_network
from methods.training.recipe import Recipe
from methods.vectors.layers import BLOCK, Std, check_layers, normalise, normalised
from methods.vectors.noise import derive
from methods.vectors.reconstruction import mfsim, mse


@register("feature_vae")
@dataclass
class FeatureVAE(Method):
    """Error of z~ = decoder(mean of q(h | z0)); z0: the layers' channels, normalised within each layer.

    Trained as DLSR is, but by the negative evidence lower bound with a decoder of unit variance,
    |z0 - decoder(h)|^2 / 2 + KL(q(h | z0) || N(0, 1)). Scores: "mfsim", -mean over layers of cos(z0^m, z~^m),
    the paper's; "mse", mean (z0 - z~)^2. The paper says 5 linear layers of encoder and 8 of decoder, and no
    more; the widths are ours (`VAE`).
    """

    title: ClassVar[str] = "VAE (features)"
    paper: ClassVar[str] = (
        "Yang et al., Diffusion-based Layer-wise Semantic Reconstruction for Unsupervised "
        "Out-of-Distribution Detection, NeurIPS 2024, appendix B.2, https://arxiv.org/abs/2411.10701"
    )
    reads: ClassVar[tuple[str, ...]] = ("layers",)
    score_only: ClassVar[tuple[str, ...]] = ("measure",)
    random_fit: ClassVar[bool] = True
    trains: ClassVar[bool] = True

    measure: Literal["mfsim", "mse"] = "mfsim"
    std: Std = "biased"
    epochs: Count = 150
    lr: Positive = 1e-4
    weight_decay: NotNegative = 1e-4
    batch_size: Count = 128

    @torch.no_grad()
    def score(self, x: Features) -> Tensor:
        check_layers(x, self._sizes)
        scores = []
        for block in x.blocks(BLOCK):
            z = normalise(block.need("layers"), self._sizes, self.std)
            reconstructed: Tensor = self._vae.decoder(self._vae.posterior(z)[0])
            scores.append(mse(z, reconstructed) if self.measure == "mse" else mfsim(z, reconstructed, self._sizes))
        return torch.cat(scores)

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

        with seeded(derive(seed), device):
            self._vae = vae = VAE(z.shape[1])

        def batch(rows: Tensor, generator: torch.Generator) -> tuple[Tensor, ...]:
            return z[rows], torch.randn((len(rows), vae.latent), generator=generator, device=z.device)

        def loss(network: nn.Module, clean: Tensor, noise: Tensor) -> Tensor:
            return vae.negative_elbo(clean, noise).mean()

        self._sizes = train.layer_sizes
        recipe = Recipe(self.epochs, self.batch_size, "adamw", self.lr, self.weight_decay)
        self.losses = train_network(
            vae,
            batch,
            loss,
            len(z),
            recipe,
            seed=seed,
            device=device,
            name="feature_vae",
            workdir=workdir,
            precision=precision,
            capture=True,
        )
        return self

    def state(self) -> dict[str, Tensor]:
        network = {f"vae.{name}": value.cpu() for name, value in self._vae.state_dict().items()}
        losses = torch.tensor(self.losses, dtype=torch.float64)
        return {"layer_sizes": torch.tensor(self._sizes), "losses": losses, **network}

    def load_state(self, state: Mapping[str, Tensor], *, device: str = "cpu") -> Self:
        self._sizes, self.losses = tuple(state["layer_sizes"].tolist()), state["losses"].tolist()
        self._vae = VAE(sum(self._sizes))
        self._vae.load_state_dict({k.removeprefix("vae."): v for k, v in state.items() if k.startswith("vae.")})
        self._vae.to(device).eval()
        return self


class VAE(nn.Module):
    """Linear layers with SiLU between them: 5 that narrow to mean and log variance, 8 that widen again.

    The first width is the largest power of 2 below the channels, each further one half of it, at least 2: 720
    channels give 720-512-256-128-64-(2 x 32). The decoder goes back through these widths and has its three
    narrowest twice, which makes 8 layers: 32-64-64-128-128-256-256-512-720.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        first = 1 << max(1, (channels - 1).bit_length() - 1)
        *down, self.latent = (max(2, first >> i) for i in range(5))
        up = [width for narrow in down[:0:-1] for width in (narrow, narrow)]
        self.encoder = _layers(channels, *down, 2 * self.latent)
        self.decoder = _layers(self.latent, *up, first, channels)

    def posterior(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance of q(h | z), each (N, latent)."""
        mean, log_variance = self.encoder(z).float().chunk(2, dim=1)
        return mean, log_variance

    def negative_elbo(self, z: Tensor, noise: Tensor) -> Tensor:
        """(N,) nats, less the constant of the decoder's Gaussian; one h an image, sampled by `noise` (N, latent)."""
        mean, log_variance = self.posterior(z)
        error = self.decoder(mean + (log_variance / 2).exp() * noise) - z
        divergence = (mean.square() + log_variance.exp() - log_variance - 1).sum(dim=1) / 2
        return error.square().sum(dim=1) / 2 + divergence  # type: ignore[no-any-return]


def _layers(*widths: int) -> nn.Sequential:
    """Initial weights keep the variance from layer to layer: under torch's own 13 layers pass nothing on."""
    linear = [nn.Linear(before, after) for before, after in pairwise(widths)]
    for layer in linear:
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        nn.init.zeros_(layer.bias)
    return nn.Sequential(*(part for layer in linear[:-1] for part in (layer, nn.SiLU())), linear[-1])
