"""A network whose late maps lose their first singular component: the pass of RankFeat."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from methods.base import Count
from methods.encoders.base import Images, register
from methods.encoders.networks.rerun import Rerun


@register("rank_removed")
@dataclass
class RankRemoved(Rerun):
    """`embedding` and `logits`: the mean of two passes, each with the first singular component of one map removed.

    A map is a matrix C x HW (of tokens D x L) for each image. One pass removes it from the last of the network's
    feature maps, the other from the one before, which then goes on through the network. The head is linear, so that the
    mean of the two logit vectors is the head on the mean of the two embeddings: any method can stand on it, and
    RankFeat is the row `ebo`. iterations: None = exact, else so many of the power method.
    """

    title = "rank removed"
    paper = "Song et al., RankFeat: Rank-1 Feature Removal for Out-of-distribution Detection, NeurIPS 2022, https://arxiv.org/abs/2209.08590"

    iterations: Count | None = None

    @property
    def offers(self) -> tuple[str, ...]:
        return ("embedding", "logits")

    def encode(self, images: Images) -> dict[str, Tensor]:
        below = self.below
        pixels = self.resized(images)
        with below.placed.running():
            x = below.normalised(pixels)
            embedding = torch.stack([self._pass(x, name) for name in below.maps[-2:]]).mean(dim=0)
            return {"embedding": embedding, "logits": self.logits(embedding)}

    def _pass(self, x: Tensor, name: str) -> Tensor:
        """The embedding (N, D) of a pass in which the output of the module `name` has lost that component."""

        def remove(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
            return removed(output, self.iterations, last=output.ndim == 3 or channels_last)

        channels_last = getattr(self.network, "output_fmt", "NCHW") == "NHWC"
        hook = self.network.get_submodule(name).register_forward_hook(remove)
        try:
            return self.below.features(x)["embedding"]
        finally:
            hook.remove()


def removed(maps: Tensor, iterations: int | None = None, *, last: bool = False) -> Tensor:
    """Maps (N, C, H, W) without the first singular component of each image's C x HW; `last`: (N, .., C)."""
    matrix = maps.flatten(1, -2) if last else maps.flatten(2)
    exact = matrix.float() if iterations else matrix.double()
    with torch.autocast(maps.device.type, enabled=False):
        wide = exact.shape[1] < exact.shape[2]
        small = exact @ exact.mT if wide else exact.mT @ exact  # its first eigenvector is a singular vector
        if iterations is None:
            vector = torch.linalg.eigh(small).eigenvectors[..., -1:]
        else:
            # a column of it, so that it cannot be orthogonal to what is looked for
            at = small.diagonal(dim1=1, dim2=2).argmax(dim=1).view(-1, 1, 1).expand(-1, small.shape[1], 1)
            vector = nn.functional.normalize(small.gather(2, at), dim=1)
            for _ in range(iterations):
                vector = nn.functional.normalize(small @ vector, dim=1)
        component = vector @ (vector.mT @ exact) if wide else (exact @ vector) @ vector.mT
    left: Tensor = exact - component
    return left.to(maps.dtype).view_as(maps)
