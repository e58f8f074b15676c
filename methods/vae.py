"""Likelihoods and likelihood regret of a variational autoencoder on pixels."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from methods.base import CannotRun, Count, Features, Method, NotNegative, Positive, register
from methods.networks.vae import LEVELS, VAE, divergence, scaled
from methods.training.loop import seeded
from methods.training.loop import train as train_network
from methods.training.recipe import Recipe
from methods.vectors.noise import derive, normal

Posterior = tuple[Tensor, Tensor]  # mu and logvar, each (N, nz)

_REGRET_LR = {"encoder": 2e-4, "posterior": 0.1}
_REGRET_WEIGHT_DECAY = 5e-5  # of the encoder's copies
_LOGITS = {"cpu": 2**25, "cuda": 2**30}  # bytes of logits in one pass of the decoder
_COPIES = 4  # bytes of encoder copies, their gradients and Adam's moments, in those units
_PICTURES = 16


@register("vae")
@dataclass
class LikelihoodRegret(Method):
    """A VAE whose decoder gives each sub-pixel 256 probabilities, trained by -ELBO = KL(q(z|x) || p(z)) - E log p(x|z).

    With K = `samples` draws z_k from q(z|x), the published 5 x 200, and w_k = p(x|z_k) p(z_k) / q(z_k|x):
    "elbo": KL - mean_k log p(x|z_k), in bits per dimension; "iwae": -log mean_k w_k, in bits per dimension;
    "regret": log mean_k w_k, in nats, after `steps` of Adam on the -ELBO of this image alone, minus before, both
    with the same draws. `regret_of`: the weights of a copy of the encoder for each image, batch norm frozen
    ("encoder", the paper's), or its mu and logvar themselves ("posterior"). `regret_lr` None: 2e-4, the
    paper's, and 0.1. `complexity`: takes the compressed size (bits per dimension) from an elbo or iwae.

    `nz`: dimensions of z. `width`: channels of the first layer. Defaults: the paper's for CIFAR-10. Images are
    squares of 8, 12, 16, 24, 32, ... pixels. Speed on a CPU: a decoder pass costs 256 logits a sub-pixel, and a regret
    2 `samples` + 3 `steps` passes or so.
    """

    title: ClassVar[str] = "VAE (likelihood regret)"
    paper: ClassVar[str] = (
        "Xiao et al., Likelihood Regret: An Out-of-Distribution Detection Score For Variational Auto-encoder, "
        "NeurIPS 2020, https://arxiv.org/abs/2003.02977"
    )
    reads: ClassVar[tuple[str, ...]] = ("pixels",)
    score_only: ClassVar[tuple[str, ...]] = ("measure", "complexity", "samples", "steps", "regret_of", "regret_lr")
    random_fit: ClassVar[bool] = True
    trains: ClassVar[bool] = True

    measure: Literal["elbo", "iwae", "regret"] = "regret"
    complexity: Literal["none", "png", "webp"] = "none"
    samples: Count = 1000
    steps: Count = 100
    regret_of: Literal["encoder", "posterior"] = "encoder"
    regret_lr: Positive | None = None
    nz: Count = 200
    width: Count = 64
    epochs: Count = 200
    batch_size: Count = 128
    lr: Positive = 3e-4
    weight_decay: NotNegative = 3e-5

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.measure == "regret" and self.complexity != "none":
            raise ValueError("vae: complexity corrects bits per dimension: set measure to elbo or iwae, or drop it")

    @property
    def bits_per_dimension(self) -> bool:
        return self.measure != "regret" and self.complexity == "none"

    def fit(
        self,
        train: Features,
        *,
        seed: int = 0,
        device: str = "cpu",
        workdir: Path | None = None,
        precision: str = "32",
    ) -> Self:
        pixels = train.need("pixels").to(device)
        self._seed, self._size = seed, pixels.shape[2]
        self._check(pixels)
        with seeded(derive(seed)):
            self._vae = VAE(self._size, self.width, self.nz)

        def batch(rows: Tensor, generator: torch.Generator) -> tuple[Tensor, ...]:
            return pixels[rows], torch.randn((len(rows), self.nz), generator=generator, device=pixels.device)

        def loss(network: nn.Module, images: Tensor, noise: Tensor) -> Tensor:
            vae = cast(VAE, network)
            return _negative_elbo(vae, images, vae.posterior(images), noise).mean()

        recipe = Recipe(self.epochs, self.batch_size, "adam", self.lr, self.weight_decay)
        self.losses = train_network(
            self._vae,
            batch,
            loss,
            len(pixels),
            recipe,
            seed=seed,
            device=device,
            name="vae",
            workdir=workdir,
            precision=precision,
            capture=True,
        )
        self._vae.requires_grad_(False)
        return self

    @torch.no_grad()
    def score(self, x: Features) -> Tensor:
        pixels = x.need("pixels")
        self._check(pixels)
        rows = self._rows(4 * LEVELS * pixels[:1].numel(), pixels.device)
        scores = torch.cat([self._score(block.pixels, block.index) for block in x.blocks(rows)])
        if self.complexity != "none":
            from methods.pixels.complexity import compressed_bits

            scores = scores - compressed_bits(pixels, self.complexity)
        return scores

    def _score(self, pixels: Tensor, index: Tensor) -> Tensor:
        posterior = self._vae.posterior(pixels)
        if self.measure == "regret":
            before = self._bound(pixels, index, posterior)
            return self._bound(pixels, index, self._optimised(pixels, index, posterior)) - before
        if self.measure == "iwae":
            nats = -self._bound(pixels, index, posterior)
        else:
            likelihoods = torch.stack([likelihood for likelihood, _ in self._draws(pixels, index, posterior)])
            nats = divergence(*posterior) - likelihoods.mean(dim=0)
        return nats / (math.log(2) * pixels[:1].numel())

    def _bound(self, pixels: Tensor, index: Tensor, posterior: Posterior) -> Tensor:
        """log mean_k w_k, in nats (N,)."""
        weights = [likelihood + ratio for likelihood, ratio in self._draws(pixels, index, posterior)]
        return torch.stack(weights).logsumexp(dim=0) - math.log(self.samples)

    def _draws(self, pixels: Tensor, index: Tensor, posterior: Posterior) -> Iterator[tuple[Tensor, Tensor]]:
        """log p(x|z_k) and log p(z_k) - log q(z_k|x), each (N,), for every k."""
        for draw in range(self.samples):
            noise = normal(index, self.nz, seed=self._seed, stream=2 * draw)
            z = _sample(posterior, noise)
            ratio = 0.5 * (noise.square() - z.square() + posterior[1]).sum(dim=1, dtype=torch.float64)
            yield self._vae.log_likelihood(z, pixels), ratio

    def _optimised(self, pixels: Tensor, index: Tensor, posterior: Posterior) -> Posterior:
        """Each image's posterior after `steps` on its own -ELBO, one draw of z a step."""
        numbers = self.nz if self.regret_of == "posterior" else sum(p.numel() for p in self._vae.encoder.parameters())
        rows = self._rows(4 * 4 * numbers // _COPIES, pixels.device)  # float32: value, gradient and two moments
        parts = zip(*(torch.split(part, rows) for part in (pixels, index, *posterior)), strict=True)
        done = [self._optimise(images, own, (mu, logvar)) for images, own, mu, logvar in parts]
        return torch.cat([mu for mu, _ in done]), torch.cat([logvar for _, logvar in done])

    @torch.enable_grad()
    def _optimise(self, pixels: Tensor, index: Tensor, posterior: Posterior) -> Posterior:
        free, current = self._own_encoders(pixels) if self.regret_of == "encoder" else _own_posteriors(posterior)
        lr = self.regret_lr or _REGRET_LR[self.regret_of]
        decay = _REGRET_WEIGHT_DECAY if self.regret_of == "encoder" else 0.0
        optimizer = torch.optim.Adam(free, lr, weight_decay=decay)
        for step in range(self.steps):
            noise = normal(index, self.nz, seed=self._seed, stream=2 * step + 1)
            # Adam is elementwise and an image's own numbers see its loss alone: the sum trains each for itself.
            loss = _negative_elbo(self._vae, pixels, current(), noise).sum()
            gradients = torch.autograd.grad(loss, free)
            for values, gradient in zip(free, gradients, strict=True):
                values.grad = gradient
            optimizer.step()
        mu, logvar = current()
        return mu.detach(), logvar.detach()

    def _own_encoders(self, pixels: Tensor) -> tuple[list[Tensor], Callable[[], Posterior]]:
        """The weights of a copy of the encoder for each image, and what they make of its image."""
        encoder, x = self._vae.encoder, scaled(pixels)
        weights, statistics = stack_module_state([encoder] * len(x))

        def one(weights: dict[str, Any], statistics: dict[str, Any], image: Tensor) -> Posterior:
            mu, logvar = functional_call(encoder, (weights, statistics), (image[None],))
            return mu[0], logvar[0]

        free = [values.requires_grad_() for values in weights.values()]
        return free, lambda: vmap(one)(weights, statistics, x)

    def _rows(self, bytes_an_image: int, device: torch.device) -> int:
        return max(1, _LOGITS["cpu" if device.type == "cpu" else "cuda"] // bytes_an_image)

    def _check(self, pixels: Tensor) -> None:
        height, width = pixels.shape[1:3]
        if height != width:
            raise CannotRun(f"vae: images of {height} x {width} are no squares")
        if width != self._size:
            raise ValueError(f"vae: images of {height} x {width}, not {self._size} x {self._size}")

    @torch.no_grad()
    def pictures(self, x: Features) -> dict[str, Tensor]:
        """Images (16, H, W, 3), uint8, of each pixel's mean.

        "samples": z from the prior. "reconstructions": eight of `x`, each before its own at z = mu.
        """
        device = next(self._vae.parameters()).device
        pixels = x.need("pixels")[: _PICTURES // 2].to(device)
        prior = normal(torch.arange(_PICTURES, device=device), self.nz, seed=derive(self._seed, 1))
        mu, _ = self._vae.posterior(pixels)
        pairs = torch.stack((pixels, self._decoded(mu)), dim=1)
        return {"samples": self._decoded(prior).cpu(), "reconstructions": pairs.flatten(0, 1).cpu()}

    def _decoded(self, z: Tensor) -> Tensor:
        logits: Tensor = self._vae.decoder(z)
        mean = logits.softmax(dim=-1) @ torch.arange(LEVELS, dtype=logits.dtype, device=z.device)
        return mean.round().to(torch.uint8)

    def state(self) -> dict[str, Tensor]:
        weights = self._vae.state_dict()
        state = {"seed": torch.tensor(self._seed), "size": torch.tensor(self._size)}
        state["losses"] = torch.tensor(self.losses, dtype=torch.float64)
        # contiguous: safetensors does not take channels_last
        return state | {f"vae.{name}": weights[name].cpu().contiguous() for name in weights}

    def load_state(self, state: Mapping[str, Tensor], *, device: str = "cpu") -> Self:
        self._seed, self._size = int(state["seed"]), int(state["size"])
        self.losses = state["losses"].tolist()
        with torch.device("meta"):  # no random numbers drawn for weights that are replaced at once
            self._vae = VAE(self._size, self.width, self.nz).requires_grad_(False).eval()
        weights = {name.removeprefix("vae."): values for name, values in state.items() if name.startswith("vae.")}
        self._vae.load_state_dict(weights, assign=True)
        self._vae.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return self


def _own_posteriors(posterior: Posterior) -> tuple[list[Tensor], Callable[[], Posterior]]:
    """mu and logvar, free to move."""
    mu, logvar = (part.clone().requires_grad_() for part in posterior)
    return [mu, logvar], lambda: (mu, logvar)


def _sample(posterior: Posterior, noise: Tensor) -> Tensor:
    """z ~ q(z|x), (N, nz), from standard normal noise."""
    mu, logvar = posterior
    return mu + (0.5 * logvar).exp() * noise


def _negative_elbo(vae: VAE, pixels: Tensor, posterior: Posterior, noise: Tensor) -> Tensor:
    """KL(q(z|x) || p(z)) - log p(x|z) in nats, (N,), with the one z that `noise` gives."""
    return divergence(*posterior) - vae.log_likelihood(_sample(posterior, noise), pixels)
