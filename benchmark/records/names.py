"""The files of a results folder by the names of rows and sets; no two names share a file, on any file system."""

import hashlib
import re
from pathlib import Path

_SAFE = re.compile(r"[a-z0-9_@=+][a-z0-9_.@=+-]{0,99}")
_FOLDER = re.compile(r"\w[\w .@-]{0,99}")


def safe_name(name: str) -> str:
    """`name` as a file name: itself where it is safe, else what is safe of it, and its digest behind a `~`.

    A safe name is of ASCII letters, none of them capital, since some file systems take `A` for `a`, and never has a
    `~`; so no two names give one file name.
    """
    if _SAFE.fullmatch(name):
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{re.sub(r'[^A-Za-z0-9_@=+-]', '_', name)[:80]}~{digest[:16]}"


def folder_name(name: str) -> str:
    """The name of a suite or of a network as part of a folder's name: itself, unless it could lead elsewhere.

    `+` and `=` stand between the parts.
    """
    return name if _FOLDER.fullmatch(name) else safe_name(name).replace("+", "_").replace("=", "_")


def folder_parts(folder: Path) -> tuple[str, list[str]]:
    """The suite and the flags in the name of a results folder, which `planning.options.results_folder` joins."""
    suite, *flags = folder.name.split("+")
    return suite, flags


def path_of(folder: Path, row: str, ood: str, seed: int) -> Path:
    return folder / "records" / safe_name(row) / f"{safe_name(ood)}.seed{seed}.json"


def speed_path(folder: Path, row: str) -> Path:
    return folder / "records" / safe_name(row) / "speed.json"


def thresholds_path(folder: Path, row: str, seed: int) -> Path:
    """Of a row that was measured against no OOD set; no set's record is called so."""
    return folder / "records" / safe_name(row) / f"thresholds-seed{seed}.json"


def elsewhere(folder: Path) -> list[Path]:
    """The results folders of the same suite from other machines, which lie in this one's: from/<any name>."""
    return sorted(path for path in (folder / "from").glob("*") if path.is_dir())


def scores_path(folder: Path, row: str, name: str, seed: int) -> Path:
    return folder / "scores" / safe_name(row) / f"{safe_name(name)}.seed{seed}.npy"


def mistakes_path(folder: Path, row: str, name: str) -> Path:
    return folder / "mistakes" / safe_name(row) / f"{safe_name(name)}.json"
