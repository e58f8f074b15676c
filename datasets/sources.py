"""Finds a data set: parquet shards, else a folder of images, else a download; embedded sets need none of these."""

from dataclasses import replace
from pathlib import Path

from datasets import catalogue, provenance
from datasets.catalogue import Entry
from datasets.download import FOLDER, complete
from datasets.download import download as fetch
from datasets.folder import FolderSet, has_images
from datasets.images import ImageSet, Missing
from datasets.parquet import ParquetSet, shards

__all__ = ["ImageSet", "Missing", "find", "is_path", "present"]


def is_path(name: str) -> bool:
    """Whether a data set is named by its folder: a name with a slash, or a folder that is no name of the catalogue."""
    return "/" in name or (name not in catalogue.CATALOGUE and Path(name).is_dir())


def find(name_or_path: str, split: str, data: Path | None, *, download: bool = False) -> ImageSet:
    """The images of a split of a set of the catalogue, below the folder `data`, or those in a folder of the user's.

    Missing (with how to get it) where the set is not here; ValueError for an unknown name, split or folder, and for
    files that cannot be right. `download`: fetch what is missing and can be had.
    """
    if is_path(name_or_path):
        return _from_path(Path(name_or_path).expanduser(), split)
    entry = catalogue.get(name_or_path)
    if split not in entry.splits:
        raise ValueError(f"{entry.name} has no split {split!r}; valid: {', '.join(entry.splits)}")
    if entry.embedded:
        from datasets import embedded

        return embedded.load(entry, split)
    if data is None:
        raise Missing(entry.name, f"name the folder of your data sets with --data; {entry.how_to_get}")
    found = _on_disk(entry, split, data)
    # the remedy with the folder that was really asked for
    entry = replace(entry, how_to_get=entry.how_to_get.replace("DATA/", f"{data}/"))
    if found is None and download and (entry.archive or entry.torchvision):
        fetch(entry, data)
        found = _on_disk(entry, split, data)
    if found is None:
        raise Missing(entry.name, f"nothing of its {split} split in {data / entry.name}; {entry.how_to_get}")
    return found


def present(name: str, data: Path | None, split: str | None = None) -> bool:
    """Whether `find` would have files to read for a split (default: for any), without reading them."""
    entry = catalogue.get(name)
    if entry.embedded:
        return split is None or split in entry.splits
    if data is None:
        return False
    here = data / name
    if complete(here / FOLDER) and any(wanted in _downloaded_splits(entry) for wanted in _wanted(entry, split)):
        return True
    return any(
        any(folder.glob(f"{file}-*.parquet")) or has_images(here / file)
        for wanted in _wanted(entry, split)
        for file in entry.file_names(wanted)
        for folder in _shard_folders(entry, here)
    )


def _wanted(entry: Entry, split: str | None) -> tuple[str, ...]:
    return tuple(entry.splits) if split is None else (split,)


def _downloaded_splits(entry: Entry) -> tuple[str, ...]:
    if entry.archive is not None:
        return tuple(entry.archive.folders)
    return () if entry.torchvision is None else tuple(entry.torchvision.arguments)


def _shard_folders(entry: Entry, here: Path) -> tuple[Path, ...]:
    return (here, here / entry.hub_folder)


def _on_disk(entry: Entry, split: str, data: Path) -> ImageSet | None:
    """The first source that there is, in the order of this module's first line."""
    here = data / entry.name
    for file in entry.file_names(split):
        for folder in _shard_folders(entry, here):
            if files := shards(folder, file):
                return ParquetSet(entry.name, split, files, title=entry.title, entry=entry)
    for file in entry.file_names(split):
        if (here / file).is_dir():
            return _folder_set(entry, split, here / file)
    root = here / FOLDER
    if not complete(root):
        return None
    if entry.archive is not None and split in entry.archive.folders:
        return _folder_set(entry, split, root / entry.archive.folders[split])
    if entry.torchvision is not None and split in entry.torchvision.arguments:
        from datasets.torchvision_sets import TorchvisionSet

        return TorchvisionSet(entry, split, root)
    return None


def _folder_set(entry: Entry, split: str, root: Path) -> FolderSet:
    images = FolderSet(entry.name, split, root, title=entry.title, class_depth=entry.class_depth)
    images.notes = provenance.phrases({}, len(images), entry, split)
    return images


def _from_path(path: Path, split: str) -> ImageSet:
    """A folder of parquet files (those of the split where any are named so), or of images.

    A folder with a sub-folder of the split's name means that one; a training split needs to be told apart.
    """
    if not path.is_dir():
        raise ValueError(f"there is no folder {path}; name a folder of images or of parquet files, or a data set")
    name = path.resolve().name
    if files := shards(path, split):
        return ParquetSet(name, split, files, title=name, entry=None)
    if (path / split).is_dir():
        path = path / split
    elif split == "train":
        raise ValueError(f"{path} has no training split: an ID set needs train/ and test/, or train-*.parquet")
    if files := sorted(path.glob("*.parquet")):
        return ParquetSet(name, split, files, title=name, entry=None)
    return FolderSet(name, split, path, title=name)
