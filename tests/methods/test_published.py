"""Defaults and presets are the published settings (methods.md)."""

from typing import Any

import pytest
import torch

import methods
from methods.base import hyperparameters
from tests.methods.test_posthoc import score

PUBLISHED: dict[str, dict[str, Any]] = {
    "gen": {"gamma": 0.1, "m": 100},
    "she": {"similarity": "inner"},
    "nnguide": {"k": 10, "share": 0.01},
    "fdbd": {"norm": "mean"},
    "nci": {"alpha": 1e-4},
    "scale": {"percentile": 85},
    "lts": {"percentile": 95},
    "relation": {"power": 1, "threshold": 0.03},
    "cadref": {"confidence": "energy"},
    "optfs": {"bins": 100},
    "vra": {"lower": 10, "upper": 90, "per_channel": True, "below": "zero"},
    "kpca": {"kernel": "cosine", "share": None, "components": None, "floor": True, "gamma": 2, "features": 2048},
    "ddu": {"jitter": None, "prior": False, "unbiased": True},
    "nac": {"edges": 50, "full": 50, "slope": 100, "images": 1000, "layers": "last"},
    "openmax": {"tail": 20, "alpha": 3},
    "weiper": {"delta": 1.8, "copies": 100, "bins": 100, "l1": 2.5, "l2": 0.1, "smooth_z": 4, "smooth_f": 15},
    "adascale": {"variant": "a", "k1": 0.05, "k2": 0.01, "weight": 10, "p_min": 75, "p_max": 85},
    "gram": {"group": "predicted"},
    "combood": {"k": 50, "combination": "n"},
    "msp": {"temperature": 1},
    "mcm": {"tau": 1},
    "glmcm": {"tau": 1, "weight": 0.5},
    "neglabel": {"tau": 0.01, "groups": 100},
    "residual": {"dim": None},
    "rmds": {"normalise": False},
    "cfood": {"alpha": 0.1, "share": 0.01, "neighbours": 230},
    "mahalanobis": {"per_class": True, "feature": "embedding", "normalise": False},
    "knn": {"k": 50, "feature": "embedding"},
    "layer_knn": {"k": 50},
    "react": {"percentile": 90},
    "dice": {"percentile": 90},
    "ash": {"variant": "s", "percentile": 90},
    "vim": {"dim": None},
    "ebo": {"temperature": 1},
    **{name: {} for name in ("entropy", "tempscale", "caref", "ctm", "pnml", "maxlogit", "klm", "gradnorm")},
}
PRESETS: dict[tuple[str, str], dict[str, Any]] = {
    ("gen", "cadref"): {"m": 10},
    ("nnguide", "openood"): {"k": 100},
    ("nci", "pytorch-ood"): {"alpha": 0},
    ("relation", "label_noise"): {"power": 4},
    ("vra", "openood"): {"per_channel": False, "below": "clip"},
    ("vra", "pytorch-ood"): {"lower": 1, "upper": 99, "below": "clip"},
    ("kpca", "imagenet"): {"share": 0.99, "floor": False},
    ("kpca", "imagenet_contrastive"): {"share": 0.7, "floor": False},
    ("kpca", "rff_contrastive"): {"kernel": "rff", "gamma": 1, "share": 0.7},
    ("kpca", "rff_imagenet"): {"kernel": "rff", "gamma": 3, "features": 4096, "share": 0.5},
    ("kpca", "rff_imagenet_contrastive"): {"kernel": "rff", "gamma": 1, "features": 4096, "share": 0.5},
    ("residual", "openood"): {"dim": 512},
    ("ddu", "pytorch-ood"): {"jitter": 1e-6, "prior": True, "unbiased": False},
    ("gram", "openood"): {"group": "label"},
    ("adascale", "imagenet"): {"p_min": 80, "p_max": 85},
    ("glmcm", "parser"): {"weight": 1},
    ("nac", "cifar100"): {"slope": 50},
    ("nac", "imagenet"): {"full": 10, "slope": 3000},
    ("weiper", "cifar100"): {"delta": 2.4, "l1": 0.1, "l2": 1, "smooth_f": 40},
    ("weiper", "imagenet"): {"delta": 2.4, "l2": 0.25, "smooth_z": 40},
    ("weiper", "imagenet_vit"): {"delta": 2, "bins": 80, "smooth_z": 40},
}


CALIBRATED = {"tempscale", "vra", "adascale", "gram"}  # by ID validation images, where these are there


def test_what_is_calibrated() -> None:
    assert {name for name in PUBLISHED if methods.get(name).calibrates} == CALIBRATED


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_defaults(name: str) -> None:
    method = methods.create(name)
    assert {field: getattr(method, field) for field in hyperparameters(method)} == PUBLISHED[name]


@pytest.mark.parametrize(("name", "preset"), PRESETS)
def test_published_presets(name: str, preset: str) -> None:
    assert methods.create(name, preset=preset) == methods.create(name, **PRESETS[name, preset])


@pytest.mark.parametrize(("kernel", "share"), [("cosine", 0.85), ("rff", 0.8)])
def test_kernel_pca_share(kernel: str, share: float) -> None:
    settings: dict[str, Any] = {"kernel": kernel, "features": 96, "floor": False}
    assert torch.equal(score("kpca", **settings), score("kpca", **settings, share=share))
    assert not torch.equal(score("kpca", **settings), score("kpca", **settings, share=share - 0.05))
