"""The checkpoints that OpenOOD v1.5 releases: where its download has each, and what the files do not say."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

_FOLDERS = {
    "cifar10": "cifar10_resnet18_32x32_base_e100_lr0.1_default",
    "cifar100": "cifar100_resnet18_32x32_base_e100_lr0.1_default",
    "imagenet200": "imagenet200_resnet18_224x224_base_e90_lr0.1_default",
}
# Mean and std of the images, as openood/evaluation_api/preprocessor.py has them; of ImageNet they are the usual ones.
_NORMALISED = {
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
}
_NAME = re.compile(rf"openood_({'|'.join(_FOLDERS)})_resnet18_s([0-9]+)")


@dataclass(frozen=True)
class Released:
    """`file`: in the folder that holds the download. `header`: what a file of ours says in its header."""

    file: str
    header: Mapping[str, str]


def released(name: str | None) -> Released | None:
    """The checkpoint that is called `openood_cifar10_resnet18_s0` and the like; None for other names."""
    found = _NAME.fullmatch(name or "")
    if found is None:
        return None
    trained_on, seed = found.groups()
    said = {}
    if trained_on in _NORMALISED:
        mean, std = _NORMALISED[trained_on]
        said = {"mean": json.dumps(mean), "std": json.dumps(std), "trained_on": trained_on}
    return Released(f"{_FOLDERS[trained_on]}/s{seed}/best.ckpt", said)
