"""Every network on the GPU gives the CPU's features, as nearly as its precision lets it."""

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from methods.encoders import registry
from methods.encoders.base import Encoder
from methods.encoders.module import Module
from methods.encoders.networks import cifar, given
from tests.methods.encoders import test_module, test_pretended

HEADER = {"mean": "[0.5, 0.5, 0.5]", "std": "[0.25, 0.25, 0.25]"}
# Of the deviation between images, at worst: random weights, and noise, of which one image is nearly as another.
# Imitated on a CPU DenseNet is .018 (TF32) and .17 (bf16) apart, the others less; a GPU may cut off where that rounds.
NEAR = {"32": 1e-3, "tf32": 6e-2, "bf16": 5e-1}
IMAGES = torch.randint(0, 256, (16, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
KINDS = {
    "resnet20": ("classifier", {"architecture": "resnet20", "checkpoint": "net"}),
    "densenet": ("classifier", {"architecture": "densenet_bc_100_12", "checkpoint": "net"}),
    "simclr": ("simclr", {"architecture": "resnet8", "checkpoint": "net"}),
    "lite0": ("pretrained", {"model": "tf_efficientnet_lite0", "resolution": 64}),
    "finetuned": ("finetuned", {"model": "tf_efficientnet_lite0", "resolution": 64, "checkpoint": "net"}),
    "vit": ("pretrained", {"model": "vit_tiny_patch16_224"}),
}


@pytest.fixture(scope="module", params=KINDS)
def network(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """An encoder by its name, and a file with random weights for it."""
    kind, settings = KINDS[request.param]
    torch.manual_seed(0)
    if "model" in settings:
        made = timm.create_model(settings["model"], pretrained=False, num_classes=5 if kind == "finetuned" else 0)
    else:
        made = cifar.build(str(settings["architecture"]), 5)
    state = {name: value.contiguous() for name, value in made.state_dict().items()}
    if kind == "simclr":
        state = {name: value for name, value in state.items() if not name.startswith("linear.")}
    path = tmp_path_factory.mktemp("weights") / "net.safetensors"
    save_file(state, path, metadata=HEADER)
    return request.param, path


def opened(network: tuple[str, Path], **how: str) -> Encoder:
    kind, settings = KINDS[network[0]]
    return registry.create(kind, **settings).open(network[1], **how)


def test_features_are_the_cpus(network: tuple[str, Path], device: str, exactness: str) -> None:
    wanted = opened(network).encode(IMAGES)
    encoder = opened(network, device=device, precision=exactness)
    found = {name: values.cpu() for name, values in encoder.encode(IMAGES.to(device)).items()}
    for name in ("embedding", "layers"):
        assert found[name].dtype == torch.float32
        between = wanted[name].std(0).mean().clamp_min(1e-6)
        assert float((found[name] - wanted[name]).abs().mean() / between) < NEAR[exactness], name
    if encoder.head is not None:  # whatever the precision, the head's own arithmetic is exact
        torch.testing.assert_close(found["logits"], encoder.head(found["embedding"]), rtol=1e-5, atol=1e-5)


def test_both_memory_formats_give_the_same(network: tuple[str, Path], device: str) -> None:
    encoder = opened(network, device=device)
    found = []
    for name in ("channels_last", "contiguous"):
        encoder.arrange(name)
        found.append(encoder.encode(IMAGES.to(device))["embedding"].cpu())
    torch.testing.assert_close(found[0], found[1], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", test_pretended.KINDS)
def test_what_runs_a_network_again_gives_the_cpus(name: str, device: str, tmp_path: Path) -> None:
    path = test_pretended.saved(tmp_path)
    wanted, found = (test_pretended.encoded(name, path, where) for where in ("cpu", device))
    for key, values in wanted.items():
        apart = (found[key].cpu() - values).abs().mean() / values.std().clamp_min(1e-6)
        assert float(apart) < 1e-2, key  # a gradient near 0 may have the other sign


def test_a_given_network_gives_what_it_gave(device: str, exactness: str) -> None:
    of, images = test_module.network().eval(), test_module.IMAGES
    found = Module(given.look(of, images)).open(None, device=device, precision=exactness).encode(images.to(device))
    with torch.no_grad():
        wanted = of(images)
    assert float((found["logits"].cpu() - wanted).abs().mean() / wanted.std()) < NEAR[exactness]


def test_a_closed_encoder_gives_its_memory_back_at_once(network: tuple[str, Path], device: str) -> None:
    if device == "cpu":
        opened(network).encode(IMAGES)
        return
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated(device)
    encoder = opened(network, device=device)
    encoder.encode(IMAGES.to(device))
    assert torch.cuda.memory_allocated(device) > before
    del encoder
    assert torch.cuda.memory_allocated(device) <= before + (32 << 20)  # what cuBLAS keeps for the process
