"""In what a row departs from the published one: a note that tables carry, made from the settings themselves."""

from collections.abc import Iterable, Mapping
from typing import Any

import methods
from benchmark.jobs.inputs import EncoderUse
from methods.base import Method, hyperparameters
from methods.encoders import registry
from methods.encoders.base import settings

# Whose defaults (or preset) are published, each with other values that are published as well, for another data set.
# Defaults of all others are this project's or a user's own choice: to train otherwise is told, and not called a
# departure from anything published.
_PUBLISHED: Mapping[str, Mapping[str, tuple[Any, ...]]] = {
    "dlsr": {},
    "ddpm": {},
    "glow": {},
    "pixelcnn": {},
    "vae": {},
    "simclr": {},
    "react": {},
    "dice": {},
    "ash": {"percentile": (60, 65, 80, 85, 90, 95)},
    "knn": {"k": (50, 200, 1000)},
}
# what a row or an encoder is, and which arm of OAL, not how well it is made
_IDENTITY = {"measure", "network", "layers", "lr_sign", "complexity", "variant", "feature", "per_class"}
_IDENTITY |= {"architecture", "model", "resolution", "checkpoint", "shipped", "base", "pooling", "latents", "augment"}
_IDENTITY |= {"outliers", "distil", "club", "loss", "backbone", "guidance"}

_CALIBRATED = {
    True: "calibration images, which are kept out of every fit",
    False: "training images, as none are kept out to calibrate on",
}


def of_method(name: str, preset: str | None, method: Method, *, calibrated: bool) -> list[str]:
    """A method's settings that are not its published ones (the defaults, or the preset's), in training and scoring.

    Of a method whose defaults are not published: what a training has in the place of its defaults. Behind them what the
    method itself has told, and what it is calibrated on. `calibrated`: whether images are held out for that.
    """
    usual = methods.create(name, preset=preset)
    fields = [field for field in hyperparameters(method) if field not in {*method.inert, *_IDENTITY}]
    scoring = [field for field in fields if field in method.score_only or not method.random_fit]
    training = [field for field in fields if field not in scoring]
    parts = [_changed("trained with", name, method, usual, training)]
    if name in _PUBLISHED:
        parts.append(_changed("scored with", name, method, usual, scoring))
    told = [method.remark] if method.remark else []
    if method.calibrates:
        told.append(f"calibrated on the ID {_CALIBRATED[calibrated]}")
    return [*_note(name, parts), *told]


def of_encoder(use: EncoderUse) -> list[str]:
    """The same of an encoder that is trained here."""
    if not use.trained_here:
        return []
    identity = {name: value for name, value in use.settings.items() if name in _IDENTITY}
    usual = registry.create(use.kind, **identity)
    chosen = [field for field in settings(usual) if field not in _IDENTITY]
    return _note(use.kind, [_changed(f"{use.title} was trained with", use.kind, use.encoder, usual, chosen)])


def _changed(what: str, name: str, ours: Any, usual: Any, chosen: Iterable[str]) -> str:
    """The settings that are neither the usual ones nor published as well; "" where there are none."""
    also = _PUBLISHED.get(name, {})
    changed = [
        f"{field} {getattr(ours, field)} ({getattr(usual, field)})"
        for field in chosen
        if getattr(ours, field) not in (getattr(usual, field), *also.get(field, ()))
    ]
    return f"{what} {', '.join(changed)}" if changed else ""


def _note(name: str, parts: Iterable[str]) -> list[str]:
    told = "; ".join(filter(None, parts))
    return [f"{told}; in brackets the {'published settings' if name in _PUBLISHED else 'defaults'}"] if told else []
