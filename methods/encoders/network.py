"""A network of the user's: an architecture of timm or torchvision by its name, with the weights in a file."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

import torch
from torch import Tensor, nn

from methods.base import CannotRun, Head, Range
from methods.encoders.base import HeadClasses, Images, register
from methods.encoders.images import preprocessing
from methods.encoders.networks import checkpoints, named, timm_models
from methods.encoders.networks.inference import Placed
from methods.encoders.networks.one_network import OneNetwork

Share = Annotated[float, Range(0, 1, "(]")]


@register("network")
@dataclass
class Network(OneNetwork):
    """`embedding` (what the last linear layer reads), `logits`, `layers` (pooled maps) and the head, in one pass.

    network: a name of timm, or of torchvision; where both have it and `library` names neither, the one that the file
    fits. checkpoint: a file, by
    its path or by its name in the weights folder. layers: names of modules, None = the library's feature maps. classes:
    names in the order of the outputs, for a file that does not say them. Mean and std (of pixels from 0 to 1), size
    (pixels) and crop (the share that is kept, timm's crop_pct): as given, else as the file's header says, else as the
    library does for this network; which it was, `settled` says. Resized as the library does it: the short side to
    size / crop, antialiased, then the centre.
    """

    title = "network"
    files = ("checkpoint",)

    network: str = "resnet18"
    checkpoint: str | None = None
    layers: tuple[str, ...] | None = None
    classes: tuple[str, ...] | None = None
    mean: tuple[Annotated[float, Range(0, 1)], ...] | None = None
    std: tuple[Share, ...] | None = None
    size: Annotated[int, Range(8, 4096)] | None = None
    crop: Share | None = None
    library: named.Library | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.library not in (None, *(there := named.libraries(self.network))):
            raise ValueError(f"network: {self.network} is a network of {' and '.join(there)}, not of {self.library}")
        for name in ("mean", "std"):
            if (value := getattr(self, name)) is not None and len(value) != 3:
                raise ValueError(f"network: {name} is three numbers, red, green, blue, not {len(value)}")
        if self.layers == ():
            raise ValueError("network: layers is empty; leave it out for all of the network's maps")
        self._placed: Placed[nn.Module] | None = None
        self._head: Head | None = None
        self._layer_sizes: tuple[int, ...] = ()

    @property
    def offers(self) -> tuple[str, ...]:
        return ("embedding", "logits", "layers")

    @property
    def resolution(self) -> int:
        return self._read_at.size

    @property
    def shrinking(self) -> preprocessing.Shrinking:
        reading = self._read_at
        short = math.floor(reading.size / reading.crop)
        return preprocessing.Shrinking(short, reading.mode, crop=True, centre=reading.size)

    @property
    def _libraries(self) -> tuple[named.Library, ...]:
        return named.libraries(self.network) if self.library is None else (self.library,)

    @property
    def _read_at(self) -> named.Reading:
        return self._reading(self._libraries[0], {}, Path())[0]

    @property
    def layer_sizes(self) -> tuple[int, ...]:
        return self._layer_sizes

    @property
    def head(self) -> Head | None:
        return self._head

    @property
    def class_names(self) -> tuple[str, ...] | None:
        return self.classes

    def find_weights(self, directory: Path | None, *, download: bool = False) -> Path | None:
        if self.checkpoint is None:
            raise CannotRun(f"{self.network} has no weights: name a file in `checkpoint`")
        path = Path(self.checkpoint).expanduser()
        return checkpoints.need(path.parent if path.is_absolute() else directory, path.name)

    def head_in(self, weights: Path) -> HeadClasses | None:
        library, state, header, like = self._read(weights)
        names = (f"{named.head_name(library, self.network)}.weight",)
        return checkpoints.head_classes(state, header, names, like, weights)

    def settled(self, weights: Path) -> tuple[dict[str, Any], str]:
        library, _, header, _ = self._read(weights)
        reading, sources = self._reading(library, header, weights)
        unread = f", {header['unread']}" if "unread" in header else ""
        mean, std = (" ".join(f"{value:g}" for value in values) for values in (reading.mean, reading.std))
        whose = "; ".join(
            f"{', '.join(name for name, source in sources.items() if source == each)}: {each}"
            for each in dict.fromkeys(sources.values())
        )
        return _settings(library, reading), (
            f"{weights.name}: read as {library}'s {self.network}, {header.get('read', 'the whole file')}{unread}; its "
            f"images: short side to {math.floor(reading.size / reading.crop)} pixels ({reading.mode}), the centre "
            f"{reading.size} x {reading.size}, mean {mean}, std {std} ({whose})."
        )

    def _read(self, weights: Path) -> tuple[named.Library, dict[str, Tensor], dict[str, str], nn.Module]:
        """The library whose network the file is of, its tensors and its header, and that network without weights."""
        found: dict[named.Library, tuple[dict[str, Tensor], nn.Module]] = {}
        headers: dict[named.Library, dict[str, str]] = {}
        for library in self._libraries:
            with torch.device("meta"):  # its sizes alone
                like = named.build(library, self.network, 2, self.size)
            state, headers[library] = checkpoints.read(weights, like)
            found[library] = state, like
        library = named.best_fit(self.network, found)
        return library, found[library][0], headers[library], found[library][1]

    def _reading(
        self, library: named.Library, header: dict[str, str], weights: Path
    ) -> tuple[named.Reading, dict[str, str]]:
        """How images are prepared, and whose word each part is."""
        reading = named.reading(library, self.network)
        own = checkpoints.normalisation(header, weights)
        mean, std = own or (reading.mean, reading.std)
        chosen = named.Reading(
            mean=self.mean or mean,
            std=self.std or std,
            size=self.size or reading.size,
            crop=self.crop or reading.crop,
            mode=reading.mode,
        )
        default = f"{library}'s own"
        sources = dict.fromkeys(("mean", "std"), "the file's header" if own else default)
        sources |= {"size": default, "crop": default}
        return chosen, sources | {name: "given" for name in sources if getattr(self, name) is not None}

    def open(self, weights: Path | None, *, device: str = "cpu", precision: str = "32") -> Self:
        if weights is None:
            raise ValueError(f"network: {self.network} needs a file of weights")
        self._device, self._file = device, weights
        library, state, header, like = self._read(weights)
        reading, _ = self._reading(library, header, weights)
        for name, value in _settings(library, reading).items():
            setattr(self, name, value)
        head = named.head_name(library, self.network)
        classes = checkpoints.head_classes(state, header, (f"{head}.weight",), like, weights).count
        network = named.build(library, self.network, classes, self.size)
        checkpoints.load(network, state, name=f"{library}'s {self.network}", path=weights)
        network.eval()
        self._head = named.take_head(network, head, self.network, self.resolution)
        read = timm_models.map_names(network, self.network, self.layers or named.map_names(library, self.network))
        how = {"device": device, "exactness": precision}
        self._placed = Placed(network, self.network, read=read, fused=self.fused, **how)
        self._device_head = self._head.to(device)
        self._pooled = timm_models.PooledMaps(self._placed.network, self.network, read)
        self._layer_sizes = self.found_sizes(self.resolution)
        return self

    def weights(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        """Read once more: the network here has lost its head, and its norms are folded into its convolutions."""
        _, state, header, _ = self._read(self._file)
        names = {"classes": header["classes"]} if "classes" in header else {}
        return state, names | checkpoints.said(self._read_at.mean, self._read_at.std)

    @property
    def placed(self) -> Placed[nn.Module]:
        if self._placed is None:
            raise RuntimeError("open the encoder before encode")
        return self._placed

    @property
    def normalisation(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        reading = self._read_at
        return reading.mean, reading.std

    @property
    def maps(self) -> tuple[str, ...]:
        return self._pooled.names

    def resized(self, images: Images) -> Tensor:
        return preprocessing.prepared(images, self.shrinking, self._device)

    def passed(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        return self.placed.network(x), self._pooled.take()

    def logits(self, embedding: Tensor) -> Tensor:
        return self._device_head(embedding)


def _settings(library: named.Library, reading: named.Reading) -> dict[str, Any]:
    found = {name: getattr(reading, name) for name in ("mean", "std", "size", "crop")}
    return {"library": library, **found}
