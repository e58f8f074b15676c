"""What encoders share whose network comes out of a file that fits it, or out of a training here."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeVar

import torch
from torch import Tensor, nn

from methods.device import tensors
from methods.device.precision import check
from methods.encoders.base import HeadClasses, Images
from methods.encoders.images import preprocessing
from methods.encoders.networks import checkpoints, cifar, openood
from methods.encoders.networks.inference import Placed
from methods.encoders.networks.one_network import OneNetwork

N = TypeVar("N", bound=nn.Module)


@dataclass
class Trainable(OneNetwork, Generic[N]):
    """checkpoint: the stem of a file in the weights folder; without one the network is trained, never in its place.

    With `{seed}` in it there is a file for each seed. `openood_cifar10_resnet18_s0` and the like are also found where
    OpenOOD's download has them.
    """

    learns: ClassVar[str] = "pixels"
    beside: ClassVar[tuple[str, ...]] = ()  # of a file's tensors: prefixes of those that are not the network's

    checkpoint: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        names = self.class_names
        if names is not None and not 1 < len(names) == len(set(names)):
            raise ValueError(f"{self.title}: classes are at least 2 names, each of them once")
        self._network: N | None = None
        self._placed: Placed[N] | None = None
        self._trained = False
        self.losses: list[float] = []
        self._device, self._precision = "cpu", "32"
        self._mean: tuple[float, ...] = ()
        self._std: tuple[float, ...] = ()

    @property
    @abstractmethod
    def network_name(self) -> str:
        """What people call the network."""

    @property
    def head_names(self) -> tuple[str, ...]:
        """What the weight of its linear layer may be called; none where it has no such layer."""
        return ()

    @property
    def given(self) -> int | tuple[str, ...] | None:
        """How many classes the settings ask for, or which; None: those that there are."""
        return None

    @property
    def class_names(self) -> tuple[str, ...] | None:
        return self.given if isinstance(self.given, tuple) else None

    @property
    def outputs(self) -> int | None:
        return len(self.given) if isinstance(self.given, tuple) else self.given

    @abstractmethod
    def _build(self, classes: int) -> N:
        """The network, on the CPU or where torch is told to."""

    def _blank(self, classes: int) -> N:
        """The network whose weights come out of a file."""
        return self._build(classes)

    def _normalisation(self, header: Mapping[str, str], weights: Path) -> tuple[tuple[float, ...], tuple[float, ...]]:
        return checkpoints.own_normalisation(header, weights)

    def find_weights(self, directory: Path | None, *, download: bool = False) -> Path | None:
        """`<directory>/<checkpoint>.safetensors`, .pth or .th, CannotRun where it is absent; None: it is trained."""
        return None if self.checkpoint is None else checkpoints.need(directory, self.checkpoint)

    def head_in(self, weights: Path) -> HeadClasses | None:
        return self._read(weights)[2]

    def _read(self, weights: Path) -> tuple[dict[str, Tensor], dict[str, str], HeadClasses | None]:
        with torch.device("meta"):  # its sizes alone
            like = self._build(2)
        state, header = checkpoints.read(weights, like)
        if (released := openood.released(self.checkpoint)) is not None:
            header = {**released.header, **header}
        if not self.head_names:
            return state, header, None
        head = checkpoints.head_classes(state, header, self.head_names, like, weights)
        if self.outputs not in (None, head.count):
            raise ValueError(f"{weights} has {head.count:,} classes, not {self.outputs:,}")
        return state, header, head

    def open(self, weights: Path | None, *, device: str = "cpu", precision: str = "32") -> Self:
        self._device, self._precision = device, check(precision)
        if weights is not None:
            state, header, head = self._read(weights)
            self._mean, self._std = self._normalisation(header, weights)
            network = self._blank(head.count if head else 2)
            checkpoints.load(network, state, name=self.network_name, path=weights, beside=self.beside)
            self._place(network)
        return self

    def weights(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        if self._network is None:
            raise RuntimeError(f"{self.title}: fit it, or open a checkpoint, before it is kept")
        state = {name: tensor.detach().cpu().contiguous() for name, tensor in self._network.state_dict().items()}
        return state, checkpoints.said(self._mean, self._std)

    def state(self) -> dict[str, Tensor]:
        if self._network is None or not self._trained:
            return {}
        return checkpoints.trained_state(self._network, self._mean, self._std, self.losses)

    def load_state(self, state: Mapping[str, Tensor]) -> Self:
        weights = tensors.under("network.", state)
        self._mean, self._std = tuple(state["mean"].tolist()), tuple(state["std"].tolist())
        self.losses = state["losses"].tolist()
        network = self._blank(checkpoints.classes_in(weights, self.head_names) or 2)
        network.load_state_dict(weights)
        self._trained = True
        self._place(network)
        return self

    def _place(self, network: Any) -> None:
        """Ready to encode, on the device."""
        self._network = network.eval().to(device=self._device, memory_format=torch.channels_last)
        self._placed = None  # made of these weights at the first pass

    def _listened(self, network: N) -> tuple[str, ...]:
        """Modules of the network whose output is read."""
        return ()

    @property
    def placed(self) -> Placed[N]:  # type: ignore[override]  # of the networks that it builds
        """The network to encode with; RuntimeError where there are no weights yet."""
        if self._network is None:
            raise RuntimeError(f"{self.title}: fit it, or open a checkpoint, before encode")
        if self._placed is None:
            read = self._listened(self._network)
            how = {"device": self._device, "exactness": self._precision}
            self._placed = Placed(self._network, self.network_name, read=read, fused=self.fused, **how)
        return self._placed

    @property
    def normalisation(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        return self._mean, self._std


@dataclass
class OfStages(Trainable[cifar.Network]):
    """One of `cifar`'s networks: its layers are its stages, its images' short side is resized, and the centre read."""

    @property
    @abstractmethod
    def architecture(self) -> str:
        """The network's name."""

    def _blank(self, classes: int) -> cifar.Network:
        """Without random weights, which take longer to draw than a file to read; the file has all of its buffers."""
        with torch.device("meta"):
            network = self._build(classes)
        network.to_empty(device="cpu")
        for buffer in network.buffers():
            buffer.zero_()  # but counts of batches, which it may lack
        return network

    @property
    def shrinking(self) -> preprocessing.Shrinking:
        return preprocessing.Shrinking(self.resolution, crop=True)

    @property
    def layer_sizes(self) -> tuple[int, ...]:
        return cifar.architecture(self.architecture).stage_channels

    @property
    def maps(self) -> tuple[str, ...]:
        return cifar.architecture(self.architecture).stage_names

    def resized(self, images: Images) -> Tensor:
        return preprocessing.resize_and_crop(images, self.resolution, self._device)

    def passed(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        return cifar.passed(self.placed.network, x)
