"""What a record depends on, in words that outlive an edit of the source, and where a network in a file was made."""

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmark.jobs.inputs import EncoderUse
from benchmark.jobs.scoring import Score
from benchmark.store import keys
from methods.device import tensors

_MACHINE = ("cpu", "threads", "commit", "versions")  # of a header: what a training here keeps as well


def of_encoder(use: EncoderUse) -> dict[str, Any]:
    """Kind, settings, and the hash of the weights or the training that they come from; `of_seed` of a file a seed."""
    about = {name: use.identity[name] for name in ("kind", "settings", "weights", "precision", "match")}
    if use.of_seeds:
        about["of_seed"] = use.seed
    if use.trained_here:
        assert use.train is not None
        start = (
            of_encoder(use.start) if isinstance(use.start, EncoderUse) else use.start and keys.file_digest(use.start)
        )
        about["training"] = {"data": use.train.identity, "seed": use.seed if use.random else None, "start": start}
    if use.base is not None:
        about["base"] = of_encoder(use.base)
    if use.of is not None:
        about["of"] = of_encoder(use.of)
    return about


@functools.lru_cache(maxsize=16)  # every cell of a row asks
def made(use: EncoderUse) -> dict[str, Any] | None:
    """Where and with what the file that an encoder comes from was trained, as its header says; None where none does."""
    file = use.weights or use.start
    if isinstance(file, Path):
        said = tensors.header(file).get("machine", "null")
        try:
            machine = json.loads(said) if len(said) < 10_000 else None
        except (ValueError, RecursionError):
            return None
        return {name: machine[name] for name in _MACHINE if name in machine} if isinstance(machine, Mapping) else None
    below = file or use.base or use.of
    return None if below is None else made(below)


def of_row(about: Mapping[str, Any], id: Score) -> dict[str, Any]:
    """Of a row with one seed, beside the set that it is held against: network, ID images, method.

    `train`: the images that the method learns from, where it does.
    """
    return {
        "encoder": of_encoder(id.images[-1].use),
        "train": id.fit.train[-1].images.identity if id.fit else None,
        "id": id.images[-1].images.identity,
        **{name: about[name] for name in ("method", "hyperparameters", "seed")},
    }
