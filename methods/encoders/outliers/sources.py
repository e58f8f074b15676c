"""The outliers of each arm of OAL-feat, made from the standardised embeddings of ID images."""

from dataclasses import dataclass, field
from typing import Any, Literal, Self

import torch
from torch import Tensor

from methods.encoders.networks.stages import Stages
from methods.encoders.outliers import feature_diffusion
from methods.encoders.outliers.border import Shell, boundary_outliers, first_of_each, gather, gaussian_like
from methods.encoders.outliers.feature_diffusion import ConditionalLFDN, Guidance
from methods.training.loop import seeded
from methods.vectors.noise import derive

Arm = Literal["none", "knn", "diffusion", "gaussian", "latents"]
DRAWN = 1024  # samples of the diffusion at a time
LEAST_SPREAD = 0.01  # of the mean one: a dimension that is dead in training would blow up distances


@dataclass(frozen=True, eq=False)
class Space:
    """Embeddings standardised by dimension, and back. mean, scale: (D,)."""

    mean: Tensor
    scale: Tensor

    @classmethod
    def of(cls, embedding: Tensor) -> Self:
        std, mean = torch.std_mean(embedding, 0, correction=0)
        return cls(mean, std.clamp_min(LEAST_SPREAD * std.mean()))

    def __call__(self, embedding: Tensor) -> Tensor:
        return (embedding - self.mean) / self.scale

    def back(self, z: Tensor) -> Tensor:
        return z * self.scale + self.mean


@dataclass
class Sources:
    """Where outliers come from: features z (N, D) with labels, `held` (M, D) for the percentiles of distances.

    losses: those of the diffusion, by epoch, once it has been trained.
    """

    z: Tensor
    labels: Tensor
    held: Tensor
    k: int
    sigma: float
    seed: int
    stages: Stages
    losses: list[float] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        rows = first_of_each(self.labels)
        sizes = self.labels[rows].bincount()
        smallest = int(sizes[sizes > 0].min())
        if smallest < 2:
            raise ValueError("oal: outliers need at least 2 training images of each class")
        self.shell = Shell.around(self.z[rows], self.held, min(self.k, smallest - 1))
        self._generator = torch.Generator(self.z.device).manual_seed(derive(self.seed, 1))

    def draw(self, arm: Arm, count: int, *, guidance: Guidance, epochs: int, lr: float, **sizes: Any) -> Tensor:
        """(count, D); what comes after `count` goes to the diffusion, where `arm` needs one."""
        if arm in ("knn", "latents"):
            return gather(lambda: self._boundary()[0], self.shell.outside, count, "k-NN")
        network = self._diffusion(epochs, lr, sizes)
        seeds, classes = self._boundary()

        def sample() -> Tensor:
            rows = torch.randint(len(seeds), (DRAWN,), generator=self._generator, device=seeds.device)
            return feature_diffusion.synthesise(
                network, seeds[rows], classes[rows], guidance=guidance, generator=self._generator
            )

        found = gather(sample, self.shell.holds, count, "diffusion")
        return gaussian_like(found, self._generator) if arm == "gaussian" else found

    def _boundary(self) -> tuple[Tensor, Tensor]:
        """One round of k-NN outliers and their classes, in random order: they come class by class."""
        found, classes = boundary_outliers(self.z, self.labels, k=self.k, sigma=self.sigma, generator=self._generator)
        order = torch.randperm(len(found), generator=self._generator, device=found.device)
        return found[order], classes[order]

    def _diffusion(self, epochs: int, lr: float, sizes: dict[str, Any]) -> ConditionalLFDN:
        """The diffusion, trained here or before an interruption."""
        device = str(self.z.device)
        with seeded(derive(self.seed, 2), device):
            network = ConditionalLFDN(self.z.shape[1], int(self.labels.max()) + 1, **sizes)
        kept = self.stages.load("diffusion")
        if kept is not None:
            self.losses = kept.pop("losses").tolist()
            network.load_state_dict(kept)
            return network.to(device).eval()
        self.losses = feature_diffusion.fit(
            network,
            self.z,
            self.labels,
            epochs=epochs,
            lr=lr,
            seed=self.seed,
            device=device,
            workdir=self.stages.folder("diffusion"),
        )
        self.stages.save("diffusion", {**network.state_dict(), "losses": torch.tensor(self.losses)})
        return network
