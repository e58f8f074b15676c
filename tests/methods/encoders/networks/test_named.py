"""Networks that timm or torchvision build by name."""

from typing import Any

import pytest
import timm
import torch
from torch import nn

from methods.encoders.networks import named


def test_a_regnet_whose_widths_are_read_while_it_is_built_has_its_sizes_without_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def as_before_1_0_30(name: str, **_: Any) -> nn.Module:
        return nn.Linear(int(torch.unique(torch.tensor([3, 3]))[0]), 2)

    monkeypatch.setattr(timm, "create_model", as_before_1_0_30)
    with torch.device("meta"):
        network = named.build("timm", "regnetx_002", 2)
    assert {str(weight.device) for weight in network.parameters()} == {"meta"}
    assert network.weight.shape == (2, 3)
