"""A suite: one ID set, its OOD sets, encoders and rows, read from YAML and checked on reading."""

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

from pydantic import Field, PrivateAttr, ValidationError, field_validator, model_validator

from benchmark.metrics import METRICS
from benchmark.planning import yaml_reader
from benchmark.planning.checking import check_names
from benchmark.planning.parts import PARTS, EncoderSpec, IDSet, OODSet, Published, Quick, RowSpec, Strict, is_path
from methods.base import nearest

if TYPE_CHECKING:
    from datasets.images import ImageSet

SUITES = Path(__file__).parents[1] / "suites"
LARGEST_SEED = 2**63 - 1
_PLAIN = re.compile(r"\w[\w .@-]{0,99}")  # a folder's name that leads nowhere; `+` and `=` stand between its parts
WITH_INTERVAL = tuple(metric.name for metric in METRICS if metric.interval)
T = TypeVar("T")
TAKEN = ("papers", "published")  # folders of results that are no suite's


class UsageError(ValueError):
    """What the user asked for cannot be: exit status 2."""


class Suite(Strict):
    """What to run. Read it with `read`.

    `metrics`: what a cell of its tables shows, of `benchmark.metrics`, the first with its interval: OpenOOD's suites
    have fpr95_ood in the place of fpr95. Records hold all. `calibrate`: calibration images are taken out of the
    training set before every fit and every training, and records carry thresholds. Published protocols fit on all of
    it. Without OOD sets it has nothing but thresholds. `protocol`: of OpenOOD, by its ID set: its lists say which
    images a set has, and which of the official test images calibrate.
    """

    name: str
    title: str
    id: IDSet
    ood: tuple[OODSet, ...] = Field(strict=False)
    encoders: dict[str, EncoderSpec] = Field(min_length=1)
    rows: tuple[RowSpec, ...] = Field(min_length=1, strict=False)
    seeds: tuple[int, ...] = Field(default=(0,), min_length=1, max_length=1000, strict=False)
    metrics: tuple[str, ...] = Field(default=("auroc", "fpr95"), min_length=1, strict=False)
    calibrate: bool = False
    engine: Literal["torch", "onnxruntime", "auto"] = "auto"
    quick: Quick = Quick()
    published: Published | None = None
    protocol: str | None = None
    _folder: Path = PrivateAttr(SUITES)
    _notes: tuple[str, ...] = PrivateAttr(())
    _of_folder: bool = PrivateAttr(False)
    _given: Any = PrivateAttr({})

    @property
    def own(self) -> bool:
        """Whether it stands for a folder of the user's."""
        return self.id.name is not None

    @property
    def folder(self) -> Path:
        """Where the suite's file lies, and what it ships."""
        return self._folder

    @property
    def of_folder(self) -> bool:
        """Whether no file says what it is."""
        return self._of_folder

    def below(self, encoder: str) -> tuple[str, ...]:
        """The encoder, the one that it stands on, and the one below that where there is one."""
        base = self.encoders[encoder].settings.get("base")
        return (encoder,) if base is None else (encoder, *self.below(base))

    @property
    def given(self) -> "Mapping[tuple[str, str], ImageSet | ValueError]":
        """Of a suite that is made in memory: the caller's sets by name and split, or what is wrong with one."""
        found: Mapping[tuple[str, str], ImageSet | ValueError] = self._given
        return found

    def images(self, name: str, split: str, data: Path, *, download: bool) -> "ImageSet":
        """A set that it names: one that is given, else what `datasets.sources.find` finds, with the same errors."""
        from datasets.sources import find

        if (there := self.given.get((name, split))) is None:
            return find(name, split, data, download=download, protocol=self.protocol)
        if isinstance(there, ValueError):
            raise there
        return there

    def named_sets(self) -> Iterator[tuple[str, str]]:
        """The sets of the catalogue that it names, and where."""
        of_ood = ((f"ood.{place}", ood) for place, ood in enumerate(self.ood) if ood.group != "control")
        found = [("id.set", self.id.set), *((where, name) for where, ood in of_ood for name in (ood.set, ood.stand_in))]
        return ((where, name) for where, name in found if name is not None and not is_path(name))

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out of the folder that it was made of, for people."""
        return self._notes

    @field_validator("name")
    @classmethod
    def _a_folder(cls, name: str) -> str:
        if not _PLAIN.fullmatch(name) or name in TAKEN:
            raise ValueError(f"{name!r:.60} cannot name a folder of results: letters, digits, space, _ . @ - can")
        return name

    @model_validator(mode="after")
    def _something_to_measure(self) -> Self:
        if not self.ood and not self.calibrate:
            raise ValueError(
                "ood: without a set there is nothing to measure but thresholds, which need calibrate: true"
            )
        return self

    @field_validator("rows")
    @classmethod
    def _rows_differ(cls, rows: tuple[RowSpec, ...]) -> tuple[RowSpec, ...]:
        if (label := _twice([row.label for row in rows])) is not None:
            raise ValueError(f"two rows are called {label!r}: give one of them a `name`")
        return rows

    @field_validator("metrics")
    @classmethod
    def _are_metrics(cls, chosen: tuple[str, ...]) -> tuple[str, ...]:
        known = [metric.name for metric in METRICS]
        for name in chosen:
            if name not in known:
                raise ValueError(f"no metric {name!r}; {nearest(name, known)}")
        if (twice := _twice(chosen)) is not None:
            raise ValueError(f"the metric {twice!r} stands there twice")
        if chosen[0] not in WITH_INTERVAL:
            raise ValueError(f"the first has its interval beside it, so it is {' or '.join(WITH_INTERVAL)}")
        return chosen

    @field_validator("seeds")
    @classmethod
    def _seeds_can_be(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        return check_seeds(seeds)


def _twice(values: Iterable[T]) -> T | None:
    """The first that is there more than once."""
    return next((value for value, times in Counter(values).items() if times > 1), None)


def check_seeds(seeds: tuple[int, ...]) -> tuple[int, ...]:
    """Seeds as they are; ValueError where one is there twice or none of 0 .. 2^63 - 1."""
    if (seed := _twice(seeds)) is not None:
        raise ValueError(f"the seed {seed} stands there twice")
    for seed in seeds:
        if not 0 <= seed <= LARGEST_SEED:
            raise ValueError(f"a seed is a whole number from 0 to 2^63 - 1, not {seed}")
    return seeds


def names() -> list[str]:
    """The suites that come with the project."""
    return sorted(path.stem for path in SUITES.glob("*.yaml"))


def read(name: str, *, checked: bool = True) -> Suite:
    """The suite `name`, or the one in a YAML file. UsageError, in one line, for whatever is wrong with it.

    checked: whether what it names must exist, which takes the libraries of its networks, and seconds to import them.
    """
    if not name.endswith((".yaml", ".yml")) and "/" in name:
        raise UsageError(f"--id {name}: a suite is a name, a file that ends in .yaml, or a folder that is there")
    path = Path(name) if name.endswith((".yaml", ".yml")) else SUITES / f"{name}.yaml"
    if path.parent != SUITES:
        return _read(path, checked)
    if path.stem not in names():
        raise UsageError(f"no suite {name!r}, and no folder of that name here; {nearest(name, names())}")
    return _shipped(path, path.stat().st_mtime_ns, checked)


@cache
def _shipped(path: Path, changed: int, checked: bool) -> Suite:
    """One that comes with the project: views of papers read each dozens of times."""
    return _read(path, checked)


def _read(path: Path, checked: bool) -> Suite:
    try:
        content = yaml_reader.read(path)
    except FileNotFoundError:
        raise UsageError(f"there is no file {path}") from None
    except (ValueError, OSError) as error:
        raise UsageError(str(error)) from None
    if not isinstance(content, dict):
        raise UsageError(f"{path}: a suite is a mapping (title, id, ood, encoders, rows)")
    content.setdefault("name", path.stem)
    try:
        suite = Suite.model_validate(content)
    except ValidationError as error:
        raise UsageError(f"{path}: {first_fault(error)}") from None
    suite._folder = path.parent
    try:
        if checked:
            suite = _with_files(suite, path.parent)
            check_names(suite)
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from None
    suite = _with_paths(suite, path.parent)
    named = [(ood.group == "control", ood.set) for ood in suite.ood]
    if (twice := _twice(named)) is not None:
        raise UsageError(f"{path}: ood: the set {twice[1]!r} stands there twice")
    if (False, suite.id.set) in named:
        raise UsageError(f"{path}: ood: the set {suite.id.set!r} is the ID set itself")
    return suite


def first_fault(error: ValueError) -> str:
    """One line for the first thing that is wrong."""
    if not isinstance(error, ValidationError):
        return str(error)
    fault = error.errors()[0]
    where = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        part = str(fault["loc"][0])
        model = PARTS[part] if len(fault["loc"]) > 1 else Suite
        return f"unknown key {where!r}; {nearest(str(fault['loc'][-1]), model.model_fields)}"
    if fault["type"] == "string_type":
        return f"{where}: {'null' if fault['input'] is None else fault['input']!r:.60} is no text: quote it"
    given = fault["input"]
    value = f", not {given!r:.60}" if isinstance(given, str | int | float) and fault["type"] != "value_error" else ""
    return f"{where}{': ' if where else ''}{fault['msg'].removeprefix('Value error, ')}{value}"


def _with_paths(suite: Suite, folder: Path) -> Suite:
    """Folders of images that a suite names are meant from where its own file lies."""
    resolve = partial(_beside, folder)

    def resolved(ood: OODSet) -> OODSet:
        return ood.model_copy(update={"set": resolve(ood.set), "stand_in": ood.stand_in and resolve(ood.stand_in)})

    of_id = suite.id.model_copy(update={"set": resolve(suite.id.set)})
    return suite.model_copy(update={"id": of_id, "ood": tuple(map(resolved, suite.ood))})


def _with_files(suite: Suite, folder: Path) -> Suite:
    """And so are files that its encoders read: weights, words."""
    from methods.encoders import base, registry

    files = {kind: base.registered()[kind].files for kind in registry.names()}

    def resolved(spec: EncoderSpec) -> EncoderSpec:
        named = {name: spec.settings[name] for name in files.get(spec.kind, ()) if name in spec.settings}
        found = {name: _beside(folder, file) for name, file in named.items() if isinstance(file, str)}
        return spec.model_copy(update={"settings": {**spec.settings, **found}}) if found else spec

    return suite.model_copy(update={"encoders": {name: resolved(spec) for name, spec in suite.encoders.items()}})


def _beside(folder: Path, name: str) -> str:
    """A path as it is meant from a folder; a mere name as it is."""
    return os.path.realpath(folder / name) if is_path(name) else name
