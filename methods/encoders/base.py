"""What an encoder is: what turns images into features."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

from torch import Tensor

from methods.base import CannotRun, Features, Head, check_settings, nearest

if TYPE_CHECKING:  # it stands on this file
    from methods.encoders.images.preprocessing import Shrinking

Images = Tensor | Sequence[Tensor]  # uint8 (N, H, W, 3), or N images (H, W, 3) of their own sizes


class BadFile(ValueError):
    """A file that is there and cannot be weights."""


@dataclass(frozen=True)
class HeadClasses:
    """The outputs of a head: how many, their names in order where a file says them, and the set it was trained on."""

    count: int
    names: tuple[str, ...] | None = None
    trained_on: str | None = None


@dataclass
class Encoder(ABC):
    """Turns images into features. Its dataclass fields are its settings; ValueError for a setting that cannot be.

    A life: `find_weights` (a file, or none: then it must `fit`), `open`, (`fit` or `load_state`), `encode`.
    Before `fit`, `find_start` and `start_from` where it does not start from random weights.
    `learns`: what `fit` reads ("pixels", "embedding"), "" where there is nothing to train.
    `supervised`: whether `fit` needs the labels too.
    `keeps_head`: whether `fit` goes on with the head in the file that it starts from.
    `of_files`: whether it reads features that are there already, not images.
    `is_given`: whether its network is an object of the caller's, of whose training nothing is known.
    `reruns`: whether it runs the network of the encoder that it stands on, in another way (`networks.rerun`).
    `names_classes`: whether its setting `classes`, where it is left open, is the names of the ID set's.
    `runs_network`: whether a network runs in it, so that its features depend on the precision.
    `files`: settings that may be the path of a file, which a suite means from where it lies itself.
    """

    title: ClassVar[str] = ""
    paper: ClassVar[str] = ""
    learns: ClassVar[str] = ""
    supervised: ClassVar[bool] = True
    keeps_head: ClassVar[bool] = False
    of_files: ClassVar[bool] = False
    is_given: ClassVar[bool] = False
    reruns: ClassVar[bool] = False
    names_classes: ClassVar[bool] = False
    runs_network: ClassVar[bool] = True
    files: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        """Every setting is what its annotation says. An encoder that has more to say calls this first."""
        check_settings(self)
        for name in settings(self):
            if isinstance(value := getattr(self, name), list):  # as YAML has them
                setattr(self, name, tuple(value))

    @property
    @abstractmethod
    def offers(self) -> tuple[str, ...]:
        """The features that `encode` returns: of embedding, logits, layers, pixels, and extras."""

    @property
    @abstractmethod
    def resolution(self) -> int:
        """Height and width, in pixels, at which the network sees an image."""

    @property
    def shrinking(self) -> "Shrinking | None":
        """How images that are larger than `encode` needs are shrunk where they are decoded; None: it reads none."""
        return None

    def find_weights(self, directory: Path | None, *, download: bool = False) -> Path | None:
        """The file that holds the trained network; None where there is none to look for, or it is to be trained.

        CannotRun, with how to get it, where it has to be there and is not; BadFile for what lies in its place.
        """
        return None

    def find_shipped(self, folder: Path) -> Path | None:
        """The file beside the suite, in `folder`, that holds the network which the suite ships; None: it ships none.

        CannotRun where it has to be there and is not.
        """
        return None

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """The classes of its head in the order of the outputs, where the settings say them."""
        return None

    @property
    def given_classes(self) -> HeadClasses | None:
        """The classes of logits that no head in a file gives; None where there are none."""
        return None

    def head_in(self, weights: Path) -> HeadClasses | None:
        """The classes of the head in a file that was found; None without a head. ValueError where it does not fit."""
        return None

    def settled(self, weights: Path) -> tuple[Mapping[str, Any], str]:
        """Settings that were left open, as a file that was found completes them; and what was read of it, in words."""
        return {}, ""

    def find_start(self, directory: Path | None, *, download: bool = False) -> Path | None:
        """The file that a training starts from; None where it starts from random weights.

        CannotRun, with how to get it, where it has to be there and is not.
        """
        return None

    def open(self, weights: Path | None, *, device: str = "cpu", precision: str = "32") -> Self:
        """Build the network on `device`, from `weights` where there are any. ValueError where they do not fit."""
        return self

    def start_from(self, weights: Path) -> Self:
        """Have `fit` start from the file that `find_start` gave; after `open`."""
        return self

    def fit(self, train: Features, *, seed: int = 0, device: str = "cpu", workdir: Path | None = None) -> Self:
        """Train on the ID training set; `train` holds what `learns` names, and the labels where there are any."""
        return self

    def weights(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        """Tensors and header of a safetensors file that `open` reads back, once open and trained; none: it needs none.

        CannotRun where it cannot be kept in a file.
        """
        return {}, {}

    @classmethod
    def building(cls) -> tuple[str, ...]:
        """The settings that `open` needs beside that file: none that says where files lie, or that a training reads."""
        return tuple(name for name in settings(cls) if name not in ("checkpoint", "shipped"))

    @property
    def takes(self) -> str:
        """What `encode` takes, for people."""
        return "images, uint8 (N, H, W, 3) of any size"

    @property
    def built_from(self) -> dict[str, Any]:
        """These settings as they are here."""
        return {name: getattr(self, name) for name in self.building()}

    @abstractmethod
    def encode(self, images: Images) -> dict[str, Tensor]:
        """Features of a batch on the encoder's device: resize and normalise happen in here. float32 out.

        Images that were not shrunk yet are, on the CPU; the features are the same.
        """

    def encode_pixels(self, pixels: Tensor) -> dict[str, Tensor]:
        """What `encode` does behind the resize, with plain tensor operations; float32 (N, 3, R, R) from 0 to 255.

        CannotRun where there is no such part.
        """
        raise CannotRun(f"{self.title or type(self).__name__}: its features are no arithmetic on pixels")

    @property
    def layer_sizes(self) -> tuple[int, ...]:
        """Channels of each layer in `layers`; known once open."""
        return ()

    @property
    def extra_sizes(self) -> Mapping[str, tuple[int, ...]]:
        """Of each extra that holds several layers, the columns of each; known once open."""
        return {}

    @property
    def memory_format(self) -> str | None:
        """How the maps of its network lie in memory, once open: "channels_last", "contiguous"; None without one."""
        return None

    def arrange(self, memory_format: str) -> None:
        """Run the network in this memory format from now on, once open: in that of the pass that it goes on with."""
        raise ValueError(f"{self.title or type(self).__name__}: no network runs in it, in any memory format")

    @property
    def head(self) -> Head | None:
        """The linear layer behind the embedding, once open and trained; None where there is none."""
        return None

    def state(self) -> dict[str, Tensor]:
        """What `fit` learned, on the CPU; empty where nothing was trained."""
        return {}

    def load_state(self, state: Mapping[str, Tensor]) -> Self:
        """The reverse of `state`, after `open`."""
        return self


E_ = TypeVar("E_", bound=Encoder)
_ENCODERS: dict[str, type[Encoder]] = {}


def register(name: str) -> Callable[[type[E_]], type[E_]]:
    """Class decorator: `@register("pretrained")` above `@dataclass`. A name taken twice: ValueError."""

    def add(cls: type[E_]) -> type[E_]:
        there = _ENCODERS.get(name)
        if there is not None and (there.__module__, there.__qualname__) != (cls.__module__, cls.__qualname__):
            raise ValueError(f"the encoder name {name!r} is taken by {there.__module__}.{there.__qualname__}")
        _ENCODERS[name] = cls
        return cls

    return add


def registered() -> Mapping[str, type[Encoder]]:
    return _ENCODERS


def settings(encoder: type[Encoder] | Encoder) -> tuple[str, ...]:
    """The names of an encoder's settings."""
    return tuple(field.name for field in fields(encoder))


def class_of(name: str, given: Mapping[str, Any]) -> type[Encoder]:
    """The class of an encoder, its settings' names checked: ValueError naming the nearest valid one."""
    if name not in _ENCODERS:
        raise ValueError(f"no encoder {name!r}; {nearest(name, _ENCODERS)}")
    for setting in given:
        if setting not in settings(_ENCODERS[name]):
            raise ValueError(
                f"the encoder {name} has no setting {setting!r}; {nearest(setting, settings(_ENCODERS[name]))}"
            )
    return _ENCODERS[name]
