"""The classifiers of the CIFAR literature, with the parameter names of the checkpoints that people share."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from methods.base import nearest


class Network(nn.Module):
    """Stages of convolutions, a global average, a linear layer.

    `stage_channels`: the channels of each stage's output; `stage_names`: the modules that these come from.
    """

    stage_channels: ClassVar[tuple[int, ...]] = ()
    stage_names: ClassVar[tuple[str, ...]] = ()

    def stages(self, x: Tensor) -> list[Tensor]:
        """The output map of every stage, for normalised images (N, 3, H, W)."""
        raise NotImplementedError

    def embedding(self, last: Tensor) -> Tensor:
        """The vector (N, D) that the head reads, from the last stage's map."""
        return last.mean((2, 3))

    @property
    def head(self) -> nn.Linear:
        """The linear layer, whatever the checkpoint calls it."""
        layer = getattr(self, "linear", None) or self.fc
        assert isinstance(layer, nn.Linear)
        return layer

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, K)."""
        logits: Tensor = self.head(self.embedding(self.stages(x)[-1]))
        return logits


class _Block(nn.Module):
    """Two 3 x 3 convolutions and a shortcut: a projection, or (type A) subsampling and zero channels."""

    def __init__(self, inputs: int, width: int, stride: int, *, projection: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.pad = (width - inputs) // 2
        self.shortcut = nn.Sequential()
        if projection and (stride != 1 or inputs != width):
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        out = functional.relu(self.bn1(self.conv1(x)), inplace=True)
        out = self.bn2(self.conv2(out))
        if len(self.shortcut):
            x = self.shortcut(x)
        elif self.pad:
            x = functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.pad, self.pad))
        return functional.relu(out.add_(x), inplace=True)


def _residual(inputs: int, width: int, stride: int, blocks: int, *, projection: bool) -> nn.Sequential:
    first = _Block(inputs, width, stride, projection=projection)
    return nn.Sequential(first, *(_Block(width, width, 1, projection=projection) for _ in range(blocks - 1)))


class CifarResNet(Network):
    """ResNet-(6n + 2) of He et al. 2016, section 4.2: 16, 32, 64 channels, shortcut A, no projections.

    Names as in akamaster/pytorch_resnet_cifar10. Stages: layer1 to layer3.
    """

    stage_channels = (16, 32, 64)
    stage_names = ("layer1", "layer2", "layer3")

    def __init__(self, classes: int, *, depth: int) -> None:
        super().__init__()
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _residual(16, 16, 1, blocks, projection=False)
        self.layer2 = _residual(16, 32, 2, blocks, projection=False)
        self.layer3 = _residual(32, 64, 2, blocks, projection=False)
        self.linear = nn.Linear(64, classes)

    def stages(self, x: Tensor) -> list[Tensor]:
        first = self.layer1(functional.relu(self.bn1(self.conv1(x)), inplace=True))
        second = self.layer2(first)
        return [first, second, self.layer3(second)]


class ResNet18(Network):
    """ResNet-18 with a 3 x 3 stem and no max-pool, as OpenOOD trains it at 32 pixels. Stages: layer1 to layer4."""

    stage_channels = (64, 128, 256, 512)
    stage_names = ("layer1", "layer2", "layer3", "layer4")

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = _residual(64, 64, 1, 2, projection=True)
        self.layer2 = _residual(64, 128, 2, 2, projection=True)
        self.layer3 = _residual(128, 256, 2, 2, projection=True)
        self.layer4 = _residual(256, 512, 2, 2, projection=True)
        self.fc = nn.Linear(512, classes)

    def stages(self, x: Tensor) -> list[Tensor]:
        x = functional.relu(self.bn1(self.conv1(x)), inplace=True)
        maps = []
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
            maps.append(x)
        return maps


class _Bottleneck(nn.Module):
    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, 4 * growth, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(4 * growth)
        self.conv2 = nn.Conv2d(4 * growth, growth, 3, 1, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv1(functional.relu(self.bn1(x), inplace=True))
        out = self.conv2(functional.relu(self.bn2(out), inplace=True))
        return torch.cat([x, out], 1)


class _DenseBlock(nn.Module):
    def __init__(self, inputs: int, growth: int, layers: int) -> None:
        super().__init__()
        self.layer = nn.Sequential(*(_Bottleneck(inputs + i * growth, growth) for i in range(layers)))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x)
        return out


class _Transition(nn.Module):
    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, inputs // 2, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        # averaged before the convolution, not after it: the same, as both are linear, for a quarter of the work
        out: Tensor = self.conv1(functional.avg_pool2d(functional.relu(self.bn1(x), inplace=True), 2))
        return out


class DenseNetBC(Network):
    """DenseNet-BC of depth 100, growth 12 (Huang et al. 2017), the CIFAR network of DICE and ASH.

    Stages: the dense blocks' outputs (216, 300, 342 channels), before the norm that follows them; the
    embedding is the average of the last one after that norm and its ReLU.
    """

    stage_channels = (216, 300, 342)
    stage_names = ("block1", "block2", "block3")

    def __init__(self, classes: int) -> None:
        super().__init__()
        growth, layers = 12, 16
        self.conv1 = nn.Conv2d(3, 24, 3, 1, 1, bias=False)
        self.block1 = _DenseBlock(24, growth, layers)
        self.trans1 = _Transition(216)
        self.block2 = _DenseBlock(108, growth, layers)
        self.trans2 = _Transition(300)
        self.block3 = _DenseBlock(150, growth, layers)
        self.bn1 = nn.BatchNorm2d(342)
        self.fc = nn.Linear(342, classes)

    def stages(self, x: Tensor) -> list[Tensor]:
        first = self.block1(self.conv1(x))
        second = self.block2(self.trans1(first))
        return [first, second, self.block3(self.trans2(second))]

    def embedding(self, last: Tensor) -> Tensor:
        return functional.relu(self.bn1(last)).mean((2, 3))


def passed(network: Network, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The embedding (N, D), and the average (N, c) of each stage's map."""
    stages = network.stages(x)
    return network.embedding(stages[-1]), [stage.float().mean((2, 3)) for stage in stages]


HEADS = ("linear.weight", "fc.weight")  # the head, whatever the checkpoint calls it
ARCHITECTURES: Mapping[str, tuple[type[Network], dict[str, Any]]] = {
    **{f"resnet{depth}": (CifarResNet, {"depth": depth}) for depth in (8, 20, 32, 44, 56)},
    "resnet18": (ResNet18, {}),
    "densenet_bc_100_12": (DenseNetBC, {}),
}


def architecture(name: str) -> type[Network]:
    """The class of a network; ValueError naming the nearest where there is none called `name`."""
    if name not in ARCHITECTURES:
        raise ValueError(f"no architecture {name!r}; {nearest(name, ARCHITECTURES)}")
    return ARCHITECTURES[name][0]


def build(name: str, classes: int) -> Network:
    """A network with the initial weights of He et al. 2015 (fan out), drawn from torch's global generator.

    On the meta device it has none: torch would load its compiler to draw them, for seconds.
    """
    network = architecture(name)(classes, **ARCHITECTURES[name][1])
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and not module.weight.is_meta:
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return network
