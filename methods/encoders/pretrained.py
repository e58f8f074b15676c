"""Any timm model with its published weights: pooled feature maps, and the embedding before its classifier."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from methods.base import CannotRun, nearest
from methods.encoders import checkpoints, preprocessing
from methods.encoders.base import Encoder, Images, register
from methods.encoders.inference import check_precision, inference

HUB_FILE = "model.safetensors"
HUB_TIMEOUT = 5.0  # seconds: the hub's client would retry for half a minute where there is no network


@register("pretrained")
@dataclass
class Pretrained(Encoder):
    """`embedding` (N, D): the pooled last map. `layers`: one pooled vector a feature map. One forward pass.

    model: a timm name with its tag. layers: names of modules, None = all maps that timm lists for the model.
    pooling: "gap", or "grid14": each map is first resized (bilinear, align_corners=True) to the grid of
    stride 16, which is 14 x 14 at 224, then averaged; DLSR's paper says the first, its code does the second
    (paper.md, 2.1). Images are stretched to resolution x resolution. Mean and std come from the weights
    file's header, else from timm's configuration of these weights.
    """

    title = "pretrained (timm)"
    paper = "Wightman, PyTorch Image Models, https://github.com/huggingface/pytorch-image-models"

    model: str = "tf_efficientnet_b4.aa_in1k"
    layers: tuple[str, ...] | None = None
    pooling: Literal["gap", "grid14"] = "gap"
    resolution: int = 224

    def __post_init__(self) -> None:
        if self.layers is not None:
            self.layers = tuple(self.layers)
            if not self.layers:
                raise ValueError("pretrained: layers is empty; leave it out for all of the model's maps")
        if self.pooling not in ("gap", "grid14"):
            raise ValueError(f"pretrained: pooling {self.pooling!r}; {nearest(self.pooling, ('gap', 'grid14'))}")
        if self.resolution < 16:
            raise ValueError(f"pretrained: resolution is at least 16, not {self.resolution}")
        self._network: nn.Module | None = None
        self._mean: tuple[float, ...] = ()
        self._std: tuple[float, ...] = ()
        self._pooled: dict[str, Tensor] = {}
        self._layer_sizes: tuple[int, ...] = ()

    @property
    def offers(self) -> tuple[str, ...]:
        return ("embedding", "layers")

    @property
    def layer_sizes(self) -> tuple[int, ...]:
        return self._layer_sizes

    def find_weights(self, directory: Path | None, *, download: bool = False) -> Path | None:
        """`<directory>/<model>.safetensors`, with the tag or without, then the Hugging Face cache, then the hub.

        ValueError for a model that timm does not have, CannotRun where there are no weights.
        """
        import huggingface_hub

        config = _configuration(self.model, self.resolution)
        stems = (self.model, f"{config.architecture}.{config.tag}", config.architecture)
        if (path := checkpoints.find(directory, *stems)) is not None:
            return path
        where = f"put them at {directory or '<weights>'}/{self.model}.safetensors"
        if config.hf_hub_id is None:
            raise CannotRun(f"no weights of {self.model} are published: {where}")
        file = config.hf_hub_filename or HUB_FILE
        cached = huggingface_hub.try_to_load_from_cache(config.hf_hub_id, file)
        if isinstance(cached, str):
            return Path(cached)
        remedy = f"{where}, or run `hf download {config.hf_hub_id} {file}` where there is a network"
        if not download:
            raise CannotRun(f"no weights of {self.model} here: {remedy}")
        try:
            # One try, with the client's own proxies, before the client's many.
            huggingface_hub.get_session().head(huggingface_hub.constants.ENDPOINT, timeout=HUB_TIMEOUT)
            return Path(huggingface_hub.hf_hub_download(config.hf_hub_id, file))
        except Exception as error:  # offline, proxy, gated, disk: of many libraries, and all mean the same here
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise CannotRun(f"no weights of {self.model} here, and the download failed ({reason}): {remedy}") from error

    def open(self, weights: Path | None, *, device: str = "cpu", precision: str = "32") -> Self:
        import timm

        if weights is None:
            raise ValueError(f"pretrained: {self.model} needs a weights file")
        config = _configuration(self.model, self.resolution)
        self._device, self._precision = device, check_precision(precision)
        state, header = checkpoints.read(weights)
        given = checkpoints.normalisation(header, weights)
        self._mean, self._std = given or (tuple(config.mean), tuple(config.std))
        network = timm.create_model(self.model, pretrained=False, num_classes=0)
        checkpoints.load(network, _without_classifier(state, network, config.classifier), name=self.model, path=weights)
        self._network = network.eval().to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._names = self._hook(network)
        self._run(torch.zeros((1, self.resolution, self.resolution, 3), dtype=torch.uint8))
        self._layer_sizes = tuple(self._pooled[name].shape[1] for name in self._names)
        return self

    def encode(self, images: Images) -> dict[str, Tensor]:
        embedding = self._run(images)
        return {"embedding": embedding, "layers": torch.cat([self._pooled[name] for name in self._names], 1)}

    def _run(self, images: Images) -> Tensor:
        """One forward pass: returns the embedding; the hooks leave the layers in `_pooled`."""
        if self._network is None:
            raise RuntimeError("open the encoder before encode")
        self._pooled.clear()
        pixels = preprocessing.stretch(images, self.resolution, self._device)
        with inference(self._device, self._precision):
            x = preprocessing.normalise(pixels, self._mean, self._std)
            features = self._network.forward_features(x)  # type: ignore[operator]
            embedding: Tensor = self._network.forward_head(features, pre_logits=True).float()  # type: ignore[operator]
        return embedding

    def _hook(self, network: nn.Module) -> tuple[str, ...]:
        """Have every chosen module leave its pooled output behind; their names.

        Pooled at once: maps are not kept, and what a later layer does in place comes too late to matter.
        """
        modules = dict(network.named_modules())
        listed = [info["module"] for info in getattr(network, "feature_info", ())]
        names = self.layers if self.layers is not None else tuple(listed)
        if not names:
            raise ValueError(f"timm lists no feature maps for {self.model}: name modules in `layers`")
        for name in names:
            if name not in modules:
                raise ValueError(f"{self.model} has no module {name!r}; {nearest(name, listed or modules)}")

            def keep(module: nn.Module, inputs: Any, output: Any, name: str = name) -> None:
                with torch.autocast(torch.device(self._device).type, enabled=False):
                    self._pooled[name] = self._pool(_as_map(output, network, name).float())

            modules[name].register_forward_hook(keep)
        return names

    def _pool(self, maps: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C)."""
        if self.pooling == "grid14":
            side = self.resolution // 16
            maps = functional.interpolate(maps, (side, side), mode="bilinear", align_corners=True)
        return maps.mean((2, 3))


def _configuration(model: str, resolution: int) -> Any:
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
    if config.fixed_input_size and resolution != config.input_size[-1]:
        raise ValueError(
            f"{model} reads images of {config.input_size[-1]} pixels only, not {resolution}: "
            f"set resolution: {config.input_size[-1]}"
        )
    return config


def _without_classifier(
    state: dict[str, Tensor], network: nn.Module, classifier: str | tuple[str, ...] | None
) -> dict[str, Tensor]:
    """A published file holds the classifier, which the network here is built without."""
    heads = (classifier,) if isinstance(classifier, str) else classifier or ()
    prefixes = tuple(f"{head}." for head in heads)
    there = network.state_dict()
    return {key: tensor for key, tensor in state.items() if key in there or not key.startswith(prefixes)}


def _as_map(output: Any, network: nn.Module, name: str) -> Tensor:
    """A module's output as (N, C, H, W): channels last or tokens (N, L, C) are turned round."""
    if isinstance(output, Tensor) and output.ndim == 4:
        return output.permute(0, 3, 1, 2) if getattr(network, "output_fmt", "NCHW") == "NHWC" else output
    if isinstance(output, Tensor) and output.ndim == 3:
        tokens = output[:, getattr(network, "num_prefix_tokens", 0) :]
        side = math.isqrt(tokens.shape[1])
        if side * side == tokens.shape[1]:
            return tokens.transpose(1, 2).reshape(len(tokens), -1, side, side)
    shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
    raise ValueError(f"the output of {name} is no feature map ({shape}): choose other layers")
