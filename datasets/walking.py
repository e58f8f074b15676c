"""What lies below a folder of images: every image, and what was left out, by kind and counted."""

import os
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".avif", ".bmp", ".dib", ".gif", ".tif", ".tiff",
    ".ppm", ".pgm", ".pbm", ".pnm",
)  # fmt: skip
# What lies beside images by custom: nothing is said of it.
COMPANIONS = (
    ".txt", ".md", ".rst", ".json", ".jsonl", ".csv", ".tsv", ".xml", ".yaml", ".yml", ".html", ".pdf",
    ".py", ".sh", ".db", ".ini", ".url", ".log", ".bib",
)  # fmt: skip
# Folders in which a NAS or a desktop keeps small copies of images, and what was thrown away.
EXTRAS = (
    "@eadir", "@tmp", "@recycle", "@recently-snapshot", "#recycle", "#snapshot", "$recycle.bin", "__macosx",
    "lost+found", "system volume information",
)  # fmt: skip
KINDS = 12  # of what is left out that are named
DEPTH = 64
OTHERS = 100_000  # files and folders that may lie beside the images; and twenty more for each image


def printable(name: str | Path) -> str:
    r"""A file name as text that can be written anywhere: bytes that are no UTF-8 as \xff."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


@dataclass
class Listing:
    """`images`: relative to the folder, in the order of their parts. `folders`: all that were read, by their parts."""

    images: list[str] = field(default_factory=list)
    folders: set[tuple[str, ...]] = field(default_factory=set)
    left_out: Counter[str] = field(default_factory=Counter)

    @property
    def notes(self) -> tuple[str, ...]:
        kinds = [f"{printable(kind)} ({count:,})" for kind, count in sorted(self.left_out.items())]
        if len(kinds) > KINDS:
            kinds[KINDS:] = [f"and {len(kinds) - KINDS} other kinds"]
        return (f"left out: {', '.join(kinds)}",) if kinds else ()


def listed(root: Path) -> Listing:
    """Everything below `root`. ValueError, in one line, for what is no set of images.

    That is a folder that cannot be read, one that is more than 64 deep, and one with hardly an image among its files.
    Links to folders are followed, but never to a folder that holds `root` or was read; real folders come first.
    """
    listing = Listing()
    listing.images += _images(root, listing)
    listing.images.sort(key=lambda path: path.split("/"))
    return listing


def has_images(root: Path, *, deep: bool = True) -> bool:
    """Whether there is an image in `root`, at any depth or in itself; stops at the first."""
    try:
        return os.path.isdir(root) and any(True for _ in _images(root, Listing(), deep=deep))
    except ValueError:
        return False


def _images(root: Path, listing: Listing, *, deep: bool = True) -> Iterator[str]:
    try:
        seen = {_identity(folder) for folder in Path(os.path.realpath(root)).parents}
    except OSError:
        seen = set()
    walked = found = 0
    real, links = [("", "")], deque[tuple[str, str]]()
    while real or links:
        here, extra = real.pop() if real else links.popleft()
        parts = tuple(here.split("/")[:-1])
        if len(parts) > DEPTH:
            raise ValueError(f"{root} has folders more than {DEPTH} deep; name the folder that holds the images")
        try:
            identity = _identity(root / here)
            if identity in seen:
                listing.left_out["links to folders that are read already"] += 1
                continue
            seen.add(identity)
            with os.scandir(root / here) as scan:
                entries = list(scan)
        except OSError as error:
            if not here:
                raise ValueError(f"{root} cannot be read: {error.strerror}") from None
            listing.left_out["folders that cannot be read"] += 1
            continue
        if not extra:
            listing.folders.add(parts)
        for entry in entries:
            walked += 1
            if walked > OTHERS + 20 * found:
                raise ValueError(
                    f"{root} is no set of images: {found:,} among its first {walked:,} files and folders; "
                    "name the folder that holds the images"
                )
            name = entry.name
            if _is(entry.is_dir):
                why = extra or _extra(name)
                if deep and not (why and entry.is_symlink()):
                    (links if entry.is_symlink() else real).append((f"{here}{name}/", why))
                continue
            kind = extra or _left_out(entry)
            if not kind:
                found += 1
                yield here + name
            elif kind != "companion" and (not extra or name.lower().endswith(SUFFIXES)):
                listing.left_out[kind] += 1


def _left_out(entry: os.DirEntry[str]) -> str:
    """Why a file is no image of the set; "" for an image."""
    suffix = os.path.splitext(entry.name)[1].lower()
    if suffix not in SUFFIXES:
        if suffix in COMPANIONS or entry.name.startswith("."):
            return "companion"
        return f"{suffix} files" if suffix else "files without an ending"
    if entry.name.startswith("."):
        return "hidden files"
    if _is(entry.is_file):
        return ""
    return "links that lead nowhere" if entry.is_symlink() and not os.path.exists(entry.path) else "no regular files"


def _extra(name: str) -> str:
    """Why images in a folder of this name are none of the set's."""
    if name.lower() in EXTRAS:
        return f"images in {name}"
    return "images in hidden folders" if name.startswith(".") else ""


def _is(question: Callable[[], bool]) -> bool:
    try:
        return question()
    except OSError:  # a link to itself
        return False


def _identity(folder: Path) -> tuple[int, int]:
    about = os.stat(folder)
    return about.st_dev, about.st_ino
