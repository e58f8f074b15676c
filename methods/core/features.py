"""What a method reads: the outputs of an encoder for N images, and what is said where something of them is absent."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

Array = Tensor | np.ndarray[Any, Any]
NAMES = ("embedding", "logits", "layers", "pixels")


class CannotRun(Exception):
    """What a combination needs is absent (labels, a head, a package): the row is skipped, with this reason."""


def as_tensor(values: Array, dtype: torch.dtype) -> Tensor:
    """A tensor that shares memory with `values` where the type allows it (memory maps stay maps)."""
    if not isinstance(values, Tensor):
        with warnings.catch_warnings():  # a read-only map is fine: nothing here writes to features
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            values = torch.from_numpy(np.asarray(values))
    return values.to(dtype)


@dataclass(frozen=True, eq=False)
class Head:
    """The linear layer behind the embedding: logits = embedding @ weight.T + bias.

    Shapes: weight (K, D), bias (K,); float32.
    """

    weight: Tensor
    bias: Tensor

    def __post_init__(self) -> None:
        object.__setattr__(self, "weight", as_tensor(self.weight, torch.float32))
        object.__setattr__(self, "bias", as_tensor(self.bias, torch.float32))
        if self.weight.ndim != 2 or self.bias.shape != self.weight.shape[:1]:
            raise ValueError(
                f"a head is weight (K, D) and bias (K,), not {tuple(self.weight.shape)}, {tuple(self.bias.shape)}"
            )

    def __call__(self, embedding: Tensor) -> Tensor:
        return embedding @ self.weight.T + self.bias

    def to(self, device: str | torch.device) -> "Head":
        return Head(self.weight.to(device), self.bias.to(device))


@dataclass(frozen=True, eq=False)
class Features:
    """An encoder's outputs for N images. Tensors or arrays, possibly memory-mapped; read-only.

    embedding (N, D), logits (N, K), layers (N, sum(layer_sizes)): float32. pixels (N, H, W, 3): uint8.
    extras: what an encoder offers beside these, by name, (N, n) float32 each; `reads` names them as it does the others.
    extra_sizes: of those that hold several layers, the columns of each.
    labels (N,) int64, -1 = none. index (N,) int64: each image's place in its whole set, the key of all noise
    (0 to N - 1 where it is not given). `validation`: Features of the ID calibration images, which are none of these;
    like the head it belongs to the whole set, whatever rows are taken of that. None where there are none: what is
    calibrated is then held out of the training rows. ValueError where lengths or sizes disagree.
    """

    embedding: Any = None
    logits: Any = None
    layers: Any = None
    layer_sizes: tuple[int, ...] = ()
    pixels: Any = None
    labels: Any = None
    head: Head | None = None
    index: Any = None
    validation: "Features | None" = None
    extras: Mapping[str, Any] = field(default_factory=dict)
    extra_sizes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        types = dict.fromkeys(("embedding", "logits", "layers"), torch.float32)
        types |= {"pixels": torch.uint8, "labels": torch.int64, "index": torch.int64}
        lengths: dict[str, int] = {}
        for name, dtype in types.items():
            values = getattr(self, name)
            if values is not None:
                object.__setattr__(self, name, as_tensor(values, dtype))
                lengths[name] = len(values)
        extras = {name: as_tensor(values, torch.float32) for name, values in self.extras.items()}
        object.__setattr__(self, "extras", extras)
        object.__setattr__(self, "extra_sizes", {name: tuple(sizes) for name, sizes in self.extra_sizes.items()})
        lengths |= {name: len(values) for name, values in extras.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"features of one set differ in length: {lengths}")
        if not lengths:
            raise ValueError("Features needs at least one of embedding, logits, layers, pixels, labels, index, extras")
        object.__setattr__(self, "layer_sizes", tuple(self.layer_sizes))
        if self.layers is not None and sum(self.layer_sizes) != self.layers.shape[1]:
            raise ValueError(f"layer_sizes {self.layer_sizes} do not add up to {self.layers.shape[1]} columns")
        for name, sizes in self.extra_sizes.items():
            if name in extras and sum(sizes) != extras[name].shape[1]:
                raise ValueError(f"extra_sizes {sizes} of {name} do not add up to {extras[name].shape[1]} columns")
        if self.index is None:
            there = next(values for name in lengths if (values := self.get(name)) is not None)
            object.__setattr__(self, "index", torch.arange(len(there), device=there.device))

    def __len__(self) -> int:
        return len(self.index)

    def _map(self, change: Callable[[Tensor], Tensor]) -> "Features":
        changed: dict[str, Any] = {
            name: None if values is None else change(values)
            for name in (*NAMES, "labels", "index")
            for values in (getattr(self, name),)
        }
        return replace(self, **changed, extras={name: change(values) for name, values in self.extras.items()})

    def __getitem__(self, rows: slice | Array | list[int]) -> "Features":
        if isinstance(rows, np.ndarray):
            rows = torch.from_numpy(rows)
        return self._map(lambda values: values[rows])

    def blocks(self, rows: int) -> Iterator["Features"]:
        """Slices of at most `rows` images, in order."""
        for start in range(0, len(self), rows):
            yield self[start : start + rows]

    def to(self, device: str | torch.device) -> "Features":
        moved = self._map(lambda values: values.to(device))
        return replace(
            moved,
            head=None if self.head is None else self.head.to(device),
            validation=None if self.validation is None else self.validation.to(device),
        )

    def get(self, name: str) -> Any:
        """The feature `name`, of the named ones or of `extras`; None where there is none."""
        return self.extras.get(name) if name not in _FIELDS else getattr(self, name)

    def need(self, name: str) -> Tensor:
        """The feature `name`; CannotRun, with what there is instead, where the encoder does not offer it."""
        values = self.get(name)
        if values is None:
            there = [other for other in (*NAMES, "labels") if getattr(self, other) is not None]
            raise CannotRun(f"needs {name}; there is only {', '.join([*there, *self.extras]) or 'nothing'}")
        return values  # type: ignore[no-any-return]

    def need_head(self) -> Head:
        if self.head is None:
            raise CannotRun("needs a linear head (weight and bias); this encoder has none")
        return self.head

    def need_labels(self, of: str = "training") -> Tensor:
        """The labels; CannotRun where the set, the one `of` which these are, lacks some."""
        labels = self.need("labels")
        if bool((labels < 0).any()):
            raise CannotRun(f"needs labels; the {of} set has none")
        return labels

    def split_layers(self) -> tuple[Tensor, ...]:
        """`layers` as one tensor (N, c_m) a layer."""
        parts: tuple[Tensor, ...] = torch.split(self.need("layers"), list(self.layer_sizes), dim=1)
        return parts

    def split_extra(self, name: str) -> tuple[Tensor, ...]:
        """The extra `name` as one tensor (N, c_m) a layer."""
        whole = self.need(name)
        parts: tuple[Tensor, ...] = torch.split(whole, list(self.extra_sizes.get(name, (whole.shape[1],))), dim=1)
        return parts


_FIELDS = frozenset(one.name for one in fields(Features))
