"""What can befall the files of a finished run: injuries of one file, of an entry of the cache, of whole folders."""

import os
import random
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

FLIP = "a bit flipped"
GROUPS = {
    "marker": (".cache/*/??/*/done.json",),
    "arrays": (".cache/*/??/*/*.npy", ".cache/*/??/*/*.safetensors"),
    "record": ("*+*/records/*/*.json",),
    "scores": ("*+*/scores/*/*.npy",),
    "beside": (
        "*+*/mistakes/*/*.json",
        "*+*/figures/drawn/*.json",
        "*+*/drawn.json",
        "*+*/significance.csv",
        "*+*/table.*",
        ".index.json",
        ".cache/schema.json",
        ".cache/locks/*.lock",
    ),
    "unfinished": (".cache/*/??/*.partial/*", ".cache/work/*/*"),
}
"""Files of a results folder, by what reads them."""


def files_of(results: Path, group: str) -> list[Path]:
    return sorted(path for pattern in GROUPS[group] for path in results.glob(pattern) if path.is_file())


Injure = Callable[[random.Random, Path, Path], None]
"""Of a file, and another of its group (itself, where there is none)."""


def _flip(draw: random.Random, path: Path, _: Path) -> None:
    content = bytearray(path.read_bytes() or b"?")
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path.write_bytes(content)


def _scramble(draw: random.Random, path: Path, _: Path) -> None:
    content = bytearray(path.read_bytes())
    start = draw.randrange(max(1, len(content)))
    content[start : start + 64] = draw.randbytes(64)
    path.write_bytes(content)


def _zero(draw: random.Random, path: Path, _: Path) -> None:
    """As a file that was not flushed before the power went: its length, and no content."""
    path.write_bytes(bytes(path.stat().st_size))


def _cut(draw: random.Random, path: Path, _: Path) -> None:
    os.truncate(path, draw.randrange(max(1, path.stat().st_size)))


def _grow(draw: random.Random, path: Path, _: Path) -> None:
    with path.open("ab") as file:
        file.write(draw.choice((b"\n", b"{}\n", bytes(100), draw.randbytes(1000))))


def _swap(draw: random.Random, path: Path, other: Path) -> None:
    mine, theirs = path.read_bytes(), other.read_bytes()
    path.write_bytes(theirs)
    other.write_bytes(mine)


def _copy(draw: random.Random, path: Path, other: Path) -> None:
    path.write_bytes(other.read_bytes())


def _instead(make: Callable[[Path, Path], object]) -> Injure:
    def injure(draw: random.Random, path: Path, other: Path) -> None:
        path.unlink()
        make(path, other)

    return injure


def _socket(path: Path, _: Path) -> None:
    with socket.socket(socket.AF_UNIX) as there:
        here = os.getcwd()
        os.chdir(path.parent)  # its name may be too long for an address
        try:
            there.bind(path.name[:90])
            Path(path.name[:90]).rename(path.name)
        finally:
            os.chdir(here)


def _full_folder(path: Path, other: Path) -> None:
    path.mkdir()
    shutil.copy(other, path) if other.is_file() else (path / "a").write_text("a")


OF_FILES: dict[str, Injure] = {
    FLIP: _flip,
    "64 bytes scrambled": _scramble,
    "zeros": _zero,
    "cut short": _cut,
    "longer": _grow,
    "swapped with another": _swap,
    "another's copy": _copy,
    "deleted": _instead(lambda path, other: None),
    "empty": _instead(lambda path, other: path.touch()),
    "a folder": _instead(lambda path, other: path.mkdir()),
    "a folder with a file": _instead(_full_folder),
    "a fifo": _instead(lambda path, other: os.mkfifo(path)),
    "a socket": _instead(_socket),
    "a link to nothing": _instead(lambda path, other: path.symlink_to("nothing")),
    "a link to itself": _instead(lambda path, other: path.symlink_to(path.name)),
    "a link to another": _instead(lambda path, other: path.symlink_to(other)),
    "a terabyte": _instead(lambda path, other: (path.touch(), os.truncate(path, 1 << 40))),
}

Upset = Callable[[random.Random, Path], None]
"""Of a results folder."""


def _entries(results: Path, kind: str = "*") -> list[Path]:
    return sorted(path.parent for path in results.glob(f".cache/{kind}/??/*/done.json"))


def _other_key(draw: random.Random, results: Path) -> None:
    """An entry of the same kind, or of another, under a key that is needed."""
    entries = _entries(results)
    taken = draw.choice(entries)
    kind = taken.parts[-3]
    given = draw.choice(_entries(results, draw.choice((kind, "*"))))
    if given != taken:
        shutil.rmtree(taken)
        shutil.copytree(given, taken)


def _exchanged(draw: random.Random, results: Path) -> None:
    one = draw.choice(_entries(results))
    other = draw.choice(_entries(results, one.parts[-3]))
    if one != other:
        one.rename(one.with_name("x"))
        other.rename(one)
        one.with_name("x").rename(other)


def _kinds_gone(draw: random.Random, results: Path) -> None:
    for kind in draw.sample(("encode", "fit", "score", "accuracy", "measure", "locks"), draw.randint(1, 5)):
        shutil.rmtree(results / ".cache" / kind, ignore_errors=True)


def _entries_gone(draw: random.Random, results: Path) -> None:
    entries = _entries(results)
    for path in draw.sample(entries, draw.randint(1, len(entries))):
        shutil.rmtree(path)


def _markers_gone(draw: random.Random, results: Path) -> None:
    for path in draw.sample(_entries(results), 4):
        (path / "done.json").unlink()


def _file_for_folder(draw: random.Random, results: Path) -> None:
    inside = [path for path in results.rglob("*") if path.is_dir() and path.parent != results]
    path = draw.choice(sorted(inside))
    shutil.rmtree(path)
    path.write_text("in the way")


def _linked_away(draw: random.Random, results: Path) -> None:
    """An entry, or a row's records, is a link to another's folder."""
    folders = [*_entries(results), *results.glob("*+*/records/*"), *results.glob("*+*/scores/*")]
    path = draw.choice(sorted(folders))
    target = draw.choice(sorted(other for other in folders if other.parent.parent == path.parent.parent))
    if target != path:
        shutil.rmtree(path)
        path.symlink_to(target, target_is_directory=True)


def _rows_exchanged(draw: random.Random, results: Path) -> None:
    (folder,) = results.glob("*+*")
    one, other = draw.sample(sorted((folder / draw.choice(("records", "scores"))).iterdir()), 2)
    one.rename(one.with_name("x"))
    other.rename(one)
    one.with_name("x").rename(other)


def _rubbish(draw: random.Random, results: Path) -> None:
    """Files that are none of ours, and what killed writes left, in every folder."""
    for folder in [results, *(path for path in results.rglob("*") if path.is_dir())]:
        (folder / draw.choice((".a.json.1.tmp", "x.json", "y.npy", "done.json~"))).write_bytes(draw.randbytes(50))


OF_FOLDERS: dict[str, Upset] = {
    "an entry under another key": _other_key,
    "two entries exchanged": _exchanged,
    "kinds of entries deleted": _kinds_gone,
    "entries deleted": _entries_gone,
    "markers deleted": _markers_gone,
    "a file where a folder belongs": _file_for_folder,
    "a folder that is a link to another": _linked_away,
    "two rows' folders exchanged": _rows_exchanged,
    "strange files everywhere": _rubbish,
}
