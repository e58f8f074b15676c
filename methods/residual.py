"""Residual: what the principal directions of the embedding leave over, without ViM's logits."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from torch import Tensor

from methods.base import Features, Method, Range, register
from methods.vectors.residual import residual
from methods.vectors.statistics import length


@register("residual")
@dataclass
class Residual(Method):
    """|R^T (z - u)|, u = -pinv(W) b; R the eigenvectors of mean((z - u)(z - u)^T) beyond the `dim` largest.

    Fitted on the training set, with ViM's `dim` (None: 1000 for D >= 2048, 512 for D >= 768, else D // 2).
    Preset `openood`: 512 always; its code fits on the ID validation images. CannotRun where `dim` is not below D.
    """

    title: ClassVar[str] = "Residual"
    paper: ClassVar[str] = (
        "Wang et al., ViM: Out-Of-Distribution with Virtual-logit Matching, CVPR 2022, https://arxiv.org/abs/2203.10807"
    )
    reads: ClassVar[tuple[str, ...]] = ("embedding", "head")
    fitted: ClassVar[tuple[str, ...]] = ("origin", "residual")
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"openood": {"dim": 512}}

    dim: Annotated[int, Range(0)] | None = None

    def fit(self, train: Features, *, seed: int = 0, device: str = "cpu", workdir: Path | None = None) -> Self:
        self.origin, self.residual = residual(train.need("embedding"), train.need_head(), self.dim, device)
        return self

    def score(self, x: Features) -> Tensor:
        return length((x.need("embedding").double() - self.origin) @ self.residual)
