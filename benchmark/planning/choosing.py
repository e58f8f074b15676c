"""Which rows of a suite a run is of, and on which encoders a method can stand."""

import methods
from benchmark.planning.suite import RowSpec, Suite, UsageError
from methods.base import nearest
from methods.encoders import registry


def choose_rows(suite: Suite, tokens: list[str]) -> tuple[RowSpec, ...]:
    """The rows that `--methods` names: rows of the suite (`name`, `name@encoder`), else any registered method.

    A method that is no row of the suite runs on every encoder that offers what it reads, or on `method@encoder`.
    """
    chosen: dict[str, RowSpec] = {}
    for token in tokens:
        there = (
            [row for row in suite.rows if row.label == token]
            or [row for row in suite.rows if row.label.partition("@")[0] == token]
            or [row for row in suite.rows if row.method == token]
        )
        if not there:
            name, at, encoder = token.partition("@")
            if at and encoder not in suite.encoders:
                raise UsageError(f"--methods {token}: no encoder {encoder!r}; {nearest(encoder, suite.encoders)}")
            if name not in methods.names():
                valid = {*methods.names(), *(row.label.partition("@")[0] for row in suite.rows)}
                raise UsageError(f"--methods: no method or row {name!r}; {nearest(name, valid)}")
            encoders = [encoder] if at else _fitting_encoders(suite, name)
            there = [RowSpec(method=name, encoder=encoder) for encoder in encoders]
        chosen |= {row.label: row for row in there}
    return tuple(chosen.values())


def _fitting_encoders(suite: Suite, method: str) -> list[str]:
    reader = methods.create(method)
    fitting = [name for name in suite.encoders if not reader.lacking(offered(suite, name))]
    needs = reader.lacking(())
    if not needs:
        return fitting[:1]
    if not fitting:
        raise UsageError(
            f"--methods {method}: it reads {', '.join(sorted(needs))}; no encoder of the suite {suite.name} offers that"
        )
    return fitting


def offered(suite: Suite, encoder: str) -> set[str]:
    """The features that an encoder of the suite offers, those of the encoder that it stands on among them."""
    spec = suite.encoders[encoder]
    there = set(registry.create(spec.kind, **spec.settings).offers)
    base = spec.settings.get("base")
    there |= offered(suite, base) if base is not None else set()
    return there | ({"head"} if "logits" in there else set())
