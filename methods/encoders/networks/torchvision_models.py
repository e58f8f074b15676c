"""torchvision's networks for the encoder `pretrained`, as `timm_models` has timm's: their weights, head and embedding.

A name may have the tag of its weights behind it (`regnet_y_16gf.IMAGENET1K_SWAG_LINEAR_V1`); without one they are those
that torchvision calls its default.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from methods.base import CannotRun
from methods.encoders.networks import checkpoints, named, timm_models


def find_weights(model: str, resolution: int, directory: Path | None, *, download: bool) -> Path:
    """A file in `directory` called as the model, with the tag or without, or as torchvision's own; then torch's cache.

    Then torchvision's server. CannotRun where there are none.
    """
    url = str(named.published(model).url)
    name = url.rpartition("/")[2]
    stems = (model, model.partition(".")[0], Path(name).stem)
    if (path := checkpoints.find(directory, *stems)) is not None:
        return path
    cached = Path(torch.hub.get_dir()) / "checkpoints" / name
    if cached.is_file():
        return cached
    remedy = f"get {url} and put it at {directory or '<weights>'}/{name}"
    if not download:
        raise CannotRun(f"no weights of {model} here: {remedy}")
    try:
        cached.parent.mkdir(parents=True, exist_ok=True)
        digest = Path(name).stem.rpartition("-")[2]  # the names end with the first of their SHA-256
        torch.hub.download_url_to_file(url, str(cached), digest, progress=False)
    except Exception as error:  # offline, proxy, disk, a wrong hash: of several libraries
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise CannotRun(f"no weights of {model} here, and the download failed ({reason}): {remedy}") from error
    return cached


def pretrained(
    model: str, resolution: int, weights: Path, *, head: bool = False
) -> tuple[nn.Module, tuple[float, ...], tuple[float, ...]]:
    """The network with its classifier, on the CPU, and the mean and std that it was trained with.

    ValueError where the file does not fit, or holds no classifier.
    """
    with torch.device("meta"):  # its sizes alone
        like = named.build("torchvision", model, 2, resolution)
    state, header = checkpoints.read(weights, like)
    classes = checkpoints.head_classes(state, header, head_names(model), like, weights).count
    network = named.build("torchvision", model, classes, resolution)
    checkpoints.load(network, state, name=f"torchvision's {model}", path=weights)
    own = named.reading("torchvision", model)
    mean, std = checkpoints.normalisation(header, weights) or (own.mean, own.std)
    return network, mean, std


def head_names(model: str) -> tuple[str, ...]:
    """What the weight of its classifier is called."""
    return (f"{named.head_name('torchvision', model)}.weight",)


def map_names(network: nn.Module, model: str, modules: tuple[str, ...] | None = None) -> tuple[str, ...]:
    """`modules`, None = the last of each size. ValueError for modules that are not there."""
    return timm_models.map_names(network, model, modules or named.map_names("torchvision", model))


def embed(network: Any, x: Tensor) -> Tensor:
    """The vector (N, D) that the classifier reads, once the classifier is taken out of the network."""
    embedding: Tensor = network(x)
    return embedding
