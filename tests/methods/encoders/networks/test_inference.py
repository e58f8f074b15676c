"""How a network is run: in which memory format and type, and that nothing of it stays when nobody needs it."""

import gc
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest
import timm
import torch
from torch import nn

from methods.encoders.networks import cifar, inference
from methods.encoders.networks.inference import Placed, memory_format
from methods.encoders.networks.timm_models import PooledMaps


@pytest.mark.parametrize(
    ("network", "device", "precision", "wanted"),
    [
        ("resnet18", "cpu", "32", "channels_last"),
        ("resnet18", "cuda:1", "tf32", "channels_last"),
        ("resnet18", "cuda", "bf16", "channels_last"),
        ("resnet18", "cuda", "32", "contiguous"),
        ("tf_efficientnet_b4.aa_in1k", "cuda", "32", "channels_last"),
        ("vit_base_patch16_224", "cuda", "32", "contiguous"),
    ],
)
def test_the_memory_format_is_read_in_a_table(network: str, device: str, precision: str, wanted: str) -> None:
    assert memory_format(network, device, precision) == wanted


def _last(x: torch.Tensor) -> bool:
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


def test_weights_and_images_lie_as_they_are_arranged_and_features_are_the_same() -> None:
    placed = Placed(cifar.build("resnet20", 10), "resnet20", device="cpu", exactness="32")
    images = torch.rand((4, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    found = {}
    for name in ("channels_last", "contiguous"):
        placed.arrange(name)
        assert placed.memory_format == name
        assert _last(placed.network.conv1.weight) == _last(placed.fed(images)) == (name == "channels_last")
        with placed.running():
            found[name] = placed.network.embedding(placed.network.stages(placed.fed(images))[-1])
    torch.testing.assert_close(found["contiguous"], found["channels_last"], rtol=1e-5, atol=1e-5)


class OnCUDA(Placed[nn.Module]):
    """What is decided for a GPU, carried out on the CPU: `.to` and the switches do not leave it."""

    def __init__(self, network: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
        to = nn.Module.to
        monkeypatch.setattr(nn.Module, "to", lambda self, *a, device=None, **k: to(self, *a, **k))
        monkeypatch.setattr(inference.precision, "_has", lambda precision, device: True)
        super().__init__(network, "resnet20", device="cuda", exactness="bf16")


def test_bf16_on_a_gpu_is_the_weights_own_and_what_comes_out_is_near(monkeypatch: pytest.MonkeyPatch) -> None:
    network = cifar.build("resnet20", 10).eval()
    with monkeypatch.context() as patched:
        placed = OnCUDA(network, patched)
    assert {weight.dtype for weight in placed.network.parameters()} == {torch.bfloat16}
    assert {weight.dtype for weight in network.parameters()} == {torch.float32}  # the head stays as it was
    x = torch.randn((8, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    assert placed.fed(x).dtype == torch.bfloat16
    with torch.inference_mode():
        half = placed.network.embedding(placed.network.stages(placed.fed(x))[-1]).float()
        whole = network.embedding(network.stages(x)[-1])
    assert float((half - whole).std() / whole.std()) < 0.05  # 20 layers that round by 2^-9 each


def test_bf16_on_the_cpu_is_autocast() -> None:
    placed = Placed(cifar.build("resnet20", 10), "resnet20", device="cpu", exactness="bf16")
    assert {weight.dtype for weight in placed.network.parameters()} == {torch.float32}
    with placed.running():
        assert torch.is_autocast_enabled("cpu")
        assert torch.is_inference_mode_enabled()


@pytest.fixture
def _no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("model", ["tf_efficientnet_lite0", "vit_tiny_patch16_224"])
@pytest.mark.usefixtures("_no_collector")
def test_a_network_with_hooks_goes_with_its_last_user(model: str) -> None:
    network = timm.create_model(model, pretrained=False, num_classes=0)
    placed = Placed(network, model, device="cpu", exactness="32")
    maps = PooledMaps(placed.network, model)
    weights = [weakref.ref(weight) for net in (network, placed.network) for weight in net.parameters()]
    with placed.running():
        placed.network(torch.zeros((1, 3, 224, 224)))
    assert len(maps.take()) == len(maps.names)
    del network, placed, maps
    assert not any(weight() is not None for weight in weights)


@pytest.mark.parametrize("architecture", ["resnet20", "densenet_bc_100_12"])
@pytest.mark.usefixtures("_no_collector")
def test_an_encoder_goes_with_its_last_user(architecture: str, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    from methods.encoders import registry

    path = tmp_path / "net.safetensors"
    state = {k: v.contiguous() for k, v in cifar.build(architecture, 3).state_dict().items()}
    save_file(state, path, metadata={"mean": "[0.5, 0.5, 0.5]", "std": "[0.2, 0.2, 0.2]"})
    encoder = registry.create("classifier", architecture=architecture, checkpoint="net").open(path)
    encoder.encode(torch.zeros((1, 32, 32, 3), dtype=torch.uint8))
    there = weakref.ref(encoder), *(weakref.ref(w) for w in encoder._placed.network.parameters())  # type: ignore[attr-defined]
    del encoder
    assert not any(one() is not None for one in there)


def test_a_pass_is_as_exact_as_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, str]] = []
    switches = inference.precision.switches
    monkeypatch.setattr(inference.precision, "switches", lambda *how: (seen.append(how), switches("32", "cpu"))[1])
    for asked in ("32", "tf32"):
        with inference.inference("cuda:1", asked):
            pass
    assert seen == [("32", "cuda:1"), ("tf32", "cuda:1")]
