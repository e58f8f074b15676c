"""What the linear head says of an embedding, in float64: a score that jumps there must not follow a rounding."""

import torch
from torch import Tensor

from methods.base import CannotRun, Features, Head
from methods.vectors.statistics import row_blocks


def logits(z: Tensor, head: Head) -> Tensor:
    """f = W z + b (N, K)."""
    return z.double() @ head.weight.double().T + head.bias.double()


def energy(f: Tensor) -> Tensor:
    """-logsumexp(f) (N,)."""
    return -torch.logsumexp(f.double(), dim=1)


def probabilities(f: Tensor) -> tuple[Tensor, Tensor]:
    """p = softmax(f) and 1 - p (N, K). Of the largest p this is the sum of the others, which resolves below 1e-16."""
    p = f.double().softmax(dim=1)
    largest = p.argmax(dim=1, keepdim=True)
    others = p.scatter(1, largest, 0.0).sum(dim=1, keepdim=True)
    return p, (1 - p).scatter(1, largest, others)


def predictions(z: Tensor, head: Head, device: str) -> Tensor:
    """argmax f (N,) on `device`, the first of equal ones; z may be memory-mapped."""
    head = head.to(device)
    width = max(head.weight.shape)
    return torch.cat([logits(block.to(device), head).argmax(dim=1) for block in row_blocks(z, width)])


def classes(train: Features, device: str) -> Tensor:
    """The class of each image (N,) on `device`: its label, or its prediction where an image has no label."""
    labels: Tensor | None = train.labels
    if labels is not None and bool((labels >= 0).all()):
        return labels.to(device)
    return predictions(train.need("embedding"), train.need_head(), device)


def rightly(predicted: Tensor, labels: Tensor, count: int) -> Tensor:
    """The rows that are predicted right; CannotRun, with the class, where one of `count` has none."""
    rows = (predicted.cpu() == labels.cpu()).nonzero()[:, 0]
    right = labels.cpu()[rows].bincount(minlength=count)
    if not bool(right.all()):
        raise CannotRun(f"needs a rightly predicted image of each class; class {int(right.argmin())} has none")
    return rows


def several(head: Head) -> None:
    """CannotRun where the head knows one class only."""
    if len(head.bias) < 2:
        raise CannotRun("needs at least two classes; the head has one")


def positive(energies: Tensor, remedy: str = "") -> None:
    """CannotRun where a training image's logsumexp (or what stands for it) is not above 0."""
    below = int((energies <= 0).sum())
    if below:
        raise CannotRun(f"needs energies above 0; {below} of {len(energies)} training images have less{remedy}")
