"""Which files of a folder are a split: parquet shards, or images. One reader for all that lies in folders."""

import os
import re
from collections import defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path

from datasets import features
from datasets.catalogue import Entry
from datasets.classes import spelled
from datasets.features import FeatureSet
from datasets.folder import FolderSet
from datasets.images import ImageSet
from datasets.parquet import ParquetSet
from datasets.provenance import phrases
from datasets.walking import EXTRAS, has_images, printable

TRAIN = ("train", "training")
TEST = ("test", "testing", "val", "valid", "validation")
CALIBRATION = ("calibration",)
_SPLITS = (*TRAIN, *TEST, "dev", "eval", *CALIBRATION)
OF_SPLITS = "of its splits"
_NO_SPLIT = ""  # shards that are not called like a split
_SERIES = re.compile(r"^(.*?)[-_.]?(\d+)-of-(\d+)", re.IGNORECASE)


def of_path(folder: Path, split: str) -> ImageSet:
    """The images, or features, of a split (`train`, `test` or `calibration`) in a folder of the user's.

    Where the folder has splits, in the names of its shards or as sub-folders, that split counts and no other; for
    `test` a folder without splits is one set. Shards may lie in the folder itself or in one sub-folder, as in a
    repository of Hugging Face. ValueError for files that cannot be right.
    """
    name = printable(os.path.basename(os.path.realpath(folder))) or "/"
    if features.is_features(folder) and split == "test":
        name = name if os.path.isdir(folder) else os.path.splitext(name)[0]
        return FeatureSet(name, split, folder, title=name)
    wanted = {"train": TRAIN, "calibration": CALIBRATION}.get(split, (*TEST, _NO_SPLIT, *TRAIN))
    if (found := features.of_split(folder, wanted)) is not None:
        return FeatureSet(name, split, found, title=name)
    place = _place(folder)
    shards = {} if place is None else by_split(place)
    children = _folders(folder)
    if place is None:
        shards = {split: files for split in _SPLITS if (files := _parquet(children.get(split)))}
    if shards:
        chosen = next((name for name in wanted if name in shards), None)
        if chosen is not None:
            notes = _others(split, chosen, shards)
            if split == "test" and has_images(folder):
                notes = (*notes, "the images beside its parquet files are left out")
            return ParquetSet(name, split, checked(shards[chosen]), title=name, entry=None, notes=notes)
    elif _has_splits(folder, children):
        chosen = next((name for name in wanted if name in children), None)
        if chosen is not None:
            there = [other for other, child in children.items() if other != chosen and has_images(child)]
            notes = _others(split, chosen, there)
            return FolderSet(name, split, children[chosen], title=name, notes=notes)
    if wanted in (TRAIN, CALIBRATION) or shards:
        kind = "training" if split == "train" else split
        raise ValueError(f"{folder} has no {kind} split: an ID set needs train/ and test/, or train-*.parquet")
    return FolderSet(name, split, folder, title=name)


def has_calibration(folder: Path) -> bool:
    """Whether a folder of the user's holds images or features to calibrate on."""
    there = features.of_split(folder, CALIBRATION) is not None or "calibration" in _folders(folder)
    return there or "calibration" in by_split(folder)


def of_entry(entry: Entry, split: str, folder: Path) -> ImageSet | None:
    """The images of a split of a set of the catalogue in its folder, shards first; None where there are none."""
    for file in entry.file_names(split):
        for place in shard_folders(entry, folder):
            if files := by_split(place).get(file):
                return ParquetSet(entry.name, split, checked(files), title=entry.title, entry=entry)
    for file in entry.file_names(split):
        if os.path.isdir(folder / file):
            return images_of_entry(entry, split, folder / file)
    return None


def images_of_entry(entry: Entry, split: str, root: Path) -> FolderSet:
    """The images of a split of a set of the catalogue, in the folder where they lie."""
    official = entry.splits.get(split)
    images = FolderSet(entry.name, split, root, title=entry.title, class_depth=entry.class_depth, official=official)
    images.notes = (*phrases({}, len(images), entry, split), *images.notes)
    if images.named:
        images.classes = spelled(images.classes, entry.class_names, numbered=False)
    return images


def shard_folders(entry: Entry, folder: Path) -> tuple[Path, ...]:
    return (folder, folder / entry.hub_folder)


def by_split(folder: Path) -> dict[str, list[Path]]:
    """The parquet files of a folder, sorted, by the split that their names begin with."""
    found = defaultdict(list)
    for path in _parquet(folder):
        begin = re.match(r"[a-z]+(?=[-_.\d])", path.name.casefold())
        found[begin[0] if begin and begin[0] in _SPLITS else _NO_SPLIT].append(path)
    return dict(found)


def checked(files: Sequence[Path]) -> Sequence[Path]:
    """The shards of a split. ValueError where some of a numbered series are absent or stand twice."""
    series: dict[str, dict[int, set[int]]] = defaultdict(lambda: defaultdict(set))
    for path in files:
        if (match := _SERIES.match(path.name)) is None:
            continue
        start, number, count = match[1], int(match[2]), int(match[3])
        if number in series[start][count]:
            raise ValueError(f"{path.parent} holds shard {number} of {count} of {start!r} twice; keep one of them")
        series[start][count].add(number)
    for start, of_start in series.items():
        folder = files[0].parent
        others = sum(path.name.startswith(f"{start}-") and _SERIES.match(path.name) is None for path in files)
        if len(of_start) > 1 or others:
            raise ValueError(f"{folder} holds {start} shards of several series; keep those of one")
        count, there = next(iter(of_start.items()))
        expected = range(1, count + 1) if count in there else range(count)
        if absent := sorted(set(expected) - there):
            raise ValueError(
                f"{folder} holds {len(there)} of the {count} {start} shards; number {absent[0]:05d} is absent"
            )
    return files


def _place(folder: Path) -> Path | None:
    """Where the shards are that are not in a folder of their split; None where there are none."""
    if _parquet(folder):
        return folder
    inside = {name: child for name, child in _folders(folder).items() if name not in _SPLITS}
    place = inside.get("data") or (next(iter(inside.values())) if len(inside) == 1 else None)
    if place is None and (several := [name for name, child in inside.items() if _parquet(child)]):
        raise ValueError(f"{folder} holds parquet files in {', '.join(several)}; name one of these folders")
    return place if _parquet(place) else None


def _parquet(folder: Path | None) -> list[Path]:
    return [] if folder is None else sorted(path for path in folder.glob("*.parquet") if not path.name.startswith("."))


def _folders(folder: Path) -> dict[str, Path]:
    """The sub-folders in which images may lie, by their names in lower case."""
    return {
        printable(child.name).casefold(): child
        for child in sorted(folder.iterdir())
        if not child.name.startswith(".") and child.name.casefold() not in EXTRAS and os.path.isdir(child)
    }


def _has_splits(folder: Path, children: dict[str, Path]) -> bool:
    """Whether sub-folders are splits, and not classes of which one has the name of a split."""
    splits = children.keys() & set(_SPLITS)
    if splits & set(TRAIN) and splits & set(TEST):
        return True
    rest = [child for name, child in children.items() if name not in splits]
    return bool(splits) and not any(map(has_images, rest)) and not has_images(folder, deep=False)


def _others(split: str, chosen: str, there: Collection[str]) -> tuple[str, ...]:
    """What is told where a set to test on has more than the split that counts."""
    others = [name or "other parquet files" for name in there if name != chosen]
    if split == "train" or not others:
        return ()
    return (f"{OF_SPLITS} {chosen or 'shards of no split'} counts here, not {', '.join(sorted(others))}",)
