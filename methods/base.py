"""What a method is, and what it reads.

A method turns the features of images into one score an image; **greater = more out-of-distribution**, always.
"""

import copy
import functools
import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

import torch
from torch import Tensor

from methods.core.features import NAMES, CannotRun, Features, Head, as_tensor
from methods.core.settings import Count, NotNegative, Positive, Range, Share, check_settings, nearest

__all__ = [
    "NAMES",
    "CannotRun",
    "Count",
    "Features",
    "Head",
    "Method",
    "NotNegative",
    "Positive",
    "Range",
    "Share",
    "as_tensor",
    "check_settings",
    "combinations",
    "hold_out",
    "hyperparameters",
    "nearest",
    "register",
    "registered",
]

MOVED = 4096  # images whose features are moved to another device at a time


M = TypeVar("M", bound="Method")


def combinations(**values: Iterable[Any]) -> tuple[dict[str, Any], ...]:
    """Every combination of the values of hyper-parameters, the last of them changing fastest: a `grid`."""
    return tuple(dict(zip(values, chosen, strict=True)) for chosen in itertools.product(*values.values()))


@dataclass
class Method(ABC):
    """One OOD detector. Its dataclass fields are its hyper-parameters; what `fit` learns are plain attributes.

    `reads`: the features it needs ("embedding", "logits", "layers", "pixels", "head", "labels", the name of an extra);
    `reads_any`: one of them is enough.
    `score_only`: fields that a fit does not depend on. `inert`: fields that change no score (speed, memory).
    `fitted`: attributes that hold what `fit` learned (tensors, ints, floats): what `state` saves.
    `presets`: named sets of hyper-parameters. `grid`: those that `--searched` chooses from, as OpenOOD's configuration
    has them. `random_fit`: whether the seed changes anything. `calibrates`: whether `fit` takes `train.validation`
    where that is there. `remark`: what tables say beside every row of the method.
    `trains`: whether `fit` trains a network: it then takes `precision` ("32", "tf32" or "bf16") as well.
    A training's mean loss of each epoch is kept as `losses`, in `state` too: its curve is drawn.
    """

    title: ClassVar[str] = ""
    paper: ClassVar[str] = ""
    reads: ClassVar[tuple[str, ...]] = ()
    reads_any: ClassVar[bool] = False
    score_only: ClassVar[tuple[str, ...]] = ()
    inert: ClassVar[tuple[str, ...]] = ()
    fitted: ClassVar[tuple[str, ...]] = ()
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    grid: ClassVar[tuple[Mapping[str, Any], ...]] = ()
    random_fit: ClassVar[bool] = False
    trains: ClassVar[bool] = False
    calibrates: ClassVar[bool] = False
    remark: ClassVar[str] = ""

    def __init_subclass__(cls) -> None:
        """No fit sees training features that are not finite, or none at all; no score those of another device."""
        if "fit" in vars(cls):
            cls.fit = _checked(cls.fit)  # type: ignore[method-assign]
        if "load_state" in vars(cls):
            cls.load_state = _placed(cls.load_state)  # type: ignore[method-assign]
        if "score" in vars(cls):
            cls.score = _moved(cls.score)  # type: ignore[method-assign]

    def lacking(self, offered: Collection[str]) -> set[str]:
        """The features that it needs and an encoder that offers these has not; labels are the set's."""
        needs = set(self.reads) - {"labels"}
        return set() if self.reads_any and needs.intersection(offered) else needs.difference(offered)

    def __post_init__(self) -> None:
        """Every hyper-parameter is what its annotation says. A method that has more to say calls this first."""
        check_settings(self)

    def fit(self, train: Features, *, seed: int = 0, device: str = "cpu", workdir: Path | None = None) -> Self:
        """Learn from every row of the ID training set; what is calibrated, from `train.validation` where that is there.

        `workdir` is the method's own folder for checkpoints. Default: nothing.
        """
        return self

    @property
    def bits_per_dimension(self) -> bool:
        """Whether the scores, as these hyper-parameters have them, are bits per dimension."""
        return False

    def pictures(self, x: Features) -> Mapping[str, Tensor]:
        """Images that show what a generator learned, by name: uint8 (n, H, W, 3) each. Default: none."""
        return {}

    @abstractmethod
    def score(self, x: Features) -> Tensor:
        """One score an image (N,), greater = more OOD, where `x` is; computed on the device that `fit` was given.

        Must not depend on how the images are blocked or ordered: noise comes from `methods.vectors.noise`.
        """

    def before_export(self) -> Self:
        """A copy of which a graph is made. Default: the same.

        A method adds what `score` reads, in a graph, in the place of what ONNX has no operation for.
        """
        return copy.copy(self)

    def state(self) -> dict[str, Tensor]:
        """What `fit` learned, on the CPU."""
        return {name: torch.as_tensor(getattr(self, name)).detach().cpu() for name in self.fitted}

    def load_state(self, state: Mapping[str, Tensor], *, device: str = "cpu") -> Self:
        """The reverse of `state`, without a fit."""
        self.__dict__["_device"] = torch.device(device)
        for name in self.fitted:
            setattr(self, name, state[name].to(device))
        return self


def _checked(fit: Callable[..., M]) -> Callable[..., M]:
    @functools.wraps(fit)
    def checked(self: M, train: Features, **how: Any) -> M:
        check_training(train, self.reads)
        self.__dict__["_device"] = torch.device(how.get("device", "cpu"))
        return fit(self, train, **how)

    return checked


def _placed(load_state: Callable[..., M]) -> Callable[..., M]:
    @functools.wraps(load_state)
    def placed(self: M, state: Mapping[str, Tensor], *, device: str = "cpu") -> M:
        self.__dict__["_device"] = torch.device(device)
        return load_state(self, state, device=device)

    return placed


def _moved(score: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Features that are not where the fit is go there in blocks, and their scores come back."""

    @functools.wraps(score)
    def moved(self: Method, x: Features) -> Tensor:
        there = x.index.device
        device = getattr(self, "_device", there)
        if device.type == there.type and device.index in (None, there.index):
            return score(self, x)
        return torch.cat([score(self, block.to(device)).to(there) for block in x.blocks(MOVED)])

    return moved


def check_training(train: Features, reads: Iterable[str]) -> None:
    """CannotRun without images; ValueError where a feature that is read holds NaN or infinity."""
    if not len(train):
        raise CannotRun("there are no training images")
    for name in reads:
        values = train.get(name)
        if isinstance(values, Tensor) and values.is_floating_point():
            rows = max(1, (1 << 22) // max(1, values[:1].numel()))  # 16 MiB at a time: it may be a memory map
            bad = sum(int((~block.isfinite()).flatten(1).any(dim=1).sum()) for block in torch.split(values, rows))
            if bad:
                raise ValueError(f"{name} of {bad:,} of {len(train):,} training images: NaN or infinity")


def hold_out(n: int) -> tuple[Tensor, Tensor]:
    """Rows of a training set of `n` to fit on, and rows to calibrate on: 5 %, at most 2,500, by a fixed permutation.

    Z-scores and thresholds come from the second part: never from test images, never from OOD. Both ascend.
    """
    held = min(2500, max(1, round(0.05 * n)))
    order = torch.randperm(n, generator=torch.Generator().manual_seed(0))
    return order[held:].sort().values, order[:held].sort().values


_METHODS: dict[str, type[Method]] = {}


def register(name: str) -> Callable[[type[M]], type[M]]:
    """Class decorator: `@register("msp")` above `@dataclass`. A name taken twice: ValueError."""

    def add(cls: type[M]) -> type[M]:
        there = _METHODS.get(name)
        if there is not None and (there.__module__, there.__qualname__) != (cls.__module__, cls.__qualname__):
            raise ValueError(f"the method name {name!r} is taken by {there.__module__}.{there.__qualname__}")
        if "__dataclass_fields__" not in vars(cls):
            raise TypeError(f"{cls.__qualname__}: put @dataclass between @register({name!r}) and the class")
        _METHODS[name] = cls
        return cls

    return add


def registered() -> Mapping[str, type[Method]]:
    """Every method that has been registered so far, by name."""
    return _METHODS


def hyperparameters(method: type[Method] | Method) -> tuple[str, ...]:
    """The names of a method's hyper-parameters."""
    return tuple(field.name for field in fields(method))
