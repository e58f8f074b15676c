"""Features that a user's own network made and wrote to files: nothing is computed here but logits, from the head."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

import torch
from torch import Tensor

from methods.base import Count, Head, Range, as_tensor
from methods.encoders.base import BadFile, Encoder, HeadClasses, Images, register
from methods.encoders.networks.checkpoints import read_head

_Columns = Annotated[int, Range(0, 1 << 24)]


@register("features")
@dataclass
class FeatureReader(Encoder):
    """What the files of every set hold: how many columns `embedding` and `logits` have, and each of the `layers`.

    0, or no layers: they are not there. A head beside the training features gives the logits where a file has none:
    logits = embedding @ weight.T + bias, in float32 on the CPU; where a file has them, it must give the same.
    """

    title = "features in files (.npz, .safetensors, .npy)"
    of_files = True
    runs_network = False

    embedding: _Columns = 0
    logits: _Columns = 0
    layers: tuple[Count, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.offers:
            raise ValueError("features: name the columns of embedding, logits or layers")
        self._head: Head | None = None
        self._rounding = 0.0

    @property
    def offers(self) -> tuple[str, ...]:
        return tuple(name for name in ("embedding", "logits", "layers") if getattr(self, name))

    @property
    def resolution(self) -> int:
        """0: it never sees an image."""
        return 0

    @property
    def layer_sizes(self) -> tuple[int, ...]:
        return self.layers

    @property
    def head(self) -> Head | None:
        return self._head

    @property
    def given_classes(self) -> HeadClasses | None:
        return HeadClasses(self.logits) if self.logits else None

    def open(self, weights: Path | None, *, device: str = "cpu", precision: str = "32") -> Self:
        """`weights`: the head. BadFile where it is none, or that of another embedding."""
        if weights is not None:
            self._head, self._rounding = read_head(weights)
            columns = self._head.weight.shape[1]
            if columns != self.embedding:
                raise BadFile(f"{weights}: a head for {columns:,} columns; embedding has {self.embedding or 'none':,}")
        return self

    def weights(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        return ({} if self._head is None else {"weight": self._head.weight, "bias": self._head.bias}), {}

    def encode(self, images: Images) -> dict[str, Tensor]:
        raise ValueError("the encoder features reads files of features, not images")

    def given(self, block: Mapping[str, Any]) -> dict[str, Tensor]:
        """All that it offers, float32 on the CPU, of a block of a file; ValueError where something of it is absent."""
        found = {name: as_tensor(block[name], torch.float32) for name in self.offers if name in block}
        for name, values in found.items():
            columns = sum(self.layers) if name == "layers" else getattr(self, name)
            if values.ndim != 2:
                raise ValueError(f"{name} is {tuple(values.shape)}; it must be (rows, columns)")
            if values.shape[1] != columns:
                raise ValueError(f"{name} has {values.shape[1]:,} columns, not {columns:,}")
        if "logits" not in found and "embedding" in found and self._head is not None:
            found["logits"] = self._head(found["embedding"])
        for name in self.offers:
            if name not in found:
                raise ValueError(f"no {name}, which the suite's encoder `features` offers")
        return found

    def check_head(self, block: Mapping[str, Any], rounding: float) -> None:
        """ValueError where the head gives other logits than those of a block, beyond what rounding explains.

        `rounding`: the relative error that the block was stored with. A dot product of D terms in float32 is off by at
        most D + 2 roundings of the sum of its terms' magnitudes (Higham, Accuracy and Stability, 3.1).
        """
        if self._head is None or "logits" not in block:
            return
        embedding, logits = (as_tensor(block[name], torch.float64) for name in ("embedding", "logits"))
        weight, bias = self._head.weight.double(), self._head.bias.double()
        share = (embedding.shape[1] + 2) * 2.0**-24 + 2 * max(rounding, self._rounding)
        allowed = share * (embedding.abs() @ weight.abs().T + bias.abs() + logits.abs())
        apart = (embedding @ weight.T + bias - logits).abs()
        if bool((apart > allowed).any()):
            raise ValueError(f"its logits are not what the head gives: they differ by up to {float(apart.max()):.3g}")
