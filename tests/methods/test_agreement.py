"""Speed costs no accuracy: the scores behind an encoder as it runs, against those behind the plain network.

As it runs: batch norms folded, channels last, the batches of a run, freed memory kept. Plain: the network as it is
built, one batch, torch's own layout. The bounds are in units of the standard deviation of a method's scores.
"""

import functools

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
MEAN, STD = (0.5, 0.45, 0.4), (0.25, 0.2, 0.3)
TRAIN, TEST, BATCH = 96, 32, 24
# the largest difference, and in bf16, where a choice among classes may turn, the mean one
BOUND = {"32": 1e-4, "bf16": 0.2}
BRIEF = {"epochs": 2, "batch_size": 32}
SETTINGS = {
    "knn": {"k": 5},
    "layer_knn": {"k": 5},
    "vim": {"dim": 16},
    "pca": {"components": 16},
    "dlsr": {"blocks": 2, "width": 32},
    "autoencoder": {"blocks": 2, "width": 32},
}
BLIND = ("constant", "random")  # to what the encoder gives
ON_VECTORS = [name for name in methods.names() if name not in BLIND and "pixels" not in methods.get(name).reads]


@functools.cache
def checkpoint_and_pixels(folder):
    torch.manual_seed(0)
    network = lived_in(cifar.build("resnet20", 10))
    torch.nn.init.normal_(network.head.weight, 0, 0.3)
    path = folder / "resnet20.safetensors"
    save_file(network.state_dict(), path, metadata={"mean": str(list(MEAN)), "std": str(list(STD))})
    # smooth images of their own brightness and colour, so that features differ as those of images do
    coarse = torch.rand(TRAIN + TEST, 3, 4, 4) * torch.rand(TRAIN + TEST, 3, 1, 1)
    pixels = torch.nn.functional.interpolate(coarse, (32, 32), mode="bilinear").mul(255).to(torch.uint8)
    return path, network, pixels.permute(0, 2, 3, 1).contiguous()


@torch.no_grad()
def plain(folder):
    _, network, pixels = checkpoint_and_pixels(folder)
    x = preprocessing.normalise(pixels.permute(0, 3, 1, 2).float().contiguous(), MEAN, STD).contiguous()
    stages = network.stages(x)
    embedding = network.embedding(stages[-1])
    layers = torch.cat([stage.mean((2, 3)) for stage in stages], 1)
    return {"embedding": embedding, "logits": network.head(embedding), "layers": layers}


def optimised(folder, precision):
    path, _, pixels = checkpoint_and_pixels(folder)
    encoder = Classifier("resnet20", checkpoint="resnet20").open(path, precision=precision)
    parts = [encoder.encode(batch) for batch in torch.split(pixels, BATCH)]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("agreement")
    layer = checkpoint_and_pixels(folder)[1].head
    both = {"plain": plain(folder)} | {precision: optimised(folder, precision) for precision in BOUND}
    head = Head(layer.weight.detach(), layer.bias.detach())
    labels = both["plain"]["logits"].argmax(dim=1)
    return {
        name: Features(**x, layer_sizes=SIZES, head=head, labels=labels, index=torch.arange(TRAIN + TEST))
        for name, x in both.items()
    }


def scores(name, x):
    settings = {**(BRIEF if hasattr(methods.get(name), "epochs") else {}), **SETTINGS.get(name, {})}
    return methods.create(name, **settings).fit(x[:TRAIN]).score(x[TRAIN:])


@pytest.mark.parametrize("precision", BOUND)
@pytest.mark.parametrize("name", ON_VECTORS)
def test_scores_agree_with_those_of_the_plain_network(found, name, precision):
    wanted, given = scores(name, found["plain"]), scores(name, found[precision])
    difference = (given - wanted).abs()
    measured = difference.max() if precision == "32" else difference.mean()
    assert float(measured) <= BOUND[precision] * float(wanted.std())
