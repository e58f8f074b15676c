"""Networks by name, timm's and torchvision's: built for any number of classes, with their head and maps found."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import torch
from torch import Tensor, nn

from methods.base import Head, nearest
from methods.encoders.networks import timm_models

Library = Literal["timm", "torchvision"]
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True)
class Reading:
    """How a network's images are prepared: short side to `size` / `crop`, the centre `size` x `size`, (x - mean) / std.

    Mean and std are of pixels from 0 to 1.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: int
    crop: float
    mode: Literal["bilinear", "bicubic"]


@cache
def libraries(name: str) -> tuple[Library, ...]:
    """Those that have a network of that name, timm first; ValueError, naming the nearest, where none has."""
    import timm
    from torchvision import models

    own = models.list_models(module=models)
    here: list[Library] = ["timm"] if timm.is_model(name) else []
    here += ["torchvision"] if name in own else []
    if not here:
        raise ValueError(f"neither timm nor torchvision has a network {name!r}; {nearest(name, timm.list_models())}")
    return tuple(here)


@cache
def library_of(model: str) -> Library:
    """Whose published weights a name means, which may have a tag behind a point: timm's, else torchvision's.

    ValueError, in timm's own words, where neither has them.
    """
    try:
        timm_models.known(model)
    except ValueError:
        import timm
        from torchvision import models

        name, _, tag = model.partition(".")
        if name not in models.list_models(module=models):
            raise
        if tag not in models.get_model_weights(name).__members__ and timm.is_model(name):
            raise
        published(model)  # refuses a tag that there is not
        return "torchvision"
    return "timm"


def published(model: str) -> Any:
    """torchvision's weights of a model: those of its tag, else its default; ValueError, naming the nearest tag."""
    from torchvision import models

    name, _, tag = model.partition(".")
    known = models.get_model_weights(name)
    if tag and tag not in known.__members__:
        raise ValueError(f"torchvision has no weights {tag!r} of {name}; {nearest(tag, known.__members__)}")
    return known[tag] if tag else known.DEFAULT


def build(library: Library, name: str, classes: int, size: int | None = None) -> nn.Module:
    """The network with random weights. `size` of its images, for those that can be built for one size alone."""
    if library == "timm":
        import timm

        config = timm.get_pretrained_cfg(name)
        fixed = size is not None and config is not None and config.fixed_input_size
        sized: dict[str, Any] = {"img_size": size} if fixed else {}
        return timm_models.build(name, classes, **sized)
    from torchvision import models

    name = name.partition(".")[0]
    slow: dict[str, Any] = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    sized = {"image_size": size} if name.startswith("vit_") and size is not None else {}
    with timm_models.building(name) as device:
        network: nn.Module = models.get_model(name, weights=None, num_classes=classes, **slow, **sized).to(device)
    # said as timm says it, for `timm_models.PooledMaps`
    if isinstance(network, models.VisionTransformer):
        network.num_prefix_tokens = 1
    elif isinstance(network, models.SwinTransformer):
        network.output_fmt = "NHWC"
    return network


@cache
def reading(library: Library, name: str) -> Reading:
    """What the library itself does to the images of that network."""
    if library == "timm":
        import timm

        config = timm.get_pretrained_cfg(name)
        if config is None:
            return Reading(*IMAGENET, size=224, crop=0.875, mode="bilinear")
        mode: Literal["bilinear", "bicubic"] = "bicubic" if config.interpolation == "bicubic" else "bilinear"
        return Reading(tuple(config.mean), tuple(config.std), config.input_size[-1], float(config.crop_pct), mode)
    does: Any = published(name).transforms()
    (size,), (short,) = does.crop_size, does.resize_size
    mode = "bicubic" if does.interpolation.value == "bicubic" else "bilinear"
    return Reading(tuple(does.mean), tuple(does.std), size, min(1.0, size / short), mode)


def head_name(library: Library, name: str) -> str:
    """The module name of the linear layer that gives the logits; ValueError where they come from something else."""
    return _layout(library, name)[0]


def has_head(library: Library, name: str) -> bool:
    """Whether its logits come from one linear layer; of a model that is published without classes they do not."""
    try:
        return bool(head_name(library, name))
    except ValueError:
        return False


def map_names(library: Library, name: str) -> tuple[str, ...]:
    """The modules whose outputs are the network's feature maps: timm's own list, else the last of each size."""
    return _layout(library, name)[1]


@cache
def _layout(library: Library, name: str) -> tuple[str, tuple[str, ...]]:
    with torch.device("meta"):
        network = build(library, name, 2)
    if library == "timm":
        layer = network.get_classifier()  # type: ignore[operator]
        head = next((path for path, module in network.named_modules() if module is layer), "")
        maps = timm_models.map_names(network, name)
    else:
        head = [path for path, module in network.named_modules() if isinstance(module, nn.Linear)][-1:]
        head = head[0] if head else ""
        maps = _last_of_each_size(network.eval(), reading(library, name).size)
    if not head or not isinstance(network.get_submodule(head), nn.Linear):
        raise ValueError(f"{name} does not end in one linear layer: its embedding is not known")
    return head, maps


def _last_of_each_size(network: nn.Module, size: int) -> tuple[str, ...]:
    """The outermost module that gave the last map of each height, in order; of a transformer every block."""
    from torchvision import models
    from torchvision.ops.misc import Permute

    if isinstance(network, models.VisionTransformer):
        return tuple(f"encoder.layers.{name}" for name, _ in network.encoder.layers.named_children())
    last: dict[int, str] = {}
    height = 1 if getattr(network, "output_fmt", "NCHW") == "NHWC" else 2
    hooks = []
    for path, module in network.named_modules():
        if not path or path.count(".") > 1 or isinstance(module, (nn.AdaptiveAvgPool2d, Permute)):
            continue

        def note(module: nn.Module, inputs: Any, output: Any, path: str = path) -> None:
            if isinstance(output, Tensor) and output.ndim == 4 and output.shape[height] > 1:
                last.pop(output.shape[height], None)
                last[output.shape[height]] = path

        hooks.append(module.register_forward_hook(note))
    with torch.inference_mode():
        network(torch.zeros(1, 3, size, size, device="meta"))
    for hook in hooks:
        hook.remove()
    return tuple(last.values())


def take_head(
    network: Any, name: str, title: str, size: int, embed: Callable[[Any, Tensor], Tensor] | None = None
) -> Head:
    """The linear layer, out of its network, which then gives the embedding; proved on two images of noise.

    embed: how the embedding comes out of the network without the layer, where not as all of it.
    ValueError where the logits of the whole are not those that the layer makes of the embedding.
    """
    network.eval()
    layer = network.get_submodule(name)
    assert isinstance(layer, nn.Linear)
    bias = torch.zeros(layer.out_features) if layer.bias is None else layer.bias.detach().clone()
    head = Head(layer.weight.detach().clone(), bias)
    noise = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        whole = network(noise)
        network.set_submodule(name, nn.Identity())
        embedding = (embed or nn.Module.__call__)(network, noise)
        right = embedding.ndim == 2 and embedding.shape[1] == layer.in_features and isinstance(whole, Tensor)
        if not right or not torch.allclose(head(embedding), whole, rtol=1e-3, atol=1e-4 * float(whole.abs().max())):
            raise ValueError(f"the logits of {title} are not its layer {name} applied to an embedding (N, D)")
    return head


def best_fit(name: str, states: Mapping[Library, tuple[dict[str, Tensor], nn.Module]]) -> Library:
    """The library whose network a file fits best, by names and shapes; timm's where it fits both alike."""

    def misfit(library: Library) -> int:
        state, network = states[library]
        own: dict[str, Tensor] = network.state_dict()
        head = head_name(library, name)
        wrong = [key for key, tensor in own.items() if key not in state or state[key].shape != tensor.shape]
        return len(state.keys() - own.keys()) + sum(not key.startswith(f"{head}.") for key in wrong)

    return min(states, key=misfit)
