"""What an encoder says that a file must hold: opened from that, it encodes to the bit as before."""

import timm
import torch
from safetensors.torch import save_file

from methods.base import Features
from methods.encoders import registry

IMAGES = torch.randint(0, 256, (24, 8, 8, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
TRAIN = Features(pixels=IMAGES, labels=torch.arange(24) % 2)
SMALL = {"architecture": "resnet8", "resolution": 8, "epochs": 1, "batch_size": 8}


def again(encoder, folder):
    """A new encoder, of the settings and the file that the first one says it needs."""
    state, header = encoder.weights()
    file = None
    if state:
        file = folder / "kept.safetensors"
        save_file({name: tensor.contiguous().clone() for name, tensor in state.items()}, file, header)
    kind = next(name for name in registry.names() if type(encoder) is registry.registered()[name])
    assert not {"checkpoint", "shipped", "latents"} & encoder.built_from.keys()
    return registry.create(kind, **encoder.built_from).open(file)


def same(encoder, folder, images=IMAGES[:4]):
    found, wanted = again(encoder, folder).encode(images), encoder.encode(images)
    assert found.keys() == wanted.keys()
    for name in wanted:
        assert torch.equal(found[name], wanted[name]), name


def test_of_trained_networks(tmp_path):
    same(registry.create("classifier", **SMALL).open(None).fit(TRAIN), tmp_path)
    same(registry.create("simclr", **SMALL, warmup_epochs=0, augment="digits").open(None).fit(TRAIN), tmp_path)


def test_of_a_tuned_one_with_its_adapter(tmp_path):
    settings = {**SMALL, "tune_epochs": 1, "outliers": "none", "backbone": "frozen", "held_out": 0.2}
    tuned = registry.create("oal", **settings).open(None).fit(TRAIN)
    assert any(name.startswith("adapter.") for name in tuned.weights()[0])
    same(tuned, tmp_path)


def test_of_networks_in_files(tmp_path):
    torch.manual_seed(0)
    network = timm.create_model("test_resnet", num_classes=3)
    torch.save({"state_dict": network.state_dict()}, tmp_path / "my.pth")
    how = {"network": "test_resnet", "checkpoint": str(tmp_path / "my.pth"), "size": 32}
    same(registry.create("network", **how).open(tmp_path / "my.pth"), tmp_path)
    file = tmp_path / "public.safetensors"
    save_file(timm.create_model("test_resnet.r160_in1k", pretrained=False).state_dict(), file)
    public = registry.create("pretrained", model="test_resnet.r160_in1k", resolution=32)
    same(public.open(file), tmp_path)
    tuned = registry.create("finetuned", model="test_resnet.r160_in1k", resolution=32, epochs=1, batch_size=12)
    same(tuned.open(None).start_from(file).fit(TRAIN), tmp_path)


def test_of_what_reads_vectors(tmp_path):
    embedding = torch.randn(24, 5, generator=torch.Generator().manual_seed(0))
    probe = registry.create("probe", base="net").open(None).fit(Features(embedding=embedding, labels=TRAIN.labels))
    same(probe, tmp_path, embedding)
    head = probe.weights()[0]
    save_file(head, tmp_path / "head.safetensors")
    reader = registry.create("features", embedding=5, logits=2).open(tmp_path / "head.safetensors")
    found, wanted = again(reader, tmp_path).given({"embedding": embedding}), reader.given({"embedding": embedding})
    assert torch.equal(found["logits"], wanted["logits"])
    same(registry.create("pixels", resolution=8), tmp_path)
