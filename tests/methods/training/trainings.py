"""Every training of the project that captures its step, small: what it learns, by name."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import methods
from methods.base import Features
from methods.encoders.outliers import feature_diffusion
from methods.encoders.registry import create
from methods.training.loop import seeded

SOURCE = torch.Generator().manual_seed(0)
LAYERS = Features(layers=torch.randn(40, 12, generator=SOURCE), layer_sizes=(4, 8))
PIXELS = Features(
    pixels=torch.randint(256, (40, 8, 8, 3), generator=SOURCE, dtype=torch.uint8), labels=torch.arange(40) % 2
)
FEW = {"epochs": 2, "batch_size": 16}  # 16, 16, 8: two shapes of batches
NETWORK = {"architecture": "resnet8", "resolution": 8} | FEW
TUNED = NETWORK | {"tune_epochs": 2, "n_out": 4, "k": 5, "held_out": 0.2}

METHODS: dict[str, tuple[Features, dict[str, Any]]] = {
    "dlsr": (LAYERS, FEW | {"blocks": 1, "ema": 0.9}),
    "autoencoder": (LAYERS, FEW | {"blocks": 1, "noise_level": 3}),
    "feature_vae": (LAYERS, FEW),
    "vae": (PIXELS, FEW | {"nz": 4, "width": 4}),
    "glow": (PIXELS, FEW | {"levels": 1, "steps": 1, "width": 8, "clip": 1.0, "warmup_epochs": 1}),
    "pixelcnn": (PIXELS, FEW | {"blocks": 1, "filters": 4, "mixtures": 1}),
    "ddpm": (PIXELS, FEW | {"width": 4}),
}
ENCODERS: dict[str, tuple[str, dict[str, Any]]] = {
    "classifier": ("classifier", NETWORK),
    "simclr": ("simclr", NETWORK | {"warmup_epochs": 1}),
    "oal": ("oal", TUNED | {"outliers": "knn", "loss": "logistic", "club": True}),
    "oal behind a frozen network": ("oal", TUNED | {"outliers": "knn", "backbone": "frozen"}),
}
NAMES = (*METHODS, *ENCODERS, "feature diffusion")


def learned(name: str, device: str, precision: str) -> dict[str, Tensor]:
    """What the training ends with, its losses as well, on the CPU."""
    if name in METHODS:
        train, settings = METHODS[name]
        fit: Callable[..., Any] = methods.create(name, **settings).fit
        return fit(train, seed=1, device=device, precision=precision).state()  # type: ignore[no-any-return]
    if name in ENCODERS:
        kind, settings = ENCODERS[name]
        encoder = create(kind, **settings).open(None, device=device, precision=precision)
        return encoder.fit(PIXELS, seed=1, device=device).state()
    with seeded(0):
        network = feature_diffusion.ConditionalLFDN(12, 2, blocks=1)
    z, labels = LAYERS.need("layers").to(device), PIXELS.need_labels().to(device)
    how = {"epochs": 4, "lr": 1e-3, "seed": 1, "device": device, "workdir": None}
    losses = feature_diffusion.fit(network, z, labels, **how)  # type: ignore[arg-type]
    return {name: value.cpu() for name, value in network.state_dict().items()} | {"losses": torch.tensor(losses)}
