"""On a GPU that is pretended: what runs a network, or runs it again, leaves nothing on the other device."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from methods.encoders import registry
from methods.encoders.networks import cifar
from methods.encoders.networks.rerun import Rerun
from methods.training.loop import seeded
from tests.pretended import Pretended

IMAGES = torch.randint(0, 256, (3, 12, 12, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "itself": ("classifier", {}),
    "odin": ("perturbed", {}),
    "i-odin": ("perturbed", {"rule": "i-odin"}),
    "adascale": ("perturbed", {"rule": "adascale"}),
    "rankfeat": ("rank_removed", {}),
    "rankfeat, power": ("rank_removed", {"iterations": 3}),
    "gram": ("inside", {"extras": ("gram",)}),
    "extremes": ("inside", {"extras": ("extremes",)}),
    "gradients": ("inside", {"extras": ("gradients",)}),
}


def saved(folder: Path) -> Path:
    """A file with random weights for the network."""
    path = folder / "net.safetensors"
    with seeded(0):
        state = cifar.build("resnet8", 5).state_dict()
    save_file(state, path, metadata={"mean": "[0.5, 0.5, 0.5]", "std": "[0.25, 0.25, 0.25]"})
    return path


def encoded(name: str, weights: Path, device: str) -> dict[str, torch.Tensor]:
    kind, settings = KINDS[name]
    network: Any = registry.create("classifier", architecture="resnet8", checkpoint="net", resolution=12)
    if kind == "classifier":
        return network.open(weights, device=device).encode(IMAGES.to(device))  # type: ignore[no-any-return]
    encoder = registry.create(kind, base="net", **settings)
    assert isinstance(encoder, Rerun)
    encoder.prepare(network)
    encoder.stand_on(network.open(weights, device=device))
    return encoder.encode(IMAGES.to(device))


@pytest.mark.parametrize("name", KINDS)
def test_a_pass_leaves_nothing_on_the_other_device(name: str, tmp_path: Path) -> None:
    weights = saved(tmp_path)
    wanted = encoded(name, weights, "cpu")
    with Pretended():
        found = encoded(name, weights, "cuda")
        assert {values.device.type for values in found.values()} == {"cuda"}
        for key, values in wanted.items():
            torch.testing.assert_close(found[key].cpu(), values, rtol=1e-3, atol=1e-4)
