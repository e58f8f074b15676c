"""What a method is, and what it reads.

A method turns the features of images into one score an image; **greater = more out-of-distribution**, always.
"""

import difflib
import functools
import itertools
import sys
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np
import torch
from torch import Tensor

Array = Tensor | np.ndarray[Any, Any]
NAMES = ("embedding", "logits", "layers", "pixels")
MOVED = 4096  # images whose features are moved to another device at a time


class CannotRun(Exception):
    """What a combination needs is absent (labels, a head, a package): the row is skipped, with this reason."""


def nearest(name: str, valid: Iterable[str]) -> str:
    """The end of an error message: the valid name nearest to `name`, or all of them."""
    valid = sorted(valid)
    close = difflib.get_close_matches(name, valid, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"valid: {', '.join(valid) or 'none'}"


def as_tensor(values: Array, dtype: torch.dtype) -> Tensor:
    """A tensor that shares memory with `values` where the type allows it (memory maps stay maps)."""
    if not isinstance(values, Tensor):
        with warnings.catch_warnings():  # a read-only map is fine: nothing here writes to features
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            values = torch.from_numpy(np.asarray(values))
    return values.to(dtype)


@dataclass(frozen=True)
class Range:
    """The numbers that a setting may be: `Annotated[float, Range(0, 100, "[)")]` has 0 among them, and not 100."""

    low: float = -sys.float_info.max
    high: float = sys.float_info.max
    ends: Literal["[]", "[)", "(]", "()"] = "[]"

    def __contains__(self, number: float) -> bool:
        above = self.low <= number if self.ends[0] == "[" else self.low < number
        return above and (number <= self.high if self.ends[1] == "]" else number < self.high)

    def __str__(self) -> str:
        words = []
        if self.low > -sys.float_info.max:
            words.append(f"{'at least' if self.ends[0] == '[' else 'above'} {self.low:,}")
        if self.high < sys.float_info.max:
            words.append(f"{'at most' if self.ends[1] == ']' else 'below'} {self.high:,}")
        return " and ".join(words)


Count = Annotated[int, Range(1, 10**6)]
Positive = Annotated[float, Range(0, ends="(]")]
NotNegative = Annotated[float, Range(0)]
Share = Annotated[float, Range(0, 1)]
_KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", NoneType: "null"}


def check_settings(of: Any) -> None:
    """Hold the fields of the dataclass `of` against their annotations; ValueError for the first that does not fit.

    int and float are numbers, finite and no booleans, of a `Range` where one is stated; also bool, str, None, Literal,
    `|`, and tuple[X, ...], as which a list passes.
    """
    cls: Any = type(of)
    for name, hint in _hints(cls).items():
        value = getattr(of, name)
        if not _fits(value, hint):
            title = getattr(of, "title", "") or type(of).__name__
            raise ValueError(f"{title}: {name} is {value!r:.60}; it must be {_said(hint)}")


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    hints = get_type_hints(cls, include_extras=True)
    return {field.name: hints[field.name] for field in fields(cls)}


def _fits(value: Any, hint: Any) -> bool:
    kind, choices = get_origin(hint), get_args(hint)
    if kind is Annotated:
        limits = (limit for limit in choices[1:] if isinstance(limit, Range))
        return _fits(value, choices[0]) and all(value in limit for limit in limits)
    if kind in (Union, UnionType):
        return any(_fits(value, choice) for choice in choices)
    if kind is Literal:
        return any(value == choice and type(value) is type(choice) for choice in choices)
    if kind is tuple:
        return isinstance(value, tuple | list) and all(_fits(part, choices[0]) for part in value)
    if hint in (int, float):
        number = isinstance(value, int if hint is int else int | float) and not isinstance(value, bool)
        return number and abs(value) <= (2**63 if hint is int else sys.float_info.max)
    return isinstance(value, hint)


def _said(hint: Any) -> str:
    kind, choices = get_origin(hint), get_args(hint)
    if kind is Annotated:
        return f"{_said(choices[0])}, " + ", ".join(str(limit) for limit in choices[1:] if isinstance(limit, Range))
    if kind in (Union, UnionType):
        return " or ".join(_said(choice) for choice in choices)
    if kind is Literal:
        return " or ".join(map(repr, choices))
    return f"a list, each {_said(choices[0])}" if kind is tuple else _KINDS.get(hint, str(hint))


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

    def need_labels(self) -> Tensor:
        """The labels; CannotRun where the set has none."""
        labels = self.need("labels")
        if bool((labels < 0).any()):
            raise CannotRun("needs labels; the training set has none")
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

    @classmethod
    def lacking(cls, offered: Collection[str]) -> set[str]:
        """The features that it needs and an encoder that offers these has not; labels are the set's."""
        needs = set(cls.reads) - {"labels"}
        return set() if cls.reads_any and needs.intersection(offered) else needs.difference(offered)

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
