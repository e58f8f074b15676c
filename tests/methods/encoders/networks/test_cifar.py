import pytest
import torch
from torch import nn

from methods.encoders.networks import cifar


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        # He et al. 2016, table 6 (0.27, 0.46, 0.66, 0.85 M): counted from its description, shortcut A.
        ("resnet20", 269_722),
        ("resnet32", 464_154),
        ("resnet44", 658_586),
        ("resnet56", 853_018),
        ("densenet_bc_100_12", 769_162),  # Huang et al. 2017, table 2: 0.8 M
        ("resnet18", 11_173_962),  # kuangliu/pytorch-cifar's and OpenOOD's
        # stem 432 + 32; blocks 4,672, 13,952, 55,552; head 650
        ("resnet8", 75_290),
    ],
)
def test_parameter_counts(name: str, parameters: int) -> None:
    network = cifar.build(name, 10)
    assert sum(p.numel() for p in network.parameters()) == parameters


@pytest.mark.parametrize("name", sorted(cifar.ARCHITECTURES))
def test_stages_shrink_and_have_the_stated_channels(name: str) -> None:
    network = cifar.build(name, 7).eval()
    with torch.no_grad():
        stages = network.stages(torch.zeros(1, 3, 32, 32))
        assert tuple(stage.shape[1] for stage in stages) == network.stage_channels
        assert [stage.shape[2] for stage in stages] == [32, 16, 8, 4][: len(stages)]
        assert network(torch.zeros(1, 3, 32, 32)).shape == (1, 7)


def identity(block: nn.Module) -> None:
    """Residual branch 0, so that the block is its shortcut."""
    nn.init.zeros_(block.bn2.weight)
    nn.init.zeros_(block.bn2.bias)


def test_shortcut_a_subsamples_and_pads_a_quarter_on_both_sides() -> None:
    block = cifar.build("resnet20", 10).eval().layer2[0]
    identity(block)
    x = torch.rand(1, 16, 6, 6)
    with torch.no_grad():
        out = block(x)
    assert out.shape == (1, 32, 3, 3)
    assert torch.equal(out[:, 8:24], x[:, :, ::2, ::2])
    assert not out[:, :8].any()
    assert not out[:, 24:].any()


def test_dense_layers_append_behind_their_input() -> None:
    block = cifar.build("densenet_bc_100_12", 10).eval().block1
    x = torch.rand(1, 24, 4, 4)
    with torch.no_grad():
        assert torch.equal(block(x)[:, :24], x)
        assert torch.equal(block(x)[:, :36], block.layer[0](x))


def test_initial_weights_are_he_fan_out() -> None:
    torch.manual_seed(0)
    weight = cifar.build("resnet18", 10).layer4[1].conv2.weight  # 2.4 million numbers
    assert float(weight.detach().std()) == pytest.approx((2 / (512 * 9)) ** 0.5, rel=0.01)


def test_unknown_architecture_names_the_nearest() -> None:
    with pytest.raises(ValueError, match="'densenet100'; did you mean 'densenet_bc_100_12'"):
        cifar.build("densenet100", 10)
