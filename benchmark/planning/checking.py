"""That what a suite names exists: methods and encoders with these settings, and data sets."""

from typing import TYPE_CHECKING

from methods.base import nearest

if TYPE_CHECKING:
    from benchmark.planning.parts import EncoderSpec
    from benchmark.planning.suite import Suite


def check_names(suite: "Suite") -> None:
    """ValueError, in one line, for the first name or setting that cannot be."""
    _check_encoders(suite)
    _check_rows(suite)
    _check_sets(suite)


def _check_encoders(suite: "Suite") -> None:
    from methods.encoders import registry

    registry.names()  # all are known from here on
    for name, spec in suite.encoders.items():
        base = spec.settings.get("base")
        bases = [other for other, there in suite.encoders.items() if _carries(there, spec)]
        if base is not None and base not in bases:
            raise ValueError(
                f"encoders.{name}.settings.base: no encoder {base!r} to stand on; {nearest(str(base), bases)}"
            )
        for settings in (spec.settings, {**spec.settings, **spec.quick}):
            try:
                registry.create(spec.kind, **settings)
            except (ValueError, TypeError) as error:
                raise ValueError(f"encoders.{name}: {error}") from None


def _carries(spec: "EncoderSpec", other: "EncoderSpec") -> bool:
    """Whether another encoder may stand on it: on what stands on something itself only what runs a network again."""
    from methods.encoders.base import registered

    reruns = {kind for kind, cls in registered().items() if cls.reruns}
    return "base" not in spec.settings or (other.kind in reruns and spec.kind not in reruns)


def _check_rows(suite: "Suite") -> None:
    import methods
    from benchmark.planning.grids import choices
    from methods.encoders import registry

    for row in suite.rows:
        if row.encoder not in suite.encoders:
            raise ValueError(f"row {row.label}: no encoder {row.encoder!r}; {nearest(row.encoder, suite.encoders)}")
        for settings in (row.settings, {**row.settings, **row.quick}):
            try:
                methods.create(row.method, preset=row.preset, **settings)
            except (ValueError, TypeError) as error:
                raise ValueError(f"row {row.label}: {error}") from None
        spec = suite.encoders[row.encoder]
        try:
            for choice in choices(row.grid, row.method, spec.kind) if row.grid else ():
                methods.create(row.method, preset=row.preset, **{**row.settings, **choice.of_method})
                registry.create(spec.kind, **{**spec.settings, **choice.of_encoder})
        except (ValueError, TypeError) as error:
            raise ValueError(f"row {row.label}: grid: {error}") from None


def _check_sets(suite: "Suite") -> None:
    from datasets import catalogue, openood
    from datasets.altered import ALTERATIONS

    if suite.protocol is not None and suite.protocol not in (known := openood.protocols()):
        raise ValueError(f"no protocol {suite.protocol!r} of OpenOOD; {nearest(suite.protocol, known)}")
    for ood in suite.ood:
        if ood.group == "control" and ood.set not in ALTERATIONS:
            raise ValueError(f"no control {ood.set!r}; {nearest(ood.set, ALTERATIONS)}")
    for place, name in suite.named_sets():
        try:
            catalogue.get(name)
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from None
