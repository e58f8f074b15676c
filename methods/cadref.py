"""CADRef: CARef's distance, decoupled by the signs of the head's weights."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import torch
from torch import Tensor

from methods.base import Features, Method, register
from methods.caref import reference
from methods.gen import generalised_entropy
from methods.vectors.head import energy, logits, positive, predictions
from methods.vectors.statistics import TINY, float64_blocks


@register("cadref")
@dataclass
class CADRef(Method):
    """e+ / S(f) + e- / mean_train S, e+- = sum relu(+-d) / |z|_1, d = (z - m_k) sign(w_k), k = argmax f.

    m_c the mean z of the training images **predicted** as c, of all where nobody is. S, the `confidence`: "energy"
    logsumexp f, "msp" max p, "maxlogit" max f, "gen" 1 / GEN(gamma .1, M = max(10, K // 10)). S must be above 0:
    CannotRun where a training image's is not; an image of the test whose S is not counts as of the least one.
    """

    title = "CADRef"
    paper = (
        "Ling et al., CADRef: Robust Out-of-Distribution Detection via Class-Aware Decoupled Relative Feature "
        "Leveraging, CVPR 2025, https://arxiv.org/abs/2503.00325"
    )
    reads = ("embedding", "head")
    fitted = ("centres", "typical")

    confidence: Literal["energy", "msp", "maxlogit", "gen"] = "energy"

    def fit(self, train: Features, *, seed: int = 0, device: str = "cpu", workdir: Path | None = None) -> Self:
        z, head = train.need("embedding"), train.need_head().to(device)
        found = torch.cat([self._confidence(logits(block, head)) for block in float64_blocks(z, device)])
        positive(found, remedy=": confidence 'gen'")
        self.typical = found.mean()
        self.centres = reference(z, predictions(z, head, device), len(head.bias), device)
        return self

    def score(self, x: Features) -> Tensor:
        z, head = x.need("embedding").double(), x.need_head()
        f = logits(z, head)
        k = f.argmax(dim=1)
        d = (z - self.centres[k]) * head.weight[k].sign()
        size = z.abs().sum(dim=1).clamp(min=TINY)
        for_class, against = (part.relu().sum(dim=1) / size for part in (d, -d))
        return for_class / self._confidence(f).clamp(min=TINY) + against / self.typical

    def _confidence(self, f: Tensor) -> Tensor:
        if self.confidence == "energy":
            return -energy(f)
        if self.confidence == "gen":
            return 1 / generalised_entropy(f, gamma=0.1, m=max(10, f.shape[1] // 10))
        return (f if self.confidence == "maxlogit" else f.softmax(dim=1)).amax(dim=1)
