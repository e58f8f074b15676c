"""Which rows of a suite a run is of, and on which encoders a method can stand."""

import re
from typing import Any

import methods
from benchmark.planning import yaml_reader
from benchmark.planning.parts import RowSpec
from benchmark.planning.suite import Suite, UsageError
from methods.base import nearest
from methods.encoders import registry
from methods.encoders.base import registered

_SETTING = re.compile(r"(\w+)=(.*)", re.DOTALL)


def choose_rows(suite: Suite, tokens: list[str], flag: str = "--methods") -> tuple[RowSpec, ...]:
    """The rows that `--methods` names: rows of the suite (`name`, `name@encoder`), else any registered method.

    A method that is no row of the suite runs on every encoder that offers what it reads, or on `method@encoder`.
    `name:k=5,other=true` is that row or method with these hyper-parameters in the place of its own: a row beside it.
    `flag`: what a UsageError says of where the tokens come from.
    """
    chosen: dict[str, RowSpec] = {}
    for token in tokens:
        there = [row for row in suite.rows if row.label == token]
        before, at, encoder = token.partition("@")
        name, colon, told = before.partition(":")
        there = there or _named(suite, name, encoder if at else None, f"{flag} {token}")
        if colon and not any(row.label == token for row in suite.rows):
            there = [_changed(row, told, f"{flag} {token}") for row in there]
        chosen |= {row.label: row for row in there}
    return tuple(chosen.values())


def _named(suite: Suite, name: str, encoder: str | None, token: str) -> list[RowSpec]:
    """Rows of that name, else of that method, else new ones of the method."""
    rows = [row for row in suite.rows if encoder in (None, row.encoder)]
    there = [row for row in rows if row.label.partition("@")[0] == name]
    if not there and encoder is None:
        there = [row for row in rows if row.method == name]
    if there:
        return there
    if encoder is not None and encoder not in suite.encoders:
        raise UsageError(f"{token}: no encoder {encoder!r}; {nearest(encoder, suite.encoders)}")
    if name not in methods.names():
        valid = {*methods.names(), *(row.label.partition("@")[0] for row in suite.rows)}
        raise UsageError(f"{token.partition(' ')[0]}: no method or row {name!r}; {nearest(name, valid)}")
    encoders = _fitting_encoders(suite, name, token) if encoder is None else [encoder]
    return [RowSpec(method=name, encoder=encoder) for encoder in encoders]


def _changed(row: RowSpec, told: str, token: str) -> RowSpec:
    """The row with other hyper-parameters, under a name that says them; no published number is of it."""
    given: dict[str, Any] = {}
    for part in re.split(r",(?=\w+=)", told):
        if (found := _SETTING.fullmatch(part)) is None:
            raise UsageError(f"{token}: {part!r:.60} is no hyper-parameter=value, as in knn:k=5")
        name, text = found.groups()
        if name in given:
            raise UsageError(f"{token}: {name} stands there twice")
        try:
            given[name] = yaml_reader.parse(text)
        except ValueError as error:
            raise UsageError(f"{token}: {name}: {error}") from None
    settings = {**row.settings, **given}
    try:
        method = methods.create(row.method, preset=row.preset, **settings)
    except (ValueError, TypeError) as error:
        raise UsageError(f"{token}: {error}") from None
    name = f"{row.name or row.method}:{told}"
    title = f"{method.title or row.method} ({told})"
    return row.model_copy(update={"name": name, "title": title, "settings": settings, "quick": {}, "published": None})


def _fitting_encoders(suite: Suite, method: str, token: str) -> list[str]:
    reader = methods.create(method)
    fitting = [name for name in suite.encoders if not reader.lacking(offered(suite, name))]
    needs = reader.lacking(())
    if not needs:
        return fitting[:1]
    if not fitting:
        raise UsageError(
            f"{token}: it reads {', '.join(sorted(needs))}; no encoder of the suite {suite.name} offers that"
        )
    return fitting


def offered(suite: Suite, encoder: str) -> set[str]:
    """The features that an encoder of the suite offers, those of the encoder that it stands on among them."""
    spec = suite.encoders[encoder]
    there = set(registry.create(spec.kind, **spec.settings).offers)
    base = spec.settings.get("base")
    there |= offered(suite, base) if base is not None and not registered()[spec.kind].reruns else set()
    return there | ({"head"} if "logits" in there else set())
