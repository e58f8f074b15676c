from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from datasets import catalogue
from methods.base import CannotRun
from methods.encoders.registry import create

MODEL = "test_efficientnet.r160_in1k"  # 0.4 M parameters; maps of 16, 24, 32, 48, 64 channels
HEADER = {"mean": "[0.1, 0.2, 0.3]", "std": "[0.5, 0.6, 0.7]"}


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """No network, and nothing from the developer's own cache."""

    def offline(*args: Any, **kwargs: Any) -> None:
        raise OSError("[Errno -2] Name or service not known")

    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *args: None)
    monkeypatch.setattr(huggingface_hub, "get_session", lambda: SimpleNamespace(head=offline))
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *args: pytest.fail("tried to download"))


def save(path: Path, model: str = MODEL, metadata: dict[str, str] | None = None) -> nn.Module:
    """A published file as the hub has it, with its classifier; random weights and running statistics."""
    torch.manual_seed(0)
    network = timm.create_model(model, pretrained=False)
    with torch.no_grad():
        network.train()(torch.randn(4, 3, 160, 160))
    save_file(network.state_dict(), path, metadata=metadata)
    return network.eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    save(folder / f"{MODEL}.safetensors", metadata=HEADER)
    return folder


def images(n: int, size: int = 160) -> Tensor:
    generator = torch.Generator().manual_seed(n)
    return torch.randint(256, (n, size, size, 3), dtype=torch.uint8, generator=generator)


def normalised(x: Tensor, mean: list[float], std: list[float]) -> Tensor:
    return ((x / 255 - torch.tensor(mean)) / torch.tensor(std)).permute(0, 3, 1, 2)


def timm_maps(path: Path, x: Tensor) -> list[Tensor]:
    """The feature maps as timm's own extractor gives them."""
    extractor = timm.create_model(
        MODEL, pretrained=True, pretrained_cfg_overlay={"file": str(path)}, features_only=True
    )
    with torch.no_grad():
        maps: list[Tensor] = extractor.eval()(x)
    return maps


@pytest.mark.parametrize("pooling", ["gap", "grid14"])
def test_features_are_timms(folder: Path, pooling: str) -> None:
    path = folder / f"{MODEL}.safetensors"
    encoder = create("pretrained", model=MODEL, resolution=160, pooling=pooling)
    assert encoder.find_weights(folder) == path
    encoder.open(path)
    x = images(2)
    out = encoder.encode(x)
    inputs = normalised(x, [0.1, 0.2, 0.3], [0.5, 0.6, 0.7])
    maps = timm_maps(path, inputs)
    if pooling == "grid14":  # stride 16: 10 x 10 at 160, 14 x 14 at 224
        maps = [functional.interpolate(m, size=(10, 10), mode="bilinear", align_corners=True) for m in maps]
    pooled = torch.cat([m.mean(dim=(2, 3)) for m in maps], 1)
    torch.testing.assert_close(out["layers"], pooled, rtol=1e-3, atol=1e-5)
    assert encoder.layer_sizes == (16, 24, 32, 48, 64)
    whole = timm.create_model(MODEL, pretrained=True, pretrained_cfg_overlay={"file": str(path)}).eval()
    with torch.no_grad():
        logits = whole(inputs)
    torch.testing.assert_close(whole.classifier(out["embedding"].clone()).detach(), logits, rtol=1e-3, atol=1e-4)
    assert set(out) == set(encoder.offers)
    assert not any(values.requires_grad for values in out.values())
    torch.testing.assert_close(out["logits"], logits, rtol=1e-3, atol=1e-4)
    assert encoder.head is not None
    torch.testing.assert_close(out["logits"], encoder.head(out["embedding"]))


def test_the_two_poolings_differ(folder: Path) -> None:
    gap, grid = (
        create("pretrained", model=MODEL, resolution=160, pooling=pooling)
        .open(folder / f"{MODEL}.safetensors")
        .encode(images(1))["layers"]
        for pooling in ("gap", "grid14")
    )
    torch.testing.assert_close(gap[:, 72:120], grid[:, 72:120])  # stride 16: the grid is the map
    assert (gap[:, :16] - grid[:, :16]).abs().max() > 1e-3


def test_chosen_layers_in_the_order_given(folder: Path) -> None:
    path = folder / f"{MODEL}.safetensors"
    everything = create("pretrained", model=MODEL, resolution=160).open(path).encode(images(2))["layers"]
    chosen = create("pretrained", model=MODEL, resolution=160, layers=["blocks.2", "blocks.0"]).open(path)
    assert chosen.layer_sizes == (32, 16)
    torch.testing.assert_close(
        chosen.encode(images(2))["layers"], torch.cat([everything[:, 40:72], everything[:, :16]], 1)
    )
    with pytest.raises(ValueError, match=r"no module 'blocks.9'; did you mean 'blocks.\d'"):
        create("pretrained", model=MODEL, resolution=160, layers=["blocks.9"]).open(path)


def test_one_forward_pass_gives_both(folder: Path) -> None:
    encoder = create("pretrained", model=MODEL, resolution=160).open(folder / f"{MODEL}.safetensors")
    calls = []
    encoder._placed.network.conv_stem.register_forward_hook(lambda *_: calls.append(1))
    encoder.encode(images(3))
    assert len(calls) == 1


def test_features_do_not_depend_on_the_batch(folder: Path) -> None:
    encoder = create("pretrained", model=MODEL, resolution=160).open(folder / f"{MODEL}.safetensors")
    mixed = [images(1, size)[0] for size in (40, 160, 64, 40)]
    whole = encoder.encode(mixed)
    for rows in ([0], [3, 1], [2, 0, 1]):
        part = encoder.encode([mixed[row] for row in rows])
        for name in encoder.offers:
            torch.testing.assert_close(part[name], whole[name][rows], rtol=1e-4, atol=1e-5)


def test_bf16_is_near(folder: Path) -> None:
    path = folder / f"{MODEL}.safetensors"
    exact, half = (
        create("pretrained", model=MODEL, resolution=160).open(path, precision=p).encode(images(2))
        for p in ("32", "bf16")
    )
    for name, values in half.items():
        assert values.dtype == torch.float32
        assert 0 < (values - exact[name]).norm() / exact[name].norm() < 0.1


@pytest.mark.parametrize(
    ("model", "mean", "std"),
    [
        (MODEL, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ("test_resnet.r160_in1k", [0.5, 0.5, 0.5], [0.5, 0.5, 0.5]),
    ],
)
def test_without_a_header_the_weights_own_configuration_counts(
    tmp_path: Path, model: str, mean: list[float], std: list[float]
) -> None:
    network = save(tmp_path / f"{model}.safetensors", model)
    encoder = create("pretrained", model=model, resolution=160).open(tmp_path / f"{model}.safetensors")
    x = images(1)
    with torch.no_grad():
        expected = network.forward_head(network.forward_features(normalised(x, mean, std)), pre_logits=True)
    torch.testing.assert_close(encoder.encode(x)["embedding"], expected, rtol=1e-3, atol=1e-4)


def test_tokens_are_maps_without_the_class_token(tmp_path: Path) -> None:
    network = save(tmp_path / "x.safetensors", "test_vit")
    encoder = create("pretrained", model="test_vit", resolution=160).open(tmp_path / "x.safetensors")
    x = images(2)
    with torch.no_grad():
        maps = network.forward_intermediates(normalised(x, [0.5] * 3, [0.5] * 3), intermediates_only=True, norm=False)
    torch.testing.assert_close(
        encoder.encode(x)["layers"],
        torch.cat([m.mean((2, 3)) for m in maps], 1),
        rtol=1e-3,
        atol=1e-4,
    )


def test_where_weights_are_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = create("pretrained", model=MODEL)
    hub = tmp_path / "hub.safetensors"
    session = SimpleNamespace(head=lambda *args, **kwargs: None)
    monkeypatch.setattr(huggingface_hub, "get_session", lambda: session)
    asked = []
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *args: asked.append(args) or str(hub))
    with pytest.raises(CannotRun):
        encoder.find_weights(tmp_path)
    assert encoder.find_weights(tmp_path, download=True) == hub
    assert asked == [("timm/test_efficientnet.r160_in1k", "model.safetensors")]
    cached = tmp_path / "cached.safetensors"
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *args: str(cached))
    assert encoder.find_weights(tmp_path, download=True) == encoder.find_weights(None) == cached
    (tmp_path / "test_efficientnet.safetensors").touch()
    assert encoder.find_weights(tmp_path) == tmp_path / "test_efficientnet.safetensors"
    (tmp_path / f"{MODEL}.safetensors").touch()
    assert encoder.find_weights(tmp_path) == tmp_path / f"{MODEL}.safetensors"
    untagged = create("pretrained", model="test_efficientnet")
    assert untagged.find_weights(tmp_path) == tmp_path / "test_efficientnet.safetensors"
    assert len(asked) == 1


def test_the_hubs_file_loads_without_its_classifier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "model.safetensors")
    session = SimpleNamespace(head=lambda *args, **kwargs: None)
    monkeypatch.setattr(huggingface_hub, "get_session", lambda: session)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *args: str(tmp_path / "model.safetensors"))
    encoder = create("pretrained", model=MODEL, resolution=160)
    encoder.open(encoder.find_weights(None, download=True))
    assert encoder.encode(images(1))["embedding"].shape == (1, 256)


@pytest.mark.parametrize("download", [False, True])
def test_absent_weights_say_what_to_do(tmp_path: Path, download: bool) -> None:
    with pytest.raises(CannotRun) as caught:
        create("pretrained").find_weights(tmp_path, download=download)
    message = str(caught.value)
    assert f"{tmp_path}/tf_efficientnet_b4.aa_in1k.safetensors" in message
    assert "hf download timm/tf_efficientnet_b4.aa_in1k model.safetensors" in message
    assert ("Name or service not known" in message) == download
    assert "\n" not in message


def test_weights_that_nobody_publishes() -> None:
    with pytest.raises(CannotRun, match="no weights of lcnet_035 are published: put them at"):
        create("pretrained", model="lcnet_035").find_weights(None, download=True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": "resnet51"}, "no model 'resnet51'; did you mean 'resnet5"),
        ({"model": "resnet50.tv_in2k"}, "no weights 'resnet50.tv_in2k'; did you mean 'resnet50.tv"),
        ({"model": "hf_hub:someone/else"}, "no model"),
        ({"model": "test_vit", "resolution": 224}, "160 pixels only, not 224"),
    ],
)
def test_unknown_models_name_the_nearest(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        create("pretrained", **settings).find_weights(None)


SMALL = ["test_efficientnet.r160_in1k", "test_vit.r160_in1k", "test_convnext.r160_in1k", "test_resnet.r160_in1k"]


@pytest.mark.parametrize("model", SMALL)
def test_its_own_classifier_on_images_as_its_weights_have_them(tmp_path: Path, model: str) -> None:
    """Timm's logits of timm's own evaluation transform."""
    network = save(tmp_path / f"{model}.safetensors", model)
    encoder = create("pretrained", model=model)
    config = timm.get_pretrained_cfg(model)
    assert (encoder.resolution, encoder.crop) == (160, config.crop_pct)
    assert set(encoder.offers) == {"embedding", "layers", "logits"}
    encoder.open(tmp_path / f"{model}.safetensors")
    image = images(1, 300)[0, :, :240]
    data = timm.data.resolve_data_config(pretrained_cfg=config.to_dict())
    transform = timm.data.create_transform(**data)
    with torch.no_grad():
        wanted = network(transform(Image.fromarray(image.numpy()))[None])
    out = encoder.encode([image])
    torch.testing.assert_close(out["logits"], wanted, rtol=1e-2, atol=1e-2 * float(wanted.abs().max()))
    assert encoder.head is not None
    torch.testing.assert_close(out["logits"], encoder.head(out["embedding"]))


def test_imagenets_classes_are_its_wnids(tmp_path: Path) -> None:
    path = tmp_path / f"{MODEL}.safetensors"
    save(path)
    head = create("pretrained", model=MODEL).head_in(path)
    assert head is not None
    assert (head.count, head.names, head.trained_on) == (1000, None, "imagenet")
    assert catalogue.get("imagenet").class_names[:2] == ("n01440764", "n01443537")


def test_a_file_without_a_classifier_gives_the_rest(tmp_path: Path) -> None:
    path = tmp_path / f"{MODEL}.safetensors"
    state = save(path).state_dict()
    save_file({name: value for name, value in state.items() if not name.startswith("classifier.")}, path)
    encoder = create("pretrained", model=MODEL)
    assert encoder.head_in(path) is None
    assert set(encoder.open(path).encode(images(1))) == {"embedding", "layers"}
    assert encoder.head is None


@pytest.mark.parametrize("wrong", [{"pooling": "max"}, {"layers": []}, {"resolution": 8}])
def test_settings_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        create("pretrained", **wrong)


def test_weights_of_another_network_are_refused(folder: Path) -> None:
    encoder = create("pretrained", model="test_resnet", resolution=160)
    with pytest.raises(ValueError, match=r"r160_in1k.safetensors does not fit test_resnet: \d+ missing") as caught:
        encoder.open(folder / f"{MODEL}.safetensors")
    assert "\n" not in str(caught.value)


# torchvision's own

TORCHVISION = {
    "shufflenet_v2_x0_5": (224, 256),
    "vit_b_16": (224, 256),
    "regnet_y_16gf.IMAGENET1K_SWAG_E2E_V1": (384, 384),
}


def test_a_name_is_timms_first_and_torchvisions_where_timm_has_it_not() -> None:
    assert create("pretrained", model="resnet50.tv_in1k")._library == "timm"  # type: ignore[attr-defined]
    for model in ("shufflenet_v2_x0_5", "resnet50.IMAGENET1K_V1"):
        assert create("pretrained", model=model)._library == "torchvision", model  # type: ignore[attr-defined]
    with pytest.raises(
        ValueError, match=r"torchvision has no weights 'IMAGENET1K' of swin_t; did you mean 'IMAGENET1K_V1"
    ):
        create("pretrained", model="swin_t.IMAGENET1K")
    with pytest.raises(ValueError, match=r"timm has no model 'swin_tt'"):
        create("pretrained", model="swin_tt")


@pytest.mark.parametrize(("model", "sizes"), TORCHVISION.items())
def test_torchvisions_transforms_are_the_weights_own(model: str, sizes: tuple[int, int]) -> None:
    encoder = create("pretrained", model=model)
    shrinking = encoder.shrinking
    assert shrinking is not None
    assert (encoder.resolution, shrinking.size) == sizes


def test_torchvisions_network_gives_its_own_logits_embedding_and_maps(tmp_path: Path) -> None:
    from torchvision import models
    from torchvision.transforms import functional as images_of

    name = "shufflenet_v2_x0_5"
    torch.manual_seed(0)
    network = models.get_model(name, weights=None)
    with torch.no_grad():
        network.train()(torch.randn(4, 3, 64, 64))
    network.eval()
    torch.save(network.state_dict(), tmp_path / "shufflenetv2_x0.5-f707e7126e.pth")  # as torchvision's server calls it
    encoder = create("pretrained", model=name)
    path = encoder.find_weights(tmp_path)
    assert path is not None
    head = encoder.head_in(path)
    assert head is not None
    assert (head.count, head.trained_on) == (1000, "imagenet")
    encoder.open(path)
    batch = images(2, 256)
    found = encoder.encode(batch)
    cropped = torch.stack([images_of.center_crop(image.permute(2, 0, 1), [224]) for image in batch])
    x = normalised(cropped.permute(0, 2, 3, 1), [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    with torch.inference_mode():
        logits = network(x)
    torch.testing.assert_close(found["logits"], logits, rtol=1e-4, atol=1e-5)
    assert encoder.head is not None
    torch.testing.assert_close(encoder.head(found["embedding"]), logits, rtol=1e-4, atol=1e-5)
    assert found["embedding"].shape == (2, 1024)
    assert found["layers"].shape == (2, sum(encoder.layer_sizes))


def test_torchvisions_weights_that_are_not_here_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    where = "https://download.pytorch.org/models/swin_t-704ceda3.pth"
    with pytest.raises(CannotRun, match=f"no weights of swin_t here: get {where} and put it at .*/swin_t-704ceda3.pth"):
        create("pretrained", model="swin_t").find_weights(tmp_path)

    def offline(*args: Any, **more: Any) -> None:
        raise OSError("offline")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(CannotRun, match=r"the download failed \(offline\)"):
        create("pretrained", model="swin_t").find_weights(tmp_path, download=True)
    (cached := tmp_path / "hub" / "checkpoints" / "swin_t-704ceda3.pth").write_bytes(b"x")
    assert create("pretrained", model="swin_t").find_weights(tmp_path) == cached
