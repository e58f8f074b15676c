"""Sets of images in a folder: flat, or with a sub-folder for each class."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from datasets.images import ImageSet, Pixels, decode, file_sha256

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")


def list_files(root: Path) -> list[Path]:
    """Every file below `root`, relative to it, sorted folder by folder; hidden ones and macOS's extras left out."""
    found, seen = [], set()
    for here, folders, files in os.walk(root, followlinks=True):
        seen.add(os.path.realpath(here))
        folders[:] = [
            name
            for name in folders
            if not name.startswith((".", "__MACOSX")) and os.path.realpath(Path(here, name)) not in seen
        ]
        found += [Path(here, name).relative_to(root) for name in files if not name.startswith(".")]
    return sorted(found, key=lambda path: path.parts)


def has_images(root: Path) -> bool:
    """Whether there is an image in `root`, at any depth; stops at the first."""
    return root.is_dir() and any(
        name.lower().endswith(SUFFIXES) and not name.startswith(".")
        for _, _, files in os.walk(root, followlinks=True)
        for name in files
    )


class FolderSet(ImageSet):
    """The images of a folder, in the order of their sorted names.

    A class is a sub-folder (the first `class_depth` levels name it), its label the rank of its name. Without
    sub-folders, or with only one, there are no labels. ValueError for an empty folder and for an empty class.
    """

    def __init__(self, name: str, split: str, root: Path, *, title: str, class_depth: int = 1) -> None:
        while len(children := _visible(root)) == 1 and children[0].is_dir():
            root = children[0]  # an archive's own folder, or the one folder of a flat set
        self._root = root
        self._files = [path for path in list_files(root) if path.suffix.lower() in SUFFIXES]
        if not self._files:
            raise ValueError(f"{root} holds no images ({', '.join(SUFFIXES)})")
        of_images = [path.parts[:-1][:class_depth] for path in self._files]
        classes = sorted(set(of_images))
        if len(classes) == 1 or any(len(folders) < class_depth for folders in of_images):
            classes = []
        else:
            empty = {(path.name,) for path in children if path.is_dir()} - {folders[:1] for folders in classes}
            if empty:
                raise ValueError(f"{root / min(empty)[0]} holds no images: a class with none; fill or remove it")
        label = {folders: number for number, folders in enumerate(classes)}
        super().__init__(
            name,
            split,
            title=title,
            labels=np.array([label.get(folders, -1) for folders in of_images], dtype=np.int64),
            classes=tuple("/".join(folders) for folders in classes),
        )

    def read(self, rows: Sequence[int]) -> list[Pixels]:
        return [
            decode(self._root / self._files[row], f"{self.name} ({self.split}): {self._files[row]}") for row in rows
        ]

    def content(self) -> list[tuple[str, int, str]]:
        from tqdm import tqdm

        def one(path: Path) -> tuple[str, int, str]:
            return path.as_posix(), (self._root / path).stat().st_size, file_sha256(self._root / path)

        with ThreadPoolExecutor(8) as pool:
            listed = pool.map(one, self._files)
            return list(tqdm(listed, f"checking {self.name}", len(self._files), delay=2, leave=False))


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith((".", "__MACOSX")))
