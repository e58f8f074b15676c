"""A suite: one ID set, its OOD sets, encoders and rows, read from YAML and checked on reading."""

import os
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, field_validator

from methods.base import nearest

SUITES = Path(__file__).parents[1] / "suites"
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the same, but ten times as fast where libyaml is there


class UsageError(ValueError):
    """What the user asked for cannot be: exit status 2."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class IDSet(_Strict):
    """The data set that the methods know. `size` of its images in pixels: by default the short side of the first."""

    set: str
    size: int | None = Field(default=None, gt=0)


class OODSet(_Strict):
    """A set to be flagged. `stand_in` takes its place, under its own name, where the set itself is absent.

    `published`: the set's name in the reference tables. Of the group "control" `set` is an alteration of the ID test
    set (`datasets.altered`), which a detector of anything but resolution does not flag; no average counts it.
    """

    set: str
    group: Literal["near", "far", "control"] = "far"
    stand_in: str | None = None
    published: str | None = None


class EncoderSpec(_Strict):
    """An encoder: its kind, its settings, and what `--quick` puts in the place of some of them."""

    kind: str
    settings: dict[str, Any] = {}
    quick: dict[str, Any] = {}
    title: str | None = None


class RowSpec(_Strict):
    """A method with its hyper-parameters on one encoder: a line of the table. `published`: its name there."""

    method: str
    encoder: str
    name: str | None = None
    title: str | None = None
    preset: str | None = None
    settings: dict[str, Any] = {}
    quick: dict[str, Any] = {}
    published: str | None = None

    @property
    def label(self) -> str:
        """What the row is called in records, on the command line and in file names."""
        return f"{self.name or self.method}@{self.encoder}"


class Published(_Strict):
    """Where the published numbers are: the ID set's name there, and the tables, the first that has a cell wins."""

    id: str
    tables: tuple[str, ...]


class Quick(_Strict):
    """What `--quick` means for this suite, beside what encoders and rows say: images, and speed repeats stay."""

    limit_train: int | None = Field(default=None, gt=0)


class Suite(_Strict):
    """What to run. Read it with `read`.

    `calibrate`: calibration images are taken out of the training set before every fit and every training, and records
    carry thresholds. Published protocols fit on all of it.
    """

    name: str
    title: str
    id: IDSet
    ood: tuple[OODSet, ...] = Field(min_length=1)
    encoders: dict[str, EncoderSpec] = Field(min_length=1)
    rows: tuple[RowSpec, ...] = Field(min_length=1)
    seeds: tuple[int, ...] = (0,)
    calibrate: bool = False
    quick: Quick = Quick()
    published: Published | None = None
    _folder: Path = PrivateAttr(SUITES)

    @property
    def folder(self) -> Path:
        """Where the suite's file lies, and what it ships."""
        return self._folder

    @field_validator("rows")
    @classmethod
    def _rows_differ(cls, rows: tuple[RowSpec, ...]) -> tuple[RowSpec, ...]:
        labels = [row.label for row in rows]
        for label in labels:
            if labels.count(label) > 1:
                raise ValueError(f"two rows are called {label!r}: give one of them a `name`")
        return rows


def names() -> list[str]:
    """The suites that come with the project."""
    return sorted(path.stem for path in SUITES.glob("*.yaml"))


def read(name: str) -> Suite:
    """The suite `name`, or the one in a YAML file. UsageError, in one line, for whatever is wrong with it."""
    path = Path(name) if name.endswith((".yaml", ".yml")) else SUITES / f"{name}.yaml"
    if not path.is_file():
        if path.parent == SUITES:
            raise UsageError(f"no suite {name!r}; {nearest(name, names())}")
        raise UsageError(f"there is no file {path}")
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), LOADER)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not plain YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise UsageError(f"{path}: a suite is a mapping (title, id, ood, encoders, rows)")
    content.setdefault("name", path.stem)
    try:
        suite = Suite.model_validate(content)
    except ValidationError as error:
        raise UsageError(f"{path}: {_first_fault(error)}") from None
    suite._folder = path.parent
    _check_names(suite, path)
    return _with_paths(suite, path.parent)


_PARTS: dict[str, type[BaseModel]] = {
    "id": IDSet,
    "ood": OODSet,
    "encoders": EncoderSpec,
    "rows": RowSpec,
    "quick": Quick,
    "published": Published,
}


def _first_fault(error: ValidationError) -> str:
    """One line for the first thing that is wrong."""
    fault = error.errors()[0]
    where = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        part = str(fault["loc"][0])
        model = _PARTS[part] if len(fault["loc"]) > 1 else Suite
        return f"unknown key {where!r}; {nearest(str(fault['loc'][-1]), model.model_fields)}"
    return f"{where}: {fault['msg'].removeprefix('Value error, ')}"


def _check_names(suite: Suite, path: Path) -> None:
    """Every method, encoder, hyper-parameter and data set that the suite names must exist."""
    import methods
    from datasets import catalogue
    from datasets.altered import ALTERATIONS
    from methods.encoders import registry

    def say(where: str, error: Exception) -> UsageError:
        return UsageError(f"{path}: {where}: {error}")

    for name, spec in suite.encoders.items():
        base = spec.settings.get("base")
        bases = [name for name, other in suite.encoders.items() if "base" not in other.settings]
        if base is not None and base not in bases:
            raise UsageError(
                f"{path}: encoders.{name}.settings.base: no encoder {base!r} to stand on; {nearest(str(base), bases)}"
            )
        for settings in (spec.settings, {**spec.settings, **spec.quick}):
            try:
                registry.create(spec.kind, **settings)
            except (ValueError, TypeError) as error:
                raise say(f"encoders.{name}", error) from None
    for row in suite.rows:
        if row.encoder not in suite.encoders:
            raise UsageError(
                f"{path}: row {row.label}: no encoder {row.encoder!r}; {nearest(row.encoder, suite.encoders)}"
            )
        for settings in (row.settings, {**row.settings, **row.quick}):
            try:
                methods.create(row.method, preset=row.preset, **settings)
            except (ValueError, TypeError) as error:
                raise say(f"row {row.label}", error) from None
    for ood in suite.ood:
        if ood.group == "control" and ood.set not in ALTERATIONS:
            raise UsageError(f"{path}: no control {ood.set!r}; {nearest(ood.set, ALTERATIONS)}")
    for place, name in [("id.set", suite.id.set)] + [
        (f"ood.{number}", name)
        for number, ood in enumerate(suite.ood)
        for name in (ood.set, ood.stand_in)
        if name is not None and ood.group != "control"
    ]:
        if not is_path(name):
            try:
                catalogue.get(name)
            except ValueError as error:
                raise say(place, error) from None


def is_path(name: str) -> bool:
    """Whether a data set is named by a folder instead of by its name in the catalogue."""
    return "/" in name or name in (".", "..")


def _with_paths(suite: Suite, folder: Path) -> Suite:
    """Folders of images that a suite names are meant from where the suite's file lies."""

    def resolve(name: str) -> str:
        return os.path.realpath(folder / name) if is_path(name) else name

    def resolved(ood: OODSet) -> OODSet:
        return ood.model_copy(update={"set": resolve(ood.set), "stand_in": ood.stand_in and resolve(ood.stand_in)})

    return suite.model_copy(
        update={
            "id": suite.id.model_copy(update={"set": resolve(suite.id.set)}),
            "ood": tuple(map(resolved, suite.ood)),
        }
    )


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


def with_pretrained(suite: Suite, model: str) -> Suite:
    """The suite with another timm model in the place of its pretrained encoder, with that model's own maps."""
    replaced = {
        name: spec.model_copy(
            update={
                "settings": {
                    **{key: value for key, value in spec.settings.items() if key != "layers"},
                    "model": model,
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


def choose_rows(suite: Suite, tokens: list[str]) -> tuple[RowSpec, ...]:
    """The rows that `--methods` names: rows of the suite (`name`, `name@encoder`), else any registered method.

    A method that is no row of the suite runs on every encoder that offers what it reads, or on `method@encoder`.
    """
    import methods

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
    import methods

    needs = set(methods.create(method).reads) - {"labels"}
    fitting = [name for name in suite.encoders if needs <= offered(suite, name)]
    if not needs:
        return fitting[:1]
    if not fitting:
        raise UsageError(
            f"--methods {method}: it reads {', '.join(sorted(needs))}; no encoder of the suite {suite.name} offers that"
        )
    return fitting


def offered(suite: Suite, encoder: str) -> set[str]:
    """The features that an encoder of the suite offers, those of the encoder that it stands on among them."""
    from methods.encoders import registry

    spec = suite.encoders[encoder]
    there = set(registry.create(spec.kind, **spec.settings).offers)
    base = spec.settings.get("base")
    there |= offered(suite, base) if base is not None else set()
    return there | ({"head"} if "logits" in there else set())
