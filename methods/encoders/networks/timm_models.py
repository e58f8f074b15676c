"""timm's networks for the encoders that stand on them: where their weights are, and their maps pooled."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from methods.base import CannotRun, nearest
from methods.encoders.base import HeadClasses
from methods.encoders.networks import checkpoints

HUB_FILE = "model.safetensors"
HUB_TIMEOUT = 5.0  # seconds: the hub's client would retry for half a minute where there is no network


def known(model: str) -> str:
    """The model; ValueError, naming the nearest, where timm has none of that name and tag."""
    configuration(model, None)
    return model


def configuration(model: str, resolution: int | None) -> Any:
    """timm's configuration of a model's weights; ValueError for an unknown model, tag, or impossible size."""
    import timm

    try:
        config = timm.get_pretrained_cfg(model)
    except RuntimeError:  # the architecture is there, the tag is not
        architecture = model.split(".")[0]
        tags = timm.list_models(f"{architecture}.*", pretrained=True)
        raise ValueError(f"timm has no weights {model!r}; {nearest(model, tags)}") from None
    if config is None or not timm.is_model(model):
        raise ValueError(f"timm has no model {model!r}; {nearest(model, timm.list_models())}")
    if config.fixed_input_size and resolution not in (None, config.input_size[-1]):
        raise ValueError(
            f"{model} reads images of {config.input_size[-1]} pixels only, not {resolution}: "
            f"set resolution: {config.input_size[-1]}"
        )
    return config


def find_weights(model: str, resolution: int, directory: Path | None, *, download: bool) -> Path:
    """`<directory>/<model>.safetensors`, with the tag or without, then the Hugging Face cache, then the hub.

    ValueError for a model that timm does not have, CannotRun where there are no weights.
    """
    import huggingface_hub

    config = configuration(model, resolution)
    stems = (model, f"{config.architecture}.{config.tag}", config.architecture)
    if (path := checkpoints.find(directory, *stems)) is not None:
        return path
    where = f"put them at {directory or '<weights>'}/{model}.safetensors"
    if config.hf_hub_id is None:
        raise CannotRun(f"no weights of {model} are published: {where}")
    file = config.hf_hub_filename or HUB_FILE
    cached = huggingface_hub.try_to_load_from_cache(config.hf_hub_id, file)
    if isinstance(cached, str):
        return Path(cached)
    remedy = f"{where}, or run `hf download {config.hf_hub_id} {file}` where there is a network"
    if not download:
        raise CannotRun(f"no weights of {model} here: {remedy}")
    try:
        # One try, with the client's own proxies, before the client's many.
        huggingface_hub.get_session().head(huggingface_hub.constants.ENDPOINT, timeout=HUB_TIMEOUT)
        return Path(huggingface_hub.hf_hub_download(config.hf_hub_id, file))
    except Exception as error:  # offline, proxy, gated, disk: of many libraries, and all mean the same here
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise CannotRun(f"no weights of {model} here, and the download failed ({reason}): {remedy}") from error


def pretrained(
    model: str, resolution: int, weights: Path, *, head: bool = False
) -> tuple[nn.Module, tuple[float, ...], tuple[float, ...]]:
    """The network on the CPU, and the mean and std that it was trained with.

    These come from the file's header, else from timm's configuration. head: with its classifier, where the file holds
    one. ValueError where the file does not fit.
    """
    config = configuration(model, resolution)
    with torch.device("meta"):  # its names and sizes alone: random weights of a ViT take seconds
        like = build(model, 0)
    state, header = checkpoints.read(weights, like)
    mean, std = checkpoints.normalisation(header, weights) or (tuple(config.mean), tuple(config.std))
    count = (head and checkpoints.classes_in(state, head_names(model))) or 0
    network = build(model, count)
    # a published file holds the classifier, which the network may be built without
    beside = () if count else tuple(name.removesuffix("weight") for name in head_names(model))
    checkpoints.load(network, state, name=model, path=weights, beside=beside)
    return network, mean, std


def build(model: str, classes: int, **sized: Any) -> nn.Module:
    """The network with random weights, on torch's default device."""
    import timm

    with building(model) as device:
        network: nn.Module = timm.create_model(model, pretrained=False, num_classes=classes, **sized)
        return network.to(device)


@contextmanager
def building(model: str) -> Iterator[torch.device]:
    """Gives torch's default device, and builds on it, or on the CPU what has to be put there afterwards."""
    device = torch.get_default_device()
    # a RegNet's widths come out of tensors, which have to hold numbers (torchvision's; timm's before 1.0.30)
    with torch.device("cpu" if model.startswith("regnet") else device):
        yield device


def head_names(model: str) -> tuple[str, ...]:
    """What the weights of its classifier are called, as timm has it."""
    found = configuration(model, None).classifier or ()
    return tuple(f"{name}.weight" for name in ((found,) if isinstance(found, str) else found))


def of_imagenet(head: HeadClasses) -> HeadClasses:
    """timm's 1,000 outputs are ImageNet's classes, where the file does not say otherwise."""
    silent = head.count == 1000 and head.names is None and head.trained_on is None
    return HeadClasses(1000, trained_on="imagenet") if silent else head


def classifier(network: Any, model: str) -> nn.Linear:
    """The linear layer behind the embedding; ValueError for a model that classifies in another way."""
    layer = network.get_classifier()
    if not isinstance(layer, nn.Linear) or layer.bias is None:
        raise ValueError(f"{model} does not end in one linear layer with a bias: choose another model")
    return layer


def map_names(network: nn.Module, model: str, modules: tuple[str, ...] | None = None) -> tuple[str, ...]:
    """`modules`, None = those of all maps that timm lists. ValueError for modules that are not there."""
    there = dict(network.named_modules())
    listed = tuple(info["module"] for info in getattr(network, "feature_info", ()))
    names = modules if modules is not None else listed
    if not names:
        raise ValueError(f"timm lists no feature maps for {model}: name modules in `layers`")
    for name in names:
        if name not in there:
            raise ValueError(f"{model} has no module {name!r}; {nearest(name, listed or there)}")
    return names


class PooledMaps:
    """The output of chosen modules (`map_names`), averaged over the image, after each forward pass of `network`.

    side: each map is first resized (bilinear, align_corners=True) to side x side, None = not.
    """

    def __init__(
        self, network: nn.Module, model: str, modules: tuple[str, ...] | None = None, *, side: int | None = None
    ) -> None:
        self.names = map_names(network, model, modules)
        # What the hooks hold, holds neither the network nor this: a network that nobody uses any more goes at once.
        self._pooled: dict[str, Tensor] = {}
        last = getattr(network, "output_fmt", "NCHW") == "NHWC"
        for name in self.names:
            prefix = getattr(network, "num_prefix_tokens", 0)
            keep = partial(_keep, self._pooled, name, side=side, channels_last=last, prefix=prefix)
            network.get_submodule(name).register_forward_hook(keep)

    def take(self) -> list[Tensor]:
        """Of the last pass: (N, C) a module, float32. They are given once."""
        taken = [self._pooled[name] for name in self.names]
        self._pooled.clear()
        return taken


def _keep(
    pooled: dict[str, Tensor],
    name: str,
    module: nn.Module,
    inputs: Any,
    output: Any,
    *,
    side: int | None,
    channels_last: bool,
    prefix: int,
) -> None:
    """A forward hook. Pooled at once: maps are not kept, and what a later layer does in place comes too late."""
    maps = _as_map(output, name, channels_last=channels_last, prefix=prefix)
    with torch.autocast(maps.device.type, enabled=False):
        maps = maps.float()
        if side is not None:
            maps = functional.interpolate(maps, (side, side), mode="bilinear", align_corners=True)
        pooled[name] = maps.mean((2, 3))


def embed(network: Any, x: Tensor) -> Tensor:
    """The vector (N, D) that the classifier of a timm network reads."""
    embedding: Tensor = network.forward_head(network.forward_features(x), pre_logits=True)
    return embedding


def _as_map(output: Any, name: str, *, channels_last: bool, prefix: int) -> Tensor:
    """A module's output as (N, C, H, W): channels last or tokens (N, L, C) are turned round."""
    if isinstance(output, Tensor) and output.ndim == 4:
        return output.permute(0, 3, 1, 2) if channels_last else output
    if isinstance(output, Tensor) and output.ndim == 3:
        tokens = output[:, prefix:]
        side = math.isqrt(tokens.shape[1])
        if side * side == tokens.shape[1]:
            return tokens.transpose(1, 2).reshape(tokens.shape[0], -1, side, side)
    shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
    raise ValueError(f"the output of {name} is no feature map ({shape}): choose other layers")
