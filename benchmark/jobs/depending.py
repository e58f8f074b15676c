"""What a record depends on, in words that outlive an edit of the source: networks, training, settings."""

from typing import Any

from benchmark.jobs.inputs import EncoderUse
from benchmark.store import keys


def of_encoder(use: EncoderUse) -> dict[str, Any]:
    """Kind, settings, and the hash of the weights or the training that they come from."""
    about = {name: use.identity[name] for name in ("kind", "settings", "weights", "precision", "match")}
    if use.trained_here:
        assert use.train is not None
        start = (
            of_encoder(use.start) if isinstance(use.start, EncoderUse) else use.start and keys.file_digest(use.start)
        )
        about["training"] = {"data": use.train.identity, "seed": use.seed if use.random else None, "start": start}
    if use.base is not None:
        about["base"] = of_encoder(use.base)
    return about
