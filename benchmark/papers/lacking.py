"""What a view of a paper needs that is not here: looked up without the packages that a run needs."""

from functools import cache, partial
from pathlib import Path
from typing import Any

from benchmark.papers import reading
from benchmark.planning import suite as suites
from benchmark.planning.parts import EncoderSpec
from datasets.sources import present
from methods.base import CannotRun

_suite = cache(partial(suites.read, checked=False))  # ours; most views stand on the same few


def lacking(view: Any, data: Path, weights: Path) -> list[str]:
    """What a view needs that is not here: data sets and encoders, by name; empty where it can be filled whole."""
    absent = [each for each in reading.sets_of(view) if not present(each, data, "test")]
    specs: list[EncoderSpec] = []
    for suite_name, label, pretrained in reading.rows_of(view):
        suite = _suite(suite_name)
        if not all(present(suite.id.set, data, split) for split in ("train", "test")):
            absent.append(suite.id.set)
        encoder = next(row.encoder for row in suite.rows if row.label == label)
        spec = suite.encoders[suite.below(encoder)[-1]]
        if spec.kind == "pretrained" and pretrained is not None:
            spec = spec.model_copy(update={"settings": {"model": pretrained}})
        specs += [] if spec in specs else [spec]
    for spec in specs:
        absent += _lacking_weights(spec, weights)
    return sorted(set(absent))


def _lacking_weights(spec: EncoderSpec, weights: Path) -> list[str]:
    if "model" in spec.settings:  # of timm, which takes seconds to import
        from huggingface_hub import constants

        model = str(spec.settings["model"])
        files = (weights / f"{stem}.safetensors" for stem in (model, model.partition(".")[0]))
        here = any(file.is_file() for file in files)
        return [] if here or Path(constants.HF_HUB_CACHE, f"models--timm--{model}").is_dir() else [model]
    from methods.encoders import registry

    encoder = registry.create(spec.kind, **spec.settings)
    try:
        if encoder.find_weights(weights) is None:
            encoder.find_start(weights)
    except CannotRun:
        return [str(spec.settings.get("checkpoint", spec.kind))]
    return []
