"""What a step of the tuning reads: a batch for the student, and what its teacher made of the same images."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from methods.encoders.networks.cifar import Network

# a batch's rows -> what the student reads, and the features and logits of its teacher
Batch = Callable[[Tensor, torch.Generator], tuple[Tensor, Tensor, Tensor]]


def of_embeddings(embedding: Tensor, head: nn.Linear) -> Batch:
    """Embeddings, which are the teacher's too, and its logits: no image is looked at again."""
    with torch.no_grad():
        logits = head(embedding)
    return lambda rows, generator: (embedding[rows], embedding[rows], logits[rows])


def of_images(augmented: Callable[[Tensor, torch.Generator], Tensor], network: Network, *, distil: bool) -> Batch:
    """Augmented images as in the classifier's training, and what the network makes of them as it is now."""
    teacher = copy.deepcopy(network)
    teacher.requires_grad_(False)

    def batch(rows: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        x = augmented(rows, generator)
        if not distil:
            return x, x, x
        with torch.no_grad():
            before = teacher.embedding(teacher.stages(x)[-1]).float()
            return x, before, teacher.head(before).float()

    return batch
