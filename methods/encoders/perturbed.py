"""A network on images that are moved by the gradient of its own output: the pass of ODIN, i-ODIN and AdaSCALE."""

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor
from torch.nn import functional

from methods.base import NotNegative, Positive, Range
from methods.encoders.base import Images, register
from methods.encoders.networks.rerun import Rerun


@register("perturbed")
@dataclass
class Perturbed(Rerun):
    """Features of x' = x moved along the sign of a gradient by x, x a normalised image. One gradient pass, one more.

    rule: "odin": x' = x - epsilon sign(g) / std_c, g the gradient of the cross-entropy of f / temperature and the
    predicted class, sign(0) = +1; "i-odin": the one entry with the largest |g| moves alone (of equal ones the first).
    `embedding`, `logits` and `layers` are those of x', so that ODIN is the row `msp` with its temperature on them.
    "adascale": x' = x + epsilon sign(g), g the gradient of the predicted logit, on the `share` of entries with the
    smallest |g| alone, not divided by std; the features are those of x, and `perturbed` (N, D) is the embedding of x'.

    std: the steps of "odin" are divided by the std of each channel, as in the authors' code; None = by the network's
    own, () = by none. epsilon: None = .0014 (ODIN and i-ODIN; .002 for CIFAR-100, .005 for ImageNet), .5 (AdaSCALE).
    """

    title = "perturbed"
    paper = (
        "Liang et al., Enhancing The Reliability of Out-of-distribution Image Detection in Neural Networks, ICLR 2018, "
        "https://arxiv.org/abs/1706.02690; Regmi, AdaSCALE, 2025, https://arxiv.org/abs/2503.08023"
    )

    rule: Literal["odin", "i-odin", "adascale"] = "odin"
    epsilon: NotNegative | None = None
    temperature: Positive = 1000.0
    share: Annotated[float, Range(0, 1, "(]")] = 0.05
    std: tuple[Positive, ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.std is not None and len(self.std) not in (0, 3):
            raise ValueError(f"perturbed: std is three numbers, red, green, blue, or none, not {len(self.std)}")

    @property
    def offers(self) -> tuple[str, ...]:
        return (*super().offers, *(("perturbed",) if self.rule == "adascale" else ()))

    def encode(self, images: Images) -> dict[str, Tensor]:
        below = self.below
        pixels = self.resized(images)
        with below.placed.differentiating():
            # `resized` and the weights may be of an inference: a copy of the first can be asked for a gradient
            x = below.normalised(pixels).clone().detach().float().requires_grad_()
            before = below.features(below.placed.fed(x))
            (gradient,) = torch.autograd.grad(self._loss(before["logits"]), x)
            moved = self._moved(x.detach(), gradient)
        before = {name: values.detach() for name, values in before.items()}
        with below.placed.running():
            after = below.features(below.placed.fed(moved))
        return {**before, "perturbed": after["embedding"]} if self.rule == "adascale" else after

    def _loss(self, logits: Tensor) -> Tensor:
        """What the gradient is of, summed: each image's is its own."""
        largest = logits.argmax(dim=1)
        if self.rule == "adascale":
            return logits.gather(1, largest[:, None]).sum()
        return functional.cross_entropy(logits / self.temperature, largest, reduction="sum")

    def _moved(self, x: Tensor, gradient: Tensor) -> Tensor:
        sign = torch.where(gradient < 0, -1.0, 1.0)
        size = gradient.abs().flatten(1)
        if self.rule == "adascale":
            sign = sign * (gradient != 0)
            count = max(1, int(self.share * size.shape[1]))
            # of equal entries the first: where a ReLU cuts an area off, its gradients are all 0
            chosen = torch.zeros_like(size).scatter_(1, size.argsort(dim=1, stable=True)[:, :count], 1)
            return x + (0.5 if self.epsilon is None else self.epsilon) * sign * chosen.view_as(x)
        std = self.below.normalisation[1] if self.std is None else self.std or (1.0,) * x.shape[1]
        step = sign / torch.tensor(std, dtype=x.dtype, device=x.device).view(1, -1, 1, 1)
        if self.rule == "i-odin":
            step = step * torch.zeros_like(size).scatter_(1, size.argmax(dim=1, keepdim=True), 1).view_as(x)
        return x - (0.0014 if self.epsilon is None else self.epsilon) * step
