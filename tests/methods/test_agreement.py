"""Speed costs no accuracy: the scores behind an encoder as it runs, against those behind the plain network.

As it runs: batch norms folded, channels last, the batches of a run, freed memory kept. Plain: the network as it is
built, one batch, torch's own layout.

The bounds hold on every processor. Features: a layer rounds its sums of FAN_IN products, or in bf16 its inputs and
outputs, so that LAYERS layers differ by LAYERS times that. Scores: noise of the size of each feature's difference d
moves a score with the gradient g by sqrt(2 / pi) |g d| on average, and no d of that size moves it by more than
sum |g_j d_j| <= sqrt(D) |g d|: more than sqrt(pi D / 2) times as much as the noise is no rounding.
"""

import dataclasses
import functools
import math

import pytest
import torch
from safetensors.torch import save_file

import methods
from methods.base import Features, Head
from methods.encoders.classifier import Classifier
from methods.encoders.images import preprocessing
from methods.encoders.networks import cifar
from tests.methods.encoders.networks.test_fusing import lived_in

SIZES = (16, 32, 64)  # channels of the stages of ResNet-20
CLASSES = 10
MEAN, STD = (0.5, 0.45, 0.4), (0.25, 0.2, 0.3)
TRAIN, TEST, BATCH = 640, 64, 64  # ten images a feature: a covariance that is not the rounding's to decide
LAYERS, FAN_IN = 20, 9 * 64
ROUNDING = {"32": math.sqrt(FAN_IN) * 2.0**-24, "bf16": 2.0**-8}
NAMES = ("embedding", "logits", "layers")
BRIEF = {"epochs": 2, "batch_size": 32}
SETTINGS = {
    "knn": {"k": 5},
    "layer_knn": {"k": 5},
    "vim": {"dim": 16},
    "pca": {"components": 16},
    "ddu": {"jitter": 0.01},
    "dlsr": {"blocks": 2, "width": 32},
    "autoencoder": {"blocks": 2, "width": 32},
}
JUMPS = ("cfood", "nac", "optfs", "relation", "vra", "weiper")  # count: one entry over an edge outweighs the noise
BLIND = ("constant", "random")  # to what the encoder gives
VECTORS = {"embedding", "logits", "layers", "head", "labels"}  # of a pass as it is, not of one that runs otherwise
ON_VECTORS = [name for name in methods.names() if name not in BLIND and set(methods.get(name).reads) <= VECTORS]


@functools.cache
@torch.no_grad()
def checkpoint_and_pixels(folder):
    torch.manual_seed(0)
    network = lived_in(cifar.build("resnet20", CLASSES))
    # smooth images of their own brightness and colour, so that features differ as those of images do
    coarse = torch.rand(TRAIN + TEST, 3, 4, 4) * torch.rand(TRAIN + TEST, 3, 1, 1)
    pixels = torch.nn.functional.interpolate(coarse, (32, 32), mode="bilinear").mul(255).to(torch.uint8)
    pixels = pixels.permute(0, 2, 3, 1).contiguous()
    # a head that tells the nearest of the first images: every class is predicted, and no energy is below 0
    embedding = network.embedding(stages(network, pixels[: 10 * CLASSES])[-1])
    typical = embedding[:CLASSES] - embedding.mean(0)
    network.head.weight.copy_(typical / 10)
    network.head.bias.copy_(20 - (typical @ embedding.mean(0) + typical.square().sum(1) / 2) / 10)
    path = folder / "resnet20.safetensors"
    save_file(network.state_dict(), path, metadata={"mean": str(list(MEAN)), "std": str(list(STD))})
    return path, network, pixels


def stages(network, pixels):
    return network.stages(preprocessing.normalise(pixels.permute(0, 3, 1, 2).float().contiguous(), MEAN, STD))


@torch.no_grad()
def plain(folder):
    _, network, pixels = checkpoint_and_pixels(folder)
    maps = stages(network, pixels)
    embedding = network.embedding(maps[-1])
    layers = torch.cat([stage.mean((2, 3)) for stage in maps], 1)
    return {"embedding": embedding, "logits": network.head(embedding), "layers": layers}


def optimised(folder, precision):
    path, _, pixels = checkpoint_and_pixels(folder)
    encoder = Classifier(architecture="resnet20", checkpoint="resnet20").open(path, precision=precision)
    parts = [encoder.encode(batch) for batch in torch.split(pixels, BATCH)]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("agreement")
    layer = checkpoint_and_pixels(folder)[1].head
    both = {"plain": plain(folder)} | {precision: optimised(folder, precision) for precision in ROUNDING}
    head = Head(layer.weight.detach(), layer.bias.detach())
    labels = both["plain"]["logits"].argmax(dim=1)
    labels[::97] = (labels[::97] + 1) % CLASSES  # a few are predicted wrongly
    return {
        name: Features(**x, layer_sizes=SIZES, head=head, labels=labels, index=torch.arange(TRAIN + TEST))
        for name, x in both.items()
    }


def scores(name, x):
    settings = {**(BRIEF if hasattr(methods.get(name), "epochs") else {}), **SETTINGS.get(name, {})}
    return methods.create(name, **settings).fit(x[:TRAIN]).score(x[TRAIN:])


def noisy(x, other):
    """`x` with noise of the size by which `other` differs, feature by feature."""
    source = torch.Generator().manual_seed(0)
    moved = {}
    for name in NAMES:
        size = (getattr(other, name) - getattr(x, name)).square().mean(0).sqrt()
        moved[name] = getattr(x, name) + size * torch.randn(getattr(x, name).shape, generator=source)
    return dataclasses.replace(x, **moved)


@pytest.mark.parametrize("precision", ROUNDING)
@pytest.mark.parametrize("name", NAMES)
def test_features_agree_with_those_of_the_plain_network(found, name, precision):
    wanted, given = getattr(found["plain"], name), getattr(found[precision], name)
    apart, size = (given - wanted).square().mean().sqrt(), wanted.square().mean().sqrt()
    assert float(apart) <= LAYERS * ROUNDING[precision] * float(size)


@pytest.mark.parametrize("name", ON_VECTORS)
def test_scores_agree_with_those_of_the_plain_network(found, name):
    x = found["plain"]
    wanted = scores(name, x)
    for precision in ROUNDING:
        given, moved = (scores(name, y) for y in (found[precision], noisy(x, found[precision])))
        middle = torch.median if name in JUMPS else torch.mean
        apart, noise = (middle((other - wanted).abs().double()) for other in (given, moved))
        bound = math.sqrt(math.pi / 2 * sum(SIZES)) * float(noise)
        if name in JUMPS:
            # the noise may carry no entry over an edge where the rounding does: then as much as features moved
            bound += LAYERS * ROUNDING[precision] * float(wanted.double().std())
        assert float(apart) <= bound, precision
