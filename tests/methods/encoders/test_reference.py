"""ODIN, AdaSCALE and RankFeat on a network and images, against code that shares nothing with ours but the network."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

import methods
from benchmark.planning.suite import SUITES
from datasets.sources import find
from methods.base import Features
from methods.encoders.base import Encoder
from methods.encoders.networks import cifar
from methods.encoders.registry import create

FILE = next(Path(SUITES).glob("digits_resnet8*.safetensors"))


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.from_numpy(np.stack(find("digits", "test", None).read(list(range(12)))))


@pytest.fixture(scope="module")
def network() -> nn.Module:
    plain = cifar.build("resnet8", 10)
    plain.load_state_dict(load_file(FILE))
    return plain.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def base() -> Encoder:
    return create("classifier", architecture="resnet8").open(FILE)


def on(base: Encoder, kind: str, **settings: object) -> Encoder:
    encoder = create(kind, base="net", **settings)
    encoder.prepare(base)  # type: ignore[attr-defined]
    encoder.stand_on(base)  # type: ignore[attr-defined]
    return encoder


def statistics() -> list[Tensor]:
    with safe_open(FILE, "pt") as file:
        header = file.metadata()
    return [torch.tensor(json.loads(header[name])).view(1, 3, 1, 1) for name in ("mean", "std")]


def normalised(images: Tensor) -> Tensor:
    mean, std = statistics()
    return (images.permute(0, 3, 1, 2).float() / 255 - mean) / std


def embedding(network: nn.Module, x: Tensor) -> Tensor:
    seen: list[Tensor] = []
    hook = network.linear.register_forward_pre_hook(lambda _, given: seen.append(given[0]))  # type: ignore[operator]
    network(x)
    hook.remove()
    return seen[0]


def test_odin(images: Tensor, network: nn.Module, base: Encoder) -> None:
    found = []
    for image in normalised(images):  # one at a time, as the authors' code goes
        x = image[None].clone().requires_grad_()
        logits = network(x) / 1000
        nn.CrossEntropyLoss()(logits, logits.argmax(1)).backward()
        assert x.grad is not None
        moved = x.detach() - 0.0014 * torch.where(x.grad >= 0, 1.0, -1.0) / statistics()[1]
        found.append(network(moved))
    expected, ours = torch.cat(found), on(base, "perturbed").encode(images)["logits"]
    shift = (expected - network(normalised(images))).abs().mean()
    assert (ours - expected).abs().mean() < 0.01 * shift
    order = methods.create("msp", temperature=1000).score(Features(logits=ours)).argsort()
    assert torch.equal(order, (-(expected.double() / 1000).softmax(1).amax(1)).argsort())


def test_adascale(images: Tensor, network: nn.Module, base: Encoder) -> None:
    pairs = []
    for image in normalised(images):
        x = image[None].clone().requires_grad_()
        network(x).amax(1).sum().backward()
        assert x.grad is not None
        least = x.grad.abs().flatten().argsort(stable=True)[: int(0.05 * x.numel())]
        step = torch.zeros(x.numel()).index_fill_(0, least, 0.5).view_as(x) * x.grad.sign()
        pairs.append((embedding(network, x.detach())[0].double(), embedding(network, x.detach() + step)[0].double()))
    quantities = []
    for z, moved in pairs:
        order = np.argsort(-z.numpy(), kind="stable")  # of 64 entries 5 % are 3, 1 % is one
        quantities.append(float(moved[order[:3].copy()].relu().sum() + 10 * (z - moved)[order[:1].copy()].abs().sum()))
    weight, bias = network.linear.weight.double(), network.linear.bias.double()  # type: ignore[operator, union-attr]
    expected = []
    for (z, _), quantity in zip(pairs[6:], quantities[6:], strict=True):  # the first six are what is fitted on
        percentile = 75 + (1 - np.mean(np.array(quantities[:6]) <= quantity)) * 10
        kept = z.relu().sort(descending=True).values[: 64 - round(64 * percentile / 100)]
        scaled = z.relu() * torch.exp(z.relu().sum() / kept.sum())
        expected.append(-torch.logsumexp(weight @ scaled + bias, 0))
    given = on(base, "perturbed", rule="adascale").encode(images)
    x = Features(embedding=given["embedding"], head=base.head, extras={"perturbed": given["perturbed"]})
    ours = methods.create("adascale").fit(x[:6]).score(x[6:])
    torch.testing.assert_close(ours, torch.stack(expected), rtol=1e-5, atol=0)


def test_rankfeat(images: Tensor, network: nn.Module, base: Encoder) -> None:
    def without_first(_: nn.Module, given: object, output: Tensor) -> Tensor:
        u, s, v = torch.linalg.svd(output.flatten(2).double(), full_matrices=False)
        return (output.double() - (s[:, :1, None] * u[:, :, :1] @ v[:, :1]).view_as(output)).float()

    logits = []
    for stage in (network.layer2, network.layer3):
        hook = stage.register_forward_hook(without_first)  # type: ignore[operator]
        logits.append(network(normalised(images)).double())
        hook.remove()
    ours = methods.create("ebo").score(Features(logits=on(base, "rank_removed").encode(images)["logits"]))
    torch.testing.assert_close(ours.double(), -torch.logsumexp((logits[0] + logits[1]) / 2, 1), rtol=1e-4, atol=1e-4)
