"""Views: which records make a table or a figure of a paper. Read from YAML and checked on reading."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from benchmark.planning import yaml_reader
from benchmark.planning.suite import UsageError
from methods.base import nearest

PAPERS = Path(__file__).parent


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Row(_Strict):
    """A line of a table. `row`: `suite/row`; None for what the project does not build. `published`: its name there."""

    row: str | None = None
    published: str | None = None
    title: str | None = None


class Part(_Strict):
    """One ID set of a table. `id`: its name in the reference tables `reference`, the first that has a cell wins.

    `ood`: OOD set -> its name there; `near`: those that the paper averages apart from the others, if any.
    `pretrained`: the timm model that stands in the place of the suites' own in this part.
    """

    id: str
    reference: tuple[str, ...]
    ood: dict[str, str] = Field(min_length=1)
    rows: tuple[Row, ...] = Field(min_length=1)
    near: tuple[str, ...] = ()
    pretrained: str | None = None


class Table(_Strict):
    """A table of a paper."""

    kind: Literal["table"]
    title: str
    metrics: tuple[Literal["auroc", "fpr95"], ...] = ("auroc",)
    parts: tuple[Part, ...] = Field(min_length=1)
    overall: str | None = None  # the ID set under which the reference tables have averages over all parts


class Panel(_Strict):
    """One panel of a figure of score distributions."""

    title: str
    row: str


class Distributions(_Strict):
    """Densities of the scores of rows on the ID set and on OOD sets."""

    kind: Literal["distributions"]
    title: str
    ood: tuple[str, ...]
    panels: tuple[Panel, ...] = Field(min_length=1)
    pretrained: str | None = None


class Line(_Strict):
    """One line of a figure over a setting: the rows by their value of it."""

    title: str
    rows: dict[int, str] = Field(min_length=2)


class Sweep(_Strict):
    """Average AUROC and FPR95 over a setting of the method."""

    kind: Literal["sweep"]
    title: str
    axis: str
    ood: tuple[str, ...]
    lines: tuple[Line, ...] = Field(min_length=1)


class Group(_Strict):
    """Bars of one ID set, by the names of the two rows that each compares."""

    id: str
    ood: tuple[str, ...]
    bars: dict[str, tuple[str, str]]  # measure -> (row with the last layer alone, row with all)


class Bars(_Strict):
    """Average AUROC of two rows side by side, with the published figures of the reference table."""

    kind: Literal["bars"]
    title: str
    reference: str
    settings: tuple[str, str]  # what the two rows of a bar are called in the reference table
    groups: tuple[Group, ...] = Field(min_length=1)


class Gallery(_Strict):
    """Images that a row errs on, each with its score and the ID training images nearest to it.

    `show`: "id" (the ID images with the highest scores) or OOD sets (the images with the lowest).
    """

    kind: Literal["gallery"]
    title: str
    row: str
    show: Literal["id"] | tuple[str, ...]


View = Annotated[Table | Distributions | Sweep | Bars | Gallery, Field(discriminator="kind")]
_ADAPTER: TypeAdapter[Any] = TypeAdapter(View)


def names() -> list[str]:
    """The views that come with the project, tables before figures, by their numbers."""
    found = [path.stem for path in PAPERS.glob("*.yaml")]
    return sorted(found, key=lambda name: (not name.startswith("table"), len(name), name))


def read(name: str) -> Any:
    """The view `name`. UsageError, in one line, where there is none, or something is wrong with it."""
    path = PAPERS / f"{name}.yaml"
    if name not in names():
        raise UsageError(f"--paper: no view {name!r}; {nearest(name, [*names(), 'all'])}")
    try:
        return _ADAPTER.validate_python(yaml_reader.read(path))
    except ValidationError as error:
        raise UsageError(f"{path}: {' '.join(str(error).split()):.200}") from None
    except ValueError as error:
        raise UsageError(str(error)) from None


def rows_of(view: Any) -> Iterator[tuple[str, str, str | None]]:
    """(suite, row, pretrained) of everything that a view selects, each once."""
    found: list[tuple[str | None, str | None]] = []
    if view.kind == "table":
        found = [(row.row, part.pretrained) for part in view.parts for row in part.rows]
    elif view.kind == "distributions":
        found = [(panel.row, view.pretrained) for panel in view.panels]
    elif view.kind == "sweep":
        found = [(row, None) for line in view.lines for row in line.rows.values()]
    elif view.kind == "bars":
        found = [(row, None) for group in view.groups for pair in group.bars.values() for row in pair]
    else:
        found = [(view.row, None)]
    for row, pretrained in dict.fromkeys(found):
        if row is not None:
            suite, _, label = row.partition("/")
            yield suite, label, pretrained


def sets_of(view: Any) -> list[str]:
    """The OOD sets that a view shows, each once."""
    if view.kind == "table":
        found = [name for part in view.parts for name in part.ood]
    elif view.kind == "bars":
        found = [name for group in view.groups for name in group.ood]
    elif view.kind == "gallery":
        found = [] if view.show == "id" else list(view.show)
    else:
        found = list(view.ood)
    return list(dict.fromkeys(found))
