"""The parts of a suite, as its YAML has them: sets, encoders, rows, where published numbers are, what is quick."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

MANY = 10**9  # images: more than any data set has


def is_path(name: str) -> bool:
    """Whether a data set is named by a folder instead of by its name in the catalogue."""
    return "/" in name or name in (".", "..")


class Strict(BaseModel):
    """Nothing is taken for something else: no boolean or text for a number, no number for a text."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


Limit = Annotated[int, Field(ge=1, le=MANY)]
Name = Annotated[str, Field(pattern=r"^\S(.{0,98}\S)?$")]
AsTuple = Field(strict=False)  # a list of YAML's


class IDSet(Strict):
    """The data set that the methods know. `size` of its images in pixels: by default the short side of the first.

    `name`: what a folder is called in tables and records, where not as itself.
    """

    set: str
    name: Name | None = None
    size: int | None = Field(default=None, ge=1, le=1 << 14)


class OODSet(Strict):
    """A set to be flagged. `stand_in` takes its place, under its own name, where the set itself is absent.

    `name`: as the ID set's. `published`: the set's name in the reference tables. Of the group "control" `set` is an
    alteration of the ID test set (`datasets.altered`), which a detector of anything but resolution does not flag; no
    average counts it. Of the group "covariate" it is covariate-shifted ID (classes of the ID set, other images of
    them): nothing to be flagged either, and counted by no average; every OOD set is then held against it as well, as
    one ID set with the ID test images (full-spectrum).
    """

    set: str
    group: Literal["near", "far", "covariate", "control"] = "far"
    name: Name | None = None
    stand_in: str | None = None
    published: str | None = None

    @property
    def names(self) -> frozenset[str]:
        """What `--ood` may call it."""
        stem = {Path(self.set).name, Path(self.set).stem} if is_path(self.set) else set()
        return frozenset({self.set, self.stand_in or self.set, self.name or self.set, *stem})


class EncoderSpec(Strict):
    """An encoder: its kind, its settings, and what `--quick` puts in the place of some of them."""

    kind: str
    settings: dict[str, Any] = {}
    quick: dict[str, Any] = {}
    title: str | None = None


class RowSpec(Strict):
    """A method with its hyper-parameters on one encoder: a line of the table. `published`: its name there.

    `grid`: what `--searched` chooses from, in the place of the method's own: values of hyper-parameters, of settings of
    the encoder (which then runs once for each), or of both where both have the name.
    """

    method: str
    encoder: str
    name: str | None = None
    title: str | None = None
    preset: str | None = None
    settings: dict[str, Any] = {}
    quick: dict[str, Any] = {}
    grid: dict[str, list[Any]] = {}
    published: str | None = None

    @property
    def label(self) -> str:
        """What the row is called in records, on the command line and in file names."""
        return f"{self.name or self.method}@{self.encoder}"


class Published(Strict):
    """Where the published numbers are: the ID set's name there, and the tables, the first that has a cell wins."""

    id: str
    tables: tuple[str, ...] = AsTuple


class Quick(Strict):
    """What `--quick` means for this suite, beside what encoders and rows say: images, and speed repeats stay."""

    limit_train: Limit | None = None


PARTS: dict[str, type[BaseModel]] = {
    "id": IDSet,
    "ood": OODSet,
    "encoders": EncoderSpec,
    "rows": RowSpec,
    "quick": Quick,
    "published": Published,
}
