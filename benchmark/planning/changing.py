"""The suite as flags change it: what `--quick` and `--pretrained` put in the place of its own settings."""

from benchmark.planning.options import Options
from benchmark.planning.suite import Suite, UsageError


def changed(suite: Suite, options: Options) -> tuple[Suite, list[str]]:
    """The suite that is run, and a footnote for each change."""
    footnotes = [f"{note}." for note in suite.notes]
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
    """The suite with another timm model in the place of its pretrained encoder, with that model's own maps.

    Of a network of the DLSR paper the maps that it reads; of others all that timm lists.
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
