"""What a step of the tuning reads: a batch for the student, and what its teacher makes of the same images."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from methods.encoders.networks.cifar import Network

Student = Callable[[Tensor, torch.Generator], Tensor]  # a batch's rows -> what the student reads
Teacher = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]  # the rows, and that -> features and logits


def of_embeddings(embedding: Tensor, head: nn.Linear) -> tuple[Student, Teacher]:
    """Embeddings, which are the teacher's too, and its logits: no image is looked at again."""
    with torch.no_grad():
        logits = head(embedding)
    return lambda rows, generator: embedding[rows], lambda rows, x: (x, logits[rows])


def of_images(augmented: Student, network: Network) -> tuple[Student, Teacher]:
    """Augmented images as in the classifier's training, and what the network makes of them as it is now."""
    teacher = copy.deepcopy(network)
    teacher.requires_grad_(False)

    @torch.no_grad()
    def taught(rows: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        before = teacher.embedding(teacher.stages(x)[-1]).float()
        return before, teacher.head(before).float()

    return augmented, taught
