"""Finds a data set: parquet shards, else a folder of images, a download of ours, or OpenOOD's; some are embedded."""

import os
from dataclasses import replace
from pathlib import Path

from datasets import catalogue, layout, openood
from datasets.catalogue import Entry
from datasets.download import FOLDER, complete
from datasets.download import download as fetch
from datasets.features import is_features
from datasets.images import ImageSet, Missing
from datasets.walking import has_images, printable

__all__ = ["ImageSet", "Missing", "find", "has_calibration", "is_path", "present"]


def is_path(name: str) -> bool:
    """Whether a data set is named by its folder: a name with a slash, or a folder that is no name of the catalogue."""
    return "/" in name or (name != "" and name not in catalogue.CATALOGUE and os.path.isdir(name))


def find(
    name_or_path: str, split: str, data: Path | None, *, download: bool = False, protocol: str | None = None
) -> ImageSet:
    """The images of a split of a set of the catalogue, below the folder `data`, or those in a folder of the user's.

    protocol: of OpenOOD (`openood.protocols`): the set is what its list names, where that and its images are there, and
    there are the splits `calibration` of its ID set and `validation` of the set that it searches on.
    Missing (with how to get it) where the set is not here; ValueError for an unknown name, split or folder, and for
    files that cannot be read or cannot be right. `download`: fetch what is missing and can be had.
    """
    try:
        return _found(name_or_path, split, data, download, protocol)
    except (ValueError, OSError) as error:  # a name in another encoding is told as it can be written
        raise ValueError(printable(" ".join(str(error).split()))) from None


def _found(name_or_path: str, split: str, data: Path | None, download: bool, protocol: str | None) -> ImageSet:
    if is_path(name_or_path):
        path = Path(os.path.expanduser(name_or_path))
        if not os.path.isdir(path) and not is_features(path):
            raise ValueError(f"there is no folder {path}; name a folder of images or of parquet files, or a data set")
        return layout.of_path(path, split)
    entry = catalogue.get(name_or_path)
    if protocol is not None and (protocol, entry.name, split) in openood.known():
        listed = None if data is None else openood.of_protocol(entry, split, data, protocol)
        whole = "train" if split == "train" else "test"
        return listed or openood.in_place(_found(entry.name, whole, data, download, None), split, protocol, data)
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


def has_calibration(name_or_path: str) -> bool:
    """Whether a folder of the user's has images of its own to calibrate on."""
    path = Path(os.path.expanduser(name_or_path))
    return is_path(name_or_path) and os.path.isdir(path) and layout.has_calibration(path)


def present(name: str, data: Path | None, split: str | None = None) -> bool:
    """Whether `find` would have files to read for a split (default: for any), without reading them."""
    entry = catalogue.get(name)
    if entry.embedded:
        return split is None or split in entry.splits
    if data is None:
        return False
    if any(openood.present(entry, wanted, data) for wanted in _wanted(entry, split)):
        return True
    here = data / name
    if complete(here / FOLDER) and any(wanted in _downloaded_splits(entry) for wanted in _wanted(entry, split)):
        return True
    return any(
        file in layout.by_split(folder) or has_images(here / file)
        for wanted in _wanted(entry, split)
        for file in entry.file_names(wanted)
        for folder in layout.shard_folders(entry, here)
    )


def _wanted(entry: Entry, split: str | None) -> tuple[str, ...]:
    return tuple(entry.splits) if split is None else (split,)


def _downloaded_splits(entry: Entry) -> tuple[str, ...]:
    if entry.archive is not None:
        return tuple(entry.archive.folders)
    return () if entry.torchvision is None else tuple(entry.torchvision.arguments)


def _on_disk(entry: Entry, split: str, data: Path) -> ImageSet | None:
    """The first source that there is, in the order of this module's first line."""
    if (found := layout.of_entry(entry, split, data / entry.name)) is not None:
        return found
    root = data / entry.name / FOLDER
    if complete(root):
        if entry.archive is not None and split in entry.archive.folders:
            return layout.images_of_entry(entry, split, root / entry.archive.folders[split])
        if entry.torchvision is not None and split in entry.torchvision.arguments:
            from datasets.torchvision_sets import TorchvisionSet

            return TorchvisionSet(entry, split, root)
    return openood.whole(entry, split, data)
