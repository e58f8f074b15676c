"""Batch norms folded into the convolutions before them: the same network for fewer passes over its maps."""

import copy
import gc
from collections import Counter
from collections.abc import Collection, Iterator
from typing import TypeVar

from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from methods.encoders.networks.cifar import Network

N = TypeVar("N", bound=nn.Module)


def fuse(network: N, *, read: Collection[str] = ()) -> N:
    """A copy of `network` to encode with: every batch norm that alone reads a convolution is part of it.

    read: names of modules whose output someone listens to; it is what it was, to float32 rounding. The modules
    keep their names. A norm's place is taken by its activation (timm's BatchNormAct2d), or by the identity.
    A network that torch.fx cannot follow is copied as it is.
    """
    fused = copy.deepcopy(network).eval()
    for conv_name, norm_name in list(_pairs(fused, read)):
        conv, norm = fused.get_submodule(conv_name), fused.get_submodule(norm_name)
        assert isinstance(conv, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        activation = getattr(norm, "act", None)
        # in float64, so that the weights are rounded once
        fused.set_submodule(conv_name, fuse_conv_bn_eval(conv.double(), norm.double()).float())
        fused.set_submodule(norm_name, nn.Identity() if activation is None else activation)
    return fused


class _Tracer(fx.Tracer):
    """Looks into every module but convolutions and norms, timm's own kinds included."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, (nn.Conv2d, nn.BatchNorm2d)) or super().is_leaf_module(m, module_qualified_name)


def _graph(network: nn.Module) -> fx.Graph:
    """The calls of a forward pass; none where torch.fx cannot follow it. Nothing of it holds the network."""
    tracer = _Tracer()
    own = isinstance(network, Network)
    if own:  # what encoders read of it; it may have lost its head
        tracer.traced_func_name = "stages"
    try:
        graph = tracer.trace(network)
    except Exception:  # a forward that depends on its input: of many kinds, and all mean that nothing is known
        graph = fx.Graph()
    vars(tracer).clear()  # torch.fx leaves it in a circle of references
    if not own:
        gc.collect()  # and, where it met a loop or an error, frames, with every frame below them
    return graph


def _pairs(network: nn.Module, read: Collection[str]) -> Iterator[tuple[str, str]]:
    """The names of each convolution and norm that can become one."""
    graph = _graph(network)
    calls = [node for node in graph.nodes if node.op == "call_module"]
    times = Counter(str(node.target) for node in calls)
    for node in calls:
        before = node.args[0] if node.args else None
        if not (isinstance(before, fx.Node) and before.op == "call_module" and len(before.users) == 1):
            continue
        conv, norm = str(before.target), str(node.target)
        if times[conv] > 1 or times[norm] > 1:  # one module in two places
            continue
        # what is read would change, or be gone: a convolution without its norm, the inside of a norm
        if any((_inside(conv, name) and not _inside(norm, name)) or name.startswith(f"{norm}.") for name in read):
            continue
        if isinstance(network.get_submodule(conv), nn.Conv2d) and _foldable(network.get_submodule(norm)):
            yield conv, norm


def _foldable(norm: nn.Module) -> bool:
    """A batch norm with statistics of its own and nothing between it and its activation."""
    return (
        isinstance(norm, nn.BatchNorm2d)
        and norm.running_mean is not None
        and isinstance(getattr(norm, "drop", None), (nn.Identity, type(None)))
        and isinstance(getattr(norm, "aa", None), (nn.Identity, type(None)))
    )


def _inside(name: str, container: str) -> bool:
    return name == container or name.startswith(f"{container}.")
