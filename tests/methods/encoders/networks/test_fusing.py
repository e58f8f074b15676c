from collections.abc import Iterator

import pytest
import timm
import torch
from torch import Tensor, nn

from methods.encoders.networks import cifar, fusing

BOUND = 1e-5  # relative error (2-norm) of what a fused network gives


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def lived_in(network: nn.Module) -> nn.Module:
    """Norms as after a training: every statistic and weight away from its start, some gains negative."""
    for norm in norms(network):
        assert norm.running_mean is not None
        assert norm.running_var is not None
        norm.running_mean.normal_(0, 0.3)
        norm.running_var.uniform_(0.5, 2)
        nn.init.normal_(norm.weight, 1, 0.4)
        nn.init.normal_(norm.bias, 0, 0.3)
    return network.eval()


def norms(network: nn.Module) -> Iterator[nn.BatchNorm2d]:
    return (module for module in network.modules() if isinstance(module, nn.BatchNorm2d))


def error(given: Tensor, wanted: Tensor) -> float:
    return float((given - wanted).norm() / wanted.norm())


@pytest.mark.parametrize(
    # DenseNet's norms before a ReLU and a convolution stay: 48 in its blocks, 2 in transitions, and the last
    ("name", "left"),
    [(name, 51 if name == "densenet_bc_100_12" else 0) for name in cifar.ARCHITECTURES],
)
@torch.no_grad()
def test_a_fused_classifier_gives_the_same_stages_and_embedding(name: str, left: int) -> None:
    network = lived_in(cifar.build(name, 10))
    before = {key: value.clone() for key, value in network.state_dict().items()}
    fused = fusing.fuse(network)
    x = torch.randn(2, 3, 32, 32)
    for given, wanted in zip(fused.stages(x), network.stages(x), strict=True):
        assert error(given, wanted) < BOUND
    assert error(fused(x), network(x)) < BOUND
    assert len(list(norms(fused))) == left
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


@pytest.mark.parametrize("model", ["test_efficientnet", "test_resnet", "resnetv2_50", "mobilenetv3_small_050"])
@torch.no_grad()
def test_a_fused_timm_model_gives_the_same_embedding_and_maps(model: str) -> None:
    network = lived_in(timm.create_model(model, pretrained=False, num_classes=0))
    read = tuple(info["module"] for info in network.feature_info)
    fused = fusing.fuse(network, read=read)
    x = torch.randn(2, 3, 96, 96)
    given, wanted = maps(fused, read, x), maps(network, read, x)
    assert all(error(given[name], wanted[name]) < BOUND for name in (*read, ""))
    assert len(list(norms(fused))) < len(list(norms(network))) / 2


@pytest.mark.parametrize("read", ["conv_stem", "bn1", "bn1.act", "blocks.0.0.conv"])
@torch.no_grad()
def test_modules_that_are_read_keep_their_output(read: str) -> None:
    """A convolution that is read does not take in the norm behind it."""
    network = lived_in(timm.create_model("test_efficientnet", pretrained=False, num_classes=0))
    x = torch.randn(2, 3, 64, 64)
    fused = fusing.fuse(network, read=(read,))
    assert error(maps(fused, (read,), x)[read], maps(network, (read,), x)[read]) < BOUND
    assert len(list(norms(fused))) <= 1


def maps(network: nn.Module, names: tuple[str, ...], x: Tensor) -> dict[str, Tensor]:
    """Outputs of the modules `names`, and under "" the network's."""
    out: dict[str, Tensor] = {}

    def keep(name: str) -> None:
        # a copy: what follows may work in place
        network.get_submodule(name).register_forward_hook(lambda _, __, output: out.update({name: output.clone()}))

    for name in names:
        keep(name)
    return out | {"": network(x)}


class Shared(nn.Module):
    """A convolution that two read, and one that runs twice before its norm."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.first_norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        self.twice, self.twice_norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        first = self.first(x)
        out: Tensor = self.twice_norm(self.twice(self.twice(self.first_norm(first) + first)))
        return out


class Unforeseen(nn.Module):
    """Its path depends on what it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(self.conv(x))
        return -out if out.mean() > 0 else out


@pytest.mark.parametrize("kind", [Shared, Unforeseen])
@torch.no_grad()
def test_what_cannot_be_fused_stays_as_it_is(kind: type[nn.Module]) -> None:
    network = lived_in(kind())
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(fusing.fuse(network)(x), network(x))
