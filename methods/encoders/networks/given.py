"""A network that a caller gives: which of its outputs are logits and embedding, and the linear layer between them."""

import copy
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from methods.base import Head, nearest
from methods.encoders.networks import timm_models

Form = Literal["logits", "pair", "dict"]
IMAGES = 8  # that it is tried on
KEYS = ("embedding", "logits", "layers")
_NAMED = 12  # candidates that a message names
TOLERANCE = {"32": 1e-3, "tf32": 1e-2, "bf16": 1e-1}  # relative


@dataclass(frozen=True, eq=False)
class GivenNetwork:
    """A copy of a caller's network, in evaluation mode on the CPU, and what was found out about it on `batch`.

    head_name: the module whose input is the embedding, of a network that returns logits alone. maps: modules that are
    read as layers. given: what it made of `batch`.
    """

    network: nn.Module
    title: str
    batch: Tensor
    head_name: str | None
    head: Head | None
    maps: tuple[str, ...]
    given: Mapping[str, Tensor]
    layer_sizes: tuple[int, ...]

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256, in hex, over its weights and what it gives for the images that it was tried on."""
        digest = hashlib.sha256(f"{type(self.network)}".encode())
        for name, values in (*sorted(self.network.state_dict().items()), *sorted(self.given.items())):
            if isinstance(values, Tensor):
                digest.update(f"{name} {values.dtype} {tuple(values.shape)}".encode())
                digest.update(values.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        return digest.hexdigest()


def look(
    network: nn.Module, batch: Tensor, *, head: str | None = None, layers: Sequence[str] | None = None
) -> GivenNetwork:
    """Try a network on a few images as it reads them. The caller's stays untouched.

    head: the name of the linear layer that gives the logits; layers: names of modules whose maps are read; None: the
    maps that timm lists of its own networks. ValueError, in one line, for a network whose outputs cannot be told.
    """
    title = type(_unwrapped(network)).__name__
    own = _copied(network, title).eval().float().cpu()
    batch = batch[:IMAGES]
    calls: dict[str, tuple[Head, Tensor]] = {}
    there, modules = _linear_layers(own), dict(own.named_modules())
    if head is not None and head not in modules:
        raise ValueError(f"head: {title} has no module {head!r}; {nearest(head, there)}")
    if head is not None and head not in there:
        raise ValueError(f"head: {head} of {title} is no linear layer; {nearest(head, there)}")
    handles = [
        own.get_submodule(name).register_forward_hook(partial(_note, calls, name, there[name])) for name in there
    ]
    try:
        with torch.no_grad():
            outputs = parts(own(batch if not batch.is_floating_point() else batch.float()), title)
    except ValueError:
        raise
    except Exception as error:  # of the caller's code
        why = " ".join(str(error).split())[:200]
        form = f"{str(batch.dtype).removeprefix('torch.')} {tuple(batch.shape)}"
        raise ValueError(f"{title} cannot read a batch of {form}: {type(error).__name__}: {why}") from error
    finally:
        for handle in handles:
            handle.remove()
    _check(outputs, len(batch), title)
    head_name = None
    found: Head | None = None
    logits, embedding = outputs.get("logits"), outputs.get("embedding")
    if logits is not None:
        _refuse_probabilities(logits, title)
        chosen = {head: there[head]} if head is not None else there
        if embedding is None:
            proved = [name for name, (layer, x) in calls.items() if name in chosen and proves(layer, x, logits)]
            if not proved:
                raise ValueError(_no_head(title, head, there, logits))
            head_name = proved[-1]
            found, outputs["embedding"] = calls[head_name]
        else:
            proving = [layer for layer in chosen.values() if proves(layer, embedding, logits)]
            if not proving:
                raise ValueError(_no_pair(title, head, there, embedding, logits))
            found = proving[-1]
    elif embedding is None and "layers" not in outputs:
        raise ValueError(f"{title} returns none of {', '.join(KEYS)}")
    maps = _maps(own, title, layers)
    if maps and "layers" in outputs:
        raise ValueError(f"layers: {title} returns layers itself; leave the names of modules out")
    reader = Reader(own, title, head_name, maps)
    try:
        with torch.no_grad():
            again = reader(batch)
    finally:
        reader.close()
    return GivenNetwork(own, title, batch, head_name, found, maps, again, reader.layer_sizes)


class Reader:
    """Runs a network and reads embedding, logits and layers, float32, as far as they are there.

    Logits of a network with a head are not among them: they are the head's own arithmetic on the embedding.
    """

    def __init__(self, network: nn.Module, title: str, head_name: str | None, maps: tuple[str, ...]) -> None:
        self.layer_sizes: tuple[int, ...] = ()
        self._network, self._title = network, title
        self._seen: dict[str, Tensor] = {}
        before = {module: dict(module._forward_hooks) for module in network.modules()}
        if head_name is not None:
            dict(network.named_modules())[head_name].register_forward_hook(partial(_keep_input, self._seen))
        self._maps = timm_models.PooledMaps(network, title, maps) if maps else None
        self._hooks = [
            (module, number) for module, there in before.items() for number in module._forward_hooks.keys() - there
        ]

    def close(self) -> None:
        """Take its hooks off."""
        for module, number in self._hooks:
            module._forward_hooks.pop(number, None)

    def __call__(self, x: Tensor) -> dict[str, Tensor]:
        found = parts(self._network(x), self._title)
        found.update(self._seen)
        self._seen.clear()
        layers = self._maps.take() if self._maps is not None else found.pop("layers", None)
        if layers is not None:
            self.layer_sizes = tuple(layer.shape[1] for layer in layers)
            found["layers"] = torch.cat(list(layers), 1)
        return {name: values.float() for name, values in found.items()}


def parts(output: Any, title: str) -> dict[str, Any]:
    """What a network returned, by the names of features: a tensor is logits, a pair (embedding, logits).

    `layers` of a dict: a list of (N, C), or of maps (N, C, H, W), which are averaged over the image.
    """
    if isinstance(output, Tensor):
        return {"logits": output}
    if isinstance(output, Mapping):
        found = {name: output[name] for name in KEYS if output.get(name) is not None}
        if not found:
            raise ValueError(
                f"{title} returns a dict of {', '.join(map(str, output))[:100]}: none of {', '.join(KEYS)}"
            )
        layers = found.get("layers")
        if layers is not None:
            layers = [layers] if isinstance(layers, Tensor) else list(layers)
            found["layers"] = [layer.float().mean((2, 3)) if layer.ndim == 4 else layer.float() for layer in layers]
        return found
    if isinstance(output, tuple | list):
        if len(output) == 2 and all(isinstance(part, Tensor) for part in output):
            return {"embedding": output[0], "logits": output[1]}
        kinds = ", ".join(type(part).__name__ for part in output)
        raise ValueError(f"{title} returns ({kinds:.100}): return logits, (embedding, logits), or a dict of them")
    raise ValueError(
        f"{title} returns a {type(output).__name__}: return logits, (embedding, logits), or a dict of them"
    )


def proves(layer: Head, embedding: Tensor, logits: Tensor) -> bool:
    """Whether logits = embedding @ W.T + b, to float32 rounding."""
    weight = layer.weight
    if embedding.ndim != 2 or embedding.shape[1] != weight.shape[1] or logits.shape[1] != weight.shape[0]:
        return False
    return close(layer(embedding.float()), logits.float(), "32")


def close(ours: Tensor, theirs: Tensor, exactness: str) -> bool:
    """Whether two results of one network are the same but for rounding, and for the order of its sums."""
    relative = TOLERANCE[exactness]
    largest = float(theirs.abs().max())
    return ours.shape == theirs.shape and torch.allclose(ours, theirs, rtol=relative, atol=relative / 10 * largest)


def _unwrapped(network: nn.Module) -> nn.Module:
    """Without what carries it to several devices, or compiles it."""
    while True:
        if isinstance(network, nn.DataParallel | nn.parallel.DistributedDataParallel):
            network = network.module
        elif isinstance(inner := getattr(network, "_orig_mod", None), nn.Module):
            network = inner
        else:
            return network


def _copied(network: nn.Module, title: str) -> nn.Module:
    """A copy that shares nothing. What a forward pass left in a module (an activation with its graph) is detached."""
    network = _unwrapped(network)
    memo: dict[int, Any] = {}
    for module in network.modules():
        for value in vars(module).values():
            if isinstance(value, Tensor) and value.grad_fn is not None:
                memo[id(value)] = value.detach().clone()
    try:
        return copy.deepcopy(network, memo)
    except Exception as error:  # of whatever the caller keeps in it
        why = " ".join(str(error).split())[:200]
        raise ValueError(f"{title} cannot be copied ({type(error).__name__}: {why}): evaluate runs a copy") from error


def _linear_layers(network: nn.Module) -> dict[str, Head]:
    """Every module that has the weights of a linear layer, by its name."""
    return dict(_linear(network))


def _linear(network: nn.Module) -> Iterator[tuple[str, Head]]:
    for name, module in network.named_modules():
        weight, bias = getattr(module, "weight", None), getattr(module, "bias", None)
        if isinstance(module, nn.Embedding) or not isinstance(weight, Tensor) or weight.ndim != 2:
            continue
        if bias is None:
            bias = torch.zeros(len(weight))
        if isinstance(bias, Tensor) and bias.shape == weight.shape[:1]:
            yield name, Head(weight.detach().float().clone(), bias.detach().float().clone())


def _note(calls: dict[str, tuple[Head, Tensor]], name: str, layer: Head, module: nn.Module, x: Any, y: Any) -> None:
    """A forward hook: what the layer read, the last call last."""
    if x and isinstance(x[0], Tensor) and x[0].ndim == 2:
        calls.pop(name, None)
        calls[name] = layer, x[0].detach()


def _keep_input(seen: dict[str, Tensor], module: nn.Module, x: Any, y: Any) -> None:
    seen["embedding"] = x[0]


def _maps(network: nn.Module, title: str, layers: Sequence[str] | None) -> tuple[str, ...]:
    """The modules that are read as layers; none where nobody names any."""
    if layers is not None:
        return timm_models.map_names(network, title, tuple(layers)) if layers else ()
    listed = getattr(network, "feature_info", None)
    there = {name for name, _ in network.named_modules()}
    if not isinstance(listed, list) or not all(
        isinstance(info, dict) and info.get("module") in there for info in listed
    ):
        return ()
    return tuple(info["module"] for info in listed)


def _check(outputs: Mapping[str, Any], n: int, title: str) -> None:
    """ValueError for outputs that are not one finite vector an image."""
    for name, values in outputs.items():
        for value in values if name == "layers" else [values]:
            if not isinstance(value, Tensor) or value.ndim != 2 or len(value) != n or not value.shape[1]:
                form = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
                raise ValueError(f"{title}: {name} of {n} images is {form}; it must be ({n}, columns)")
            if not bool(value.isfinite().all()):
                raise ValueError(f"{title}: {name} of the first images holds NaN or infinity")
    if (logits := outputs.get("logits")) is not None and logits.shape[1] < 2:
        raise ValueError(f"{title} returns one number an image: logits are one for each of at least 2 classes")


def _refuse_probabilities(logits: Tensor, title: str) -> None:
    """ValueError for what a softmax gave: scores of logits would be wrong, and look right."""
    logits = logits.double()
    sums = logits.sum(1)
    if bool((logits >= 0).all()) and torch.allclose(sums, torch.ones_like(sums), atol=1e-3):
        raise ValueError(f"{title} returns probabilities (they add up to 1), not logits: take its softmax off")
    sums = logits.logsumexp(1)
    if bool((logits <= 0).all()) and torch.allclose(sums, torch.zeros_like(sums), atol=1e-3):
        raise ValueError(f"{title} returns log-probabilities, not logits: take its log-softmax off")


def _no_head(title: str, head: str | None, there: Mapping[str, Head], logits: Tensor) -> str:
    tried = f"its layer {head}" if head is not None else "a linear layer of it"
    return (
        f"the logits of {title} are not what {tried} makes of one vector an image; candidates: "
        f"{_candidates(there, logits.shape[1])}; name one (head=...), or return (embedding, logits), or a dict of "
        "`embedding` alone"
    )


def _no_pair(title: str, head: str | None, there: Mapping[str, Head], embedding: Tensor, logits: Tensor) -> str:
    if any(proves(layer, logits, embedding) for layer in there.values()):
        return f"{title} returns (logits, embedding): return (embedding, logits)"
    tried = f"its layer {head}" if head is not None else "no linear layer of it"
    gives = "does not give" if head is not None else "gives"
    return (
        f"{title} returns an embedding of {embedding.shape[1]} columns and {logits.shape[1]} logits, but {tried} "
        f"{gives} the second from the first; candidates: {_candidates(there, logits.shape[1])}"
    )


def _candidates(there: Mapping[str, Head], classes: int) -> str:
    """Linear layers by their names and columns, those with as many outputs as there are logits first."""
    ordered = sorted(there.items(), key=lambda layer: len(layer[1].weight) != classes)
    named = [f"{name or '(itself)'} {layer.weight.shape[1]} -> {len(layer.weight)}" for name, layer in ordered]
    return ", ".join(named[:_NAMED]) + (f" and {len(named) - _NAMED} more" if len(named) > _NAMED else "") or "none"
