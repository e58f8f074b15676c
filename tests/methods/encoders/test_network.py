import argparse
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from methods.base import CannotRun
from methods.encoders.network import Network
from methods.encoders.networks import named
from methods.encoders.registry import create

K = 5


def made(name: str) -> nn.Module:
    torch.manual_seed(0)
    size = {"img_size": 64} if name.startswith("vit") else {}
    network: nn.Module = timm.create_model(name, num_classes=K, **size).eval()
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):  # as a training leaves them
            norm.running_mean.uniform_(-0.1, 0.1)
            norm.running_var.uniform_(0.5, 1.5)
    return network


def opened(path: Path, name: str = "test_resnet", **settings: object) -> Network:
    encoder = create("network", network=name, checkpoint=str(path), **{"size": 64, "crop": 1.0, **settings})
    assert isinstance(encoder, Network)
    return encoder.open(encoder.find_weights(None))


def images(n: int = 3, side: int = 64) -> torch.Tensor:
    return torch.randint(0, 256, (n, side, side, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def own_logits(
    network: nn.Module, pixels: torch.Tensor, mean: tuple[float, ...], std: tuple[float, ...]
) -> torch.Tensor:
    x = (pixels.permute(0, 3, 1, 2) / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    with torch.inference_mode():
        logits: torch.Tensor = network(x)
    return logits


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224", "convnext_atto"])
def test_its_logits_are_the_networks_own_and_come_from_embedding_and_head(tmp_path: Path, name: str) -> None:
    network = made(name)
    save_file(network.state_dict(), tmp_path / "my.safetensors")
    encoder = opened(tmp_path / "my.safetensors", name)
    pixels = images()
    features = encoder.encode(pixels)
    config = timm.get_pretrained_cfg(name)
    wanted = own_logits(network, pixels, config.mean, config.std)
    torch.testing.assert_close(features["logits"], wanted, rtol=1e-3, atol=1e-4 * float(wanted.abs().max()))
    assert encoder.head is not None
    torch.testing.assert_close(features["logits"], encoder.head(features["embedding"]), rtol=0, atol=0)
    assert encoder.offers == ("embedding", "logits", "layers")
    assert features["layers"].shape == (3, sum(encoder.layer_sizes))


def forms(state: dict[str, torch.Tensor]) -> dict[str, object]:
    other = {key: value * 0 for key, value in state.items()}

    def under(prefix: str, of: dict[str, torch.Tensor] = state) -> dict[str, torch.Tensor]:
        return {prefix + key: value for key, value in of.items()}

    return {
        "bare": state,
        "state_dict": {"state_dict": state, "epoch": 3},
        "model": {"model": state, "optimizer": {"state": {}, "param_groups": []}, "args": argparse.Namespace(lr=0.1)},
        "net": {"net": state, "acc": 94.9},
        "DataParallel": under("module."),
        "compiled": under("_orig_mod."),
        "compiled and parallel": under("module._orig_mod."),
        "Lightning": {"state_dict": {**under("model."), "loss.weight": torch.ones(K)}, "global_step": 7},
        "half": {key: value.half() if value.is_floating_point() else value for key, value in state.items()},
        "no counters": {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")},
        "timm's average": {"state_dict": other, "state_dict_ema": state},
        "torchvision's average": {"model": other, "model_ema": {**under("module."), "n_averaged": torch.tensor(3)}},
        "average beside": {
            "state_dict": {**{f"model.{key}": value for key, value in other.items()}, **under("ema_model.")}
        },
    }


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return made("test_resnet")


@pytest.mark.parametrize("form", forms({}))
def test_every_form_that_training_code_writes(tmp_path: Path, form: str, network: nn.Module) -> None:
    torch.save(forms(network.state_dict())[form], tmp_path / "my.pth")
    encoder = opened(tmp_path / "my.pth")
    assert encoder.head is not None
    wanted, bound = network.get_submodule("fc").weight, 1e-3 if form == "half" else 0
    torch.testing.assert_close(encoder.head.weight, wanted.detach(), rtol=bound, atol=bound / 10)


@pytest.mark.parametrize("suffix", [".pt", ".ckpt", ".bin", ".pth.tar"])
def test_a_file_may_end_as_people_have_it(tmp_path: Path, suffix: str, network: nn.Module) -> None:
    torch.save(network.state_dict(), tmp_path / f"my{suffix}")
    assert opened(tmp_path / f"my{suffix}").head is not None


def test_what_was_read_is_said(tmp_path: Path, network: nn.Module) -> None:
    state = network.state_dict()
    torch.save(
        {"model": state, "model_ema": {f"module.{key}": value for key, value in state.items()}}, tmp_path / "a.pth"
    )
    encoder = create(
        "network", network="test_resnet", checkpoint=str(tmp_path / "a.pth"), mean=[0.5, 0.4, 0.3], size=64
    )
    said = encoder.settled(tmp_path / "a.pth")[1]
    assert "a.pth: read as timm's test_resnet, under 'model_ema', under 'module.'" in said
    assert "short side to 67 pixels (bilinear), the centre 64 x 64" in said  # 64 / .95, timm's crop_pct
    assert "mean 0.5 0.4 0.3, std 0.5 0.5 0.5 (mean, size: given; std, crop: timm's own)" in said


def test_tensors_beside_the_network_are_named(tmp_path: Path, network: nn.Module) -> None:
    state = {f"model.{key}": value for key, value in network.state_dict().items()}
    torch.save({"state_dict": {**state, "loss.weight": torch.ones(K)}}, tmp_path / "a.ckpt")
    encoder = create("network", network="test_resnet", checkpoint=str(tmp_path / "a.ckpt"))
    assert "1 tensors beside it left out (loss.weight)" in encoder.settled(tmp_path / "a.ckpt")[1]


def test_what_is_left_over_or_missing_is_named_on_both_sides(tmp_path: Path, network: nn.Module) -> None:
    state = network.state_dict()
    del state["layer1.0.conv1.weight"]
    torch.save({**state, "my_extra.weight": torch.ones(1)}, tmp_path / "a.pth")
    with pytest.raises(ValueError) as caught:
        opened(tmp_path / "a.pth")
    assert "1 missing (layer1.0.conv1.weight)" in str(caught.value)
    assert "1 unexpected (my_extra.weight)" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_of_two_libraries_the_one_that_the_file_fits(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = torchvision.models.mobilenet_v3_small(num_classes=K).eval()  # timm has it under another name
    torch.save(network.state_dict(), tmp_path / "a.pth")
    encoder = create("network", network="mobilenet_v3_small", checkpoint=str(tmp_path / "a.pth"), size=64, crop=1.0)
    encoder.open(tmp_path / "a.pth")
    pixels = images()
    wanted = own_logits(network, pixels, *named.IMAGENET)
    logits = encoder.encode(pixels)["logits"]
    torch.testing.assert_close(logits, wanted, rtol=1e-3, atol=1e-4 * float(wanted.abs().max()))
    network = torchvision.models.efficientnet_b0(num_classes=K)
    torch.save(network.state_dict(), tmp_path / "b.pth")
    both = create("network", network="efficientnet_b0", checkpoint=str(tmp_path / "b.pth"))
    assert "torchvision's efficientnet_b0" in both.settled(tmp_path / "b.pth")[1]


def test_images_are_prepared_as_the_library_does_it(tmp_path: Path, network: nn.Module) -> None:
    from torchvision.transforms import v2

    torch.save(network.state_dict(), tmp_path / "a.pth")
    encoder = opened(tmp_path / "a.pth", crop=0.8)
    image = torch.randint(0, 256, (9, 12, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    image = image.repeat_interleave(14, 0).repeat_interleave(14, 1)  # 126 x 168: structure that survives shrinking
    steps = v2.Compose(
        [v2.Resize(80, interpolation=v2.InterpolationMode.BILINEAR), v2.CenterCrop(64), v2.PILToTensor()]
    )
    pixels = steps(Image.fromarray(image.numpy())).permute(1, 2, 0)[None]
    config = timm.get_pretrained_cfg("test_resnet")
    wanted = own_logits(network, pixels, config.mean, config.std)
    # as Pillow rounds, but for a grey level here and there
    torch.testing.assert_close(encoder.encode([image])["logits"], wanted, rtol=0.02, atol=0.02 * float(wanted.std()))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"network": "resnet81"}, "neither timm nor torchvision has a network 'resnet81'"),
        ({"mean": [125.3, 123.0, 113.9]}, "mean is"),
        ({"mean": [0.5]}, "three numbers"),
        ({"std": [0.5, 0.5, 0.0]}, "std is"),
        ({"crop": 1.5}, "crop is"),
        ({"size": 0}, "size is"),
        ({"layers": []}, "layers is empty"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        create("network", **settings)


def test_a_network_without_a_linear_layer_at_its_end_is_refused(tmp_path: Path) -> None:
    network = torchvision.models.squeezenet1_1(num_classes=K)
    torch.save(network.state_dict(), tmp_path / "a.pth")
    encoder = create("network", network="squeezenet1_1", checkpoint=str(tmp_path / "a.pth"))
    with pytest.raises(ValueError, match="squeezenet1_1 does not end in one linear layer"):
        encoder.head_in(tmp_path / "a.pth")


def test_a_file_that_is_not_there_is_never_trained_in_its_place(tmp_path: Path) -> None:
    encoder = create("network", network="resnet18", checkpoint=str(tmp_path / "absent.pth"))
    assert not encoder.learns
    with pytest.raises(CannotRun, match=r"absent\.pth"):
        encoder.find_weights(tmp_path)
    with pytest.raises(CannotRun, match="name a file"):
        create("network").find_weights(tmp_path)
