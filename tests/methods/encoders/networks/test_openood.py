"""OpenOOD's checkpoints are found where its download has them, and read as it reads them."""

import pytest
import torch
from safetensors.torch import save_file

from methods.base import CannotRun
from methods.encoders.networks import cifar, openood
from methods.encoders.registry import create

FOLDER = "cifar100_resnet18_32x32_base_e100_lr0.1_default"


def test_names():
    assert openood.released("openood_imagenet200_resnet18_s2").file == (
        "imagenet200_resnet18_224x224_base_e90_lr0.1_default/s2/best.ckpt"
    )
    for other in (None, "cifar10_resnet18", "openood_cifar10_resnet18", "openood_svhn_resnet18_s0"):
        assert openood.released(other) is None


@pytest.mark.parametrize("form", ["download", "safetensors"])
def test_a_checkpoint_is_read_with_openoods_mean_and_std_and_classes(tmp_path, form):
    torch.manual_seed(0)
    network = cifar.build("resnet18", 100).eval()
    encoder = create("classifier", architecture="resnet18", checkpoint="openood_cifar100_resnet18_s1")
    with pytest.raises(CannotRun, match=rf"or as OpenOOD's {FOLDER}/s1/best.ckpt"):
        encoder.find_weights(tmp_path)
    if form == "download":
        (tmp_path / FOLDER / "s1").mkdir(parents=True)
        torch.save(network.state_dict(), tmp_path / FOLDER / "s1" / "best.ckpt")
    else:
        save_file(network.state_dict(), tmp_path / "openood_cifar100_resnet18_s1.safetensors")
    path = encoder.find_weights(tmp_path)
    head = encoder.head_in(path)
    assert (head.count, head.trained_on) == (100, "cifar100")
    images = torch.randint(256, (2, 32, 32, 3), dtype=torch.uint8)
    found = encoder.open(path).encode(images)["logits"]
    mean, std = torch.tensor([0.5071, 0.4867, 0.4408]), torch.tensor([0.2675, 0.2565, 0.2761])
    with torch.inference_mode():
        logits = network(((images / 255 - mean) / std).permute(0, 3, 1, 2))
    torch.testing.assert_close(found, logits, rtol=1e-4, atol=1e-4)
