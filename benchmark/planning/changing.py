"""The suite as flags change it: what `--network`, `--pretrained` and `--quick` put in the place of its own."""

from collections.abc import Mapping
from typing import Any

import methods
from benchmark.planning.options import Options
from benchmark.planning.parts import EncoderSpec, RowSpec
from benchmark.planning.suite import Suite, UsageError
from methods.encoders import registry


def changed(suite: Suite, options: Options) -> tuple[Suite, list[str]]:
    """The suite that is run, and a footnote for each change."""
    footnotes = [f"{note}." for note in suite.notes]
    if options.network is not None:
        suite = with_network(suite, options.network)
    if options.pretrained is not None:
        before = {spec.settings["model"] for spec in suite.encoders.values() if spec.kind == "pretrained"}
        suite = with_pretrained(suite, options.pretrained)
        footnotes.append(
            f"--pretrained: {options.pretrained}, with its own feature maps, stands in for "
            f"{', '.join(sorted(before))}: not comparable with the published numbers."
        )
    if options.quick:
        suite = quickened(suite)
        footnotes.append("--quick: short trainings on few images: not comparable with a whole run.")
    return suite, footnotes


def quickened(suite: Suite) -> Suite:
    """The suite with what `--quick` puts in the place of its settings."""
    return suite.model_copy(
        update={
            "encoders": {
                name: spec.model_copy(update={"settings": {**spec.settings, **spec.quick}})
                for name, spec in suite.encoders.items()
            },
            "rows": tuple(row.model_copy(update={"settings": {**row.settings, **row.quick}}) for row in suite.rows),
        }
    )


_MAPS = {"resnet50": ["layer1", "layer2", "layer3"]}  # that the DLSR paper reads of other networks (Tables 6 and 7)


def with_pretrained(suite: Suite, model: str) -> Suite:
    """The suite with another model in the place of its pretrained encoder, with that model's own maps and head.

    Of a network of the DLSR paper the maps that it reads; of others all that the encoder finds.
    """
    maps = _MAPS.get(model.partition(".")[0])
    replaced = {
        name: spec.model_copy(
            update={
                "settings": {
                    **{key: value for key, value in spec.settings.items() if key != "layers"},
                    "model": model,
                    **({} if maps is None else {"layers": maps}),
                },
                "title": None,
            }
        )
        for name, spec in suite.encoders.items()
        if spec.kind == "pretrained"
    }
    if not replaced:
        raise UsageError(f"--pretrained: the suite {suite.name} has no pretrained encoder")
    return suite.model_copy(update={"encoders": {**suite.encoders, **replaced}})


def with_network(suite: Suite, given: Mapping[str, Any]) -> Suite:
    """The suite with the user's own network, an encoder of kind `network`, in the place of all that it names.

    Rows on pixels stay; of the others those that can stand on it, each once, beside no published number. UsageError for
    settings that cannot be.
    """
    name = str(given["network"])
    try:
        offered = {*registry.create("network", **given).offers, "head", "labels"}
    except ValueError as error:
        raise UsageError(f"--network: {error}") from None
    kinds = {encoder: spec.kind for encoder, spec in suite.encoders.items()}
    if "features" in kinds.values():
        raise UsageError(f"--network {name}: the suite {suite.name} is of features, which no network makes here")
    rows: dict[str, RowSpec] = {}
    for row in suite.rows:
        if kinds[row.encoder] != "pixels":
            if not set(methods.create(row.method, preset=row.preset, **row.settings).reads) <= offered:
                continue
            row = row.model_copy(update={"encoder": name, "published": None, "grid": {}})
        rows.setdefault(row.label, row)
    pixels = {encoder: spec for encoder, spec in suite.encoders.items() if spec.kind == "pixels"}
    encoders = {name: EncoderSpec(kind="network", settings=dict(given)), **pixels}
    return suite.model_copy(update={"encoders": encoders, "rows": tuple(rows.values())})
