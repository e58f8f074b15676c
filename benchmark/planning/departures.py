"""In what a training departs from the published one: a note that tables carry, made from the settings themselves."""

from typing import Any

import methods
from benchmark.jobs.inputs import EncoderUse
from methods.base import Method, hyperparameters
from methods.encoders import registry
from methods.encoders.base import settings

# what an encoder is, and which arm of OAL, not how well it is trained
_IDENTITY = {
    "architecture",
    "model",
    "resolution",
    "checkpoint",
    "shipped",
    "base",
    "layers",
    "pooling",
    "latents",
    "augment",
}
_IDENTITY |= {"outliers", "distil", "club", "loss", "backbone", "guidance"}


def of_method(name: str, preset: str | None, method: Method) -> list[str]:
    """A trained method's settings that are not its published ones (the defaults, or the preset's)."""
    if not method.random_fit:
        return []
    published = methods.create(name, preset=preset)
    chosen = [field for field in hyperparameters(method) if field not in {*method.score_only, *method.inert}]
    return _note("trained with", method, published, chosen)


def of_encoder(use: EncoderUse) -> list[str]:
    """The same of an encoder that is trained here."""
    if not use.trained_here:
        return []
    identity = {name: value for name, value in use.settings.items() if name in _IDENTITY}
    published = registry.create(use.kind, **identity)
    chosen = [field for field in settings(published) if field not in _IDENTITY]
    return _note(f"{use.title} was trained with", use.encoder, published, chosen)


def _note(what: str, ours: Any, published: Any, chosen: list[str]) -> list[str]:
    changed = [
        f"{field} {getattr(ours, field)} ({getattr(published, field)})"
        for field in chosen
        if getattr(ours, field) != getattr(published, field)
    ]
    return [f"{what} {', '.join(changed)}; in brackets the published settings"] if changed else []
