"""OpenOOD's download as a source: its folders of images, and its lists, which say what images a set has.

A protocol is named after its ID set. What version 1.5 lists is known (`openood_lists.csv`: how many images, and the
SHA-256 of their sorted `folder/file` names): a list that is there decides all the same, and where it is another one,
that is told.
"""

import csv
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from datasets import catalogue, layout
from datasets.catalogue import Entry
from datasets.images import ImageSet, Missing
from datasets.listed import ImageList, ListedSet, read_list
from datasets.part import Part

LISTS = "benchmark_imglist"
IMAGES = ("images_classic", "images_largescale")
# Where the images of whole sets lie, for suites that do not follow the protocol.
_FOLDERS = {
    "cifar10": {"train": "images_classic/cifar10/train", "test": "images_classic/cifar10/test"},
    "cifar100": {"train": "images_classic/cifar100/train", "test": "images_classic/cifar100/test"},
    "cifar10_c": {"test": "images_classic/cifar10c"},
    "mnist": {"train": "images_classic/mnist/train", "test": "images_classic/mnist/test"},
    "svhn": {"test": "images_classic/svhn/test"},
    "textures": {"test": "images_classic/texture"},
    "places365": {"test": "images_classic/places365"},
    "tiny_imagenet": {"test": "images_classic/tin/val/images"},
    "imagenet": {"train": "images_largescale/imagenet_1k/train", "test": "images_largescale/imagenet_1k/val"},
    "imagenet_v2": {"test": "images_largescale/imagenet_v2"},
    "imagenet_r": {"test": "images_largescale/imagenet_r"},
    "sun": {"test": "images_largescale/sun"},
    "inaturalist": {"test": "images_largescale/inaturalist/images"},
    "openimage_o": {"test": "images_largescale/openimage_o/images"},
    "ssb_hard": {"test": "images_largescale/ssb_hard"},
    "ninco": {"test": "images_largescale/ninco"},
}


@dataclass(frozen=True)
class Known:
    """A list of version 1.5, below `benchmark_imglist`; None and "" where its length or its names are not known."""

    list: str
    images: int | None
    sha256: str


@cache
def known() -> dict[tuple[str, str, str], Known]:
    """Protocol, set and split -> list. Splits: train, test and calibration of the ID set, test of the others, and
    validation of the set that hyper-parameters are searched on.
    """
    with (Path(__file__).parent / "openood_lists.csv").open(encoding="ascii", newline="") as file:
        return {
            (line["protocol"], line["set"], line["split"]): Known(
                line["list"], int(line["images"]) if line["images"] else None, line["sha256"]
            )
            for line in csv.DictReader(file)
        }


def protocols() -> tuple[str, ...]:
    """The names of the protocols: those of their ID sets."""
    return tuple(dict.fromkeys(protocol for protocol, _, _ in known()))


def validation_set(protocol: str) -> str:
    """The OOD set of whose split `validation` a search may use the images."""
    return next(name for of, name, split in known() if of == protocol and split == "validation")


def of_protocol(entry: Entry, split: str, data: Path, protocol: str) -> ImageSet | None:
    """The images that the protocol's list names; None where the list, or the folder of its images, is not there.

    Of the ID set test and calibration images are both as listed, or neither. ValueError for a list that cannot be.
    """
    wanted = known().get((protocol, entry.name, split))
    other = {"test": "calibration", "calibration": "test"}.get(split, split)
    both = known().get((protocol, entry.name, other)) if entry.name == protocol else wanted
    if wanted is None or both is None or not _there(data, both) or (here := _opened(data, wanted)) is None:
        return None
    listed, root = here
    # the numbers are of the ID set's classes, those of shifted images too
    return ListedSet(entry, split, root, listed, catalogue.get(protocol).class_names, _told(wanted, listed))


def whole(entry: Entry, split: str, data: Path) -> ImageSet | None:
    """All images of a split of a set, wherever its images lie in the download; None where they do not."""
    own = [key for key in known() if key[:2] == (entry.name, entry.name)]
    parts = [known()[key] for key in own if (key[2] == "train") == (split == "train")]
    here = [_opened(data, part) for part in parts if _there(data, part)]
    found = [part for part in here if part is not None]
    if parts and len(found) == len(parts):
        listed = ImageList.together([part for part, _ in found])
        return ListedSet(entry, split, found[0][1], listed, entry.class_names)
    folder = _FOLDERS.get(entry.name, {}).get(split)
    if folder is None or not (data / folder).is_dir():
        return None
    return layout.images_of_entry(entry, split, data / folder)


def present(entry: Entry, split: str, data: Path) -> bool:
    """Whether a part of the download that may hold the images of a split is there."""
    folder = _FOLDERS.get(entry.name, {}).get(split)
    lists = [part for key, part in known().items() if key[:2] == (entry.name, entry.name)]
    return (folder is not None and (data / folder).is_dir()) or any(_there(data, part) for part in lists)


def in_place(images: ImageSet, split: str, protocol: str, data: Path | None) -> ImageSet:
    """A whole set in the place of the protocol's part of it, where its lists, or what they name, are not there.

    That is told.
    Of the ID set's official test images a tenth is to calibrate on, and the rest to test: as many as the protocol has,
    and others.
    """
    wanted = known().get((protocol, images.name, split))
    if wanted is None or split == "train":
        return images
    if split == "validation":
        raise Missing(images.name, f"its part to validate on is named by {LISTS}/{wanted.list} of OpenOOD's download")
    both = (known()[protocol, protocol, of] for of in ("test", "calibration"))
    parts = (wanted, *both) if images.name == protocol else (wanted,)
    absent = next((part for part in parts if data is None or not _there(data, part)), None)
    if images.name != protocol:
        if wanted.images not in (None, len(images)):
            why = "" if absent else f": {wanted.list} is there, the folders that it names are not"
            images.notes = (*images.notes, f"not by OpenOOD's list, which has {wanted.images:,} images{why}")
        return images
    order = np.random.default_rng(0).permutation(len(images))
    cut = len(images) // 10
    rows = np.sort(order[:cut] if split == "calibration" else order[cut:])
    count = f"{len(rows):,} of the {len(images):,} images of its test split"
    lacking = f"OpenOOD's {absent.list} is" if absent else f"the folders that OpenOOD's {wanted.list} names are"
    return Part(images, rows, f"{count}, drawn here: {lacking} not there", split=split)


def _there(data: Path, part: Known) -> bool:
    return os.path.lexists(data / LISTS / part.list)  # what is no file is told when it is read


def _opened(data: Path, part: Known) -> tuple[ImageList, Path] | None:
    """A list, and the folder that its names begin in; None where either is not there, or no folder of its images."""
    if not _there(data, part):
        return None
    listed = read_list(data / LISTS / part.list)
    folders = {os.path.dirname(name) for name in listed.names}
    root = next((data / images for images in IMAGES if any((data / images / f).is_dir() for f in folders)), None)
    return None if root is None else (listed, root)


def _told(wanted: Known, listed: ImageList) -> tuple[str, ...]:
    """What differs between a list and that of version 1.5."""
    count = len(listed.names)
    if wanted.images not in (None, count):
        return (f"{count:,} images in its list; OpenOOD v1.5's {wanted.list} has {wanted.images:,}",)
    if wanted.sha256 and listed.sha256 != wanted.sha256:
        return (f"its list does not name the images of OpenOOD v1.5's {wanted.list}",)
    return ()
