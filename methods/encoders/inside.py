"""A network's own pass with more of it: a few numbers an image of every map, taken while it runs. No map is kept."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from methods.base import Count
from methods.encoders.base import Encoder, Images, register
from methods.encoders.networks.one_network import OneNetwork
from methods.encoders.networks.rerun import Rerun
from methods.vectors.statistics import CACHE

_RELUS = (functional.relu, functional.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_)
_OTHERS = ("relu6", "leaky_relu", "elu", "celu", "selu", "gelu", "silu", "mish", "hardswish", "hardtanh", "softplus")
ACTIVATIONS = frozenset((*_RELUS, *(getattr(functional, name) for name in _OTHERS)))
CONVOLUTIONS = frozenset((functional.conv2d, torch.conv2d))

Extra = Literal["gram", "extremes", "gradients"]


@register("inside")
@dataclass
class Inside(Rerun):
    """The features of `base` and, of the same pass, the `extras` that are asked for, a column for each number.

    "gram": of the output of every convolution and every activation, C x HW, and every power p up to `powers`,
    G_p = sign(r) |r|^(1/p), r the row sums of F^p (F^p)' (Gram; `powers` C columns a map). Its convolutions are those
    of the file: no norm is part of them.
    "extremes": the largest entry and minus the smallest of what goes into every activation (CombOOD; 2 columns each).
    "gradients": of every feature map but the last, the sum of each channel over the positions times that of the
    gradient of KL(uniform | p) by it (NAC over several layers; C columns a map); one gradient pass.
    """

    title = "inside"
    paper = (
        "Sastry and Oore, Detecting Out-of-Distribution Examples with Gram Matrices, ICML 2020, "
        "https://arxiv.org/abs/1912.12510"
    )

    extras: tuple[Extra, ...] = ("gram",)
    powers: Count = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.extras or len(set(self.extras)) != len(self.extras):
            raise ValueError("inside: extras are one or more of gram, extremes, gradients, each of them once")
        self._sizes: dict[str, tuple[int, ...]] = {}

    @property
    def offers(self) -> tuple[str, ...]:
        return (*super().offers, *self.extras)

    @property
    def extra_sizes(self) -> Mapping[str, tuple[int, ...]]:
        return self._sizes

    def prepare(self, base: Encoder) -> None:
        super().prepare(base)
        if "gram" in self.extras:
            assert isinstance(base, OneNetwork)
            base.fused = False

    def stand_on(self, base: Encoder) -> None:
        super().stand_on(base)
        side = self.below.resolution
        found = self._pass(torch.zeros((1, 3, side, side), device=self.below.placed.device))[1]
        self._sizes = {name: tuple(part.shape[1] for part in parts) for name, parts in found.items()}

    def encode(self, images: Images) -> dict[str, Tensor]:
        return self._joined(self.resized(images))

    def encode_pixels(self, pixels: Tensor) -> dict[str, Tensor]:
        return super().encode_pixels(pixels) if "gradients" in self.extras else self._joined(pixels)

    def _joined(self, pixels: Tensor) -> dict[str, Tensor]:
        features, found = self._pass(pixels)
        return {**features, **{name: torch.cat(parts, dim=1).float() for name, parts in found.items()}}

    def _pass(self, pixels: Tensor) -> tuple[dict[str, Tensor], dict[str, list[Tensor]]]:
        """The features, and each extra as one tensor (N, c) a layer."""
        below, differentiates = self.below, "gradients" in self.extras
        with below.placed.differentiating() if differentiates else below.placed.running():
            listening = _Listening(
                self.network if differentiates else None,
                below.maps[:-1],
                powers=self.powers if "gram" in self.extras else 0,
                extremes="extremes" in self.extras,
            )
            with listening:
                features = below.features(below.normalised(pixels))
            found = {"gram": listening.gram, "extremes": listening.extremes}
            if differentiates:
                found["gradients"] = _gradients(features["logits"], listening.maps)
        features = {name: values.detach() for name, values in features.items()}
        return features, {name: [part.detach() for part in found[name]] for name in self.extras}


def gram(maps: Tensor, powers: int) -> Tensor:
    """G_p of each power 1 .. `powers`, one after the other: (N, powers C) float64 of maps (N, C, L)."""
    rows = [maps.new_zeros(maps.shape[:2], dtype=torch.float64) for _ in range(powers)]  # sums of F^p (F^p)'
    for images, places in _parts(maps):
        values = maps[images, :, places].double()
        power = torch.ones_like(values)
        for found in rows:
            power.mul_(values)
            found[images] += (power @ power.sum(dim=1)[:, :, None])[:, :, 0]  # which is never made
    return torch.cat([found.sign() * found.abs() ** (1 / p) for p, found in enumerate(rows, start=1)], dim=1)


def _parts(maps: Tensor) -> Iterator[tuple[slice, slice]]:
    """Images and positions of maps (N, C, L) that every power goes over while they are in a core's cache."""
    count, channels, positions = maps.shape
    if torch.compiler.is_exporting() or maps.device.type != "cpu":
        yield slice(None), slice(None)
        return
    width = max(1, min(positions, CACHE // (16 * channels)))
    height = max(1, CACHE // (16 * channels * positions))
    for image in range(0, count, height):
        for place in range(0, positions, width):
            yield slice(image, image + height), slice(place, place + width)


def _gradients(logits: Tensor, maps: list[Tensor]) -> list[Tensor]:
    """Sums over positions of each map (N, C, L) times those of its gradient; the KL of each image is its own."""
    loss = -logits.double().log_softmax(dim=1).mean(dim=1).sum()  # KL(uniform | p) but for a constant
    gradients = torch.autograd.grad(loss, maps)
    pairs = ((_positions(values), _positions(gradient)) for values, gradient in zip(maps, gradients, strict=True))
    return [values.double().sum(dim=2) * gradient.double().sum(dim=2) for values, gradient in pairs]


def _positions(maps: Tensor, *, last: bool = False) -> Tensor:
    """A map as (N, C, L); tokens, and after a linear layer all maps, have their channels `last`."""
    return maps.flatten(1, -2).mT if last or maps.ndim == 3 else maps.flatten(2)


class _Listening(TorchFunctionMode):
    """While it is entered: what comes out of convolutions and activations, reduced at once; and chosen maps."""

    def __init__(self, network: nn.Module | None, names: tuple[str, ...], *, powers: int, extremes: bool) -> None:
        super().__init__()
        self.gram: list[Tensor] = []
        self.extremes: list[Tensor] = []
        self.maps: list[Tensor] = []
        self._powers, self._takes_extremes = powers, extremes
        self._last = False
        self._network, self._names = network, names
        self._hooks: list[torch.utils.hooks.RemovableHandle] = []

    def __enter__(self) -> "_Listening":
        if self._network is not None:
            keep = partial(_keep, self.maps)
            self._hooks = [self._network.get_submodule(name).register_forward_hook(keep) for name in self._names]
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        for hook in self._hooks:
            hook.remove()

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        activates, convolves = func in ACTIVATIONS, func in CONVOLUTIONS
        if activates and self._takes_extremes:  # now: it may be done in place
            entries = args[0].detach().flatten(1).double()
            self.extremes.append(torch.stack([entries.amax(dim=1), -entries.amin(dim=1)], dim=1))
        output = func(*args, **(kwargs or {}))
        if func in (functional.linear, torch.conv2d, functional.conv2d):
            self._last = func is functional.linear
        if self._powers and (activates or convolves) and output.ndim > 2:
            self.gram.append(gram(_positions(output.detach(), last=self._last), self._powers))
        return output


def _keep(maps: list[Tensor], module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
    """A forward hook: the map as something to ask for a gradient; a copy goes on, which may be changed in place."""
    maps.append(output if output.requires_grad else output.detach().clone().requires_grad_())
    return maps[-1].clone()
