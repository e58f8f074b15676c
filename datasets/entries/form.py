"""What the catalogue says of a data set."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from datasets import classes


@dataclass(frozen=True)
class Archive:
    """A tar or zip file of images. `md5`: only where one is published. `folders`: split -> folder in the archive.

    `broken`: files of the release that are no images; they are taken out.
    """

    url: str
    folders: dict[str, str]
    md5: str | None = None
    broken: tuple[str, ...] = ()


@dataclass(frozen=True)
class Torchvision:
    """A class of torchvision.datasets: it downloads, and checks its own checksums.

    `arguments`: split -> what the class is called with. `labels`: the attribute that holds them.
    """

    cls: str
    arguments: dict[str, dict[str, Any]]
    labels: str | None = None


@dataclass(frozen=True)
class Entry:
    """One data set.

    `splits`: split -> official number of images, None where it is not known. `classes`: their number, None where
    unlabelled. `size`: height and width in pixels, None where images differ. `how_to_get`: one line, with DATA for the
    folder that --data names.
    `files`: split -> the names under which its files may lie, best first (default: the split's own).
    `hub_folder`: where the set's Hugging Face repository has its shards. `class_depth`: how many levels of folders
    name a class. `stands_in_for`: the name of the set whose place this one takes. `shareable`: its images may stand
    in a page that is passed on.
    """

    name: str
    title: str
    splits: Mapping[str, int | None]
    home: str
    licence: str
    citation: str
    how_to_get: str
    classes: int | None = None
    size: int | None = None
    mapping: str = ""
    files: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    hub_folder: str = "data"
    class_depth: int = 1
    archive: Archive | None = None
    torchvision: Torchvision | None = None
    stands_in_for: str | None = None
    embedded: bool = False
    shareable: bool = False

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes, index = label, where the release numbers them; else none."""
        return classes.order(self.name)

    def file_names(self, split: str) -> tuple[str, ...]:
        return self.files.get(split, (split,))


def folders(name: str, source: str) -> str:
    return f"get {source} and put its images into DATA/{name}/test/"


def parquet(name: str, repository: str) -> str:
    return f"hf download {repository} --repo-type dataset --local-dir DATA/{name}"
