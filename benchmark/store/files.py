"""Small files, written so that nothing tears and no link leads elsewhere, and read back whole or not at all."""

import errno
import fcntl
import itertools
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from benchmark.store import keys
from datasets.files import open_regular, read_regular

SMALL = 1 << 20  # bytes: no marker, record or lock comes near
NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
SETTLED = 2 * 10**9  # nanoseconds: clocks of file systems are coarse
_TEMPORARY = ".tmp"
_FLUSHED_AT_ONCE = 8
Stamp = tuple[int, int, int, int]


def is_full(error: BaseException) -> bool:
    """Whether there is no space left, or none that this user may have.

    safetensors says so in words alone, and torch raises an error of its own on top of the system's.
    """
    full = errno.ENOSPC, errno.EDQUOT
    if getattr(error, "errno", None) in full or any(f"(os error {number})" in str(error) for number in full):
        return True
    below = error.__cause__ or error.__context__
    return below is not None and is_full(below)


def stamp(path: Path) -> Stamp | None:
    """What differs where a file is replaced or written to; None while it is so new that this might not show."""
    about = path.stat()
    if time.time_ns() - about.st_ctime_ns < SETTLED:
        return None
    return about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns


def new(path: Path) -> BinaryIO:
    """A file that is not there yet, open for writing: nothing that lies in its place is ever written into."""
    return os.fdopen(os.open(path, NEW, 0o666), "wb")


@contextmanager
def replacing(path: Path, *, within: Path | None = None, durable: bool = True) -> Iterator[BinaryIO]:
    """The new content of `path`, whole or not there: a temporary file, flushed to the disk where `durable`, renamed.

    A link, a folder or whatever else lies at `path` is replaced, and what a link points to stays as it is. `within`:
    as `make_folder` has it.
    """
    make_folder(path.parent, within)
    temporary = path.with_name(f".{path.name}.{os.getpid()}{_TEMPORARY}")
    try:
        with _anew(temporary) as file:
            with suppress(OSError):  # a filesystem without locks; `sweep` leaves all files there
                fcntl.flock(file, fcntl.LOCK_EX)  # says to `sweep` that somebody writes
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
            try:
                temporary.replace(path)
            except IsADirectoryError:
                shutil.rmtree(path)
                temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _anew(path: Path) -> BinaryIO:
    """As `new`; what lies in its place goes."""
    try:
        return new(path)
    except FileExistsError:
        clear(path)
        return new(path)


def write_atomically(path: Path, text: str, *, within: Path | None = None, durable: bool = True) -> None:
    """Write a text file as `replacing` does."""
    with replacing(path, within=within, durable=durable) as file:
        file.write(text.encode("utf-8", "backslashreplace"))


def flush(paths: Iterable[Path]) -> None:
    """Wait until these files are on the disk, at once: one after the other is thirty times as long."""

    def wait(path: Path) -> None:
        with suppress(FileNotFoundError), open_regular(path) as file:
            os.fsync(file.fileno())

    with ThreadPoolExecutor(_FLUSHED_AT_ONCE) as threads:
        list(threads.map(wait, paths))


def make_folder(path: Path, within: Path | None = None) -> None:
    """The folder and those above it. A file in the way goes where it lies below `within`, a folder of ours alone.

    So does a link there to another of its folders: two names would share their files. NotADirectoryError, which says
    what to do, for any other file.
    """
    if within is not None:
        for above in itertools.takewhile(within.__ne__, (path, *path.parents)):
            if above.is_symlink() and within.resolve() in above.resolve().parents:
                above.unlink()
    if path.is_dir():  # as it mostly is: mkdir would say so by an error
        return
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        file = next(above for above in (path, *path.parents) if os.path.lexists(above))
        if within is None or within not in file.parents:
            raise NotADirectoryError(errno.ENOTDIR, "a folder belongs here: move this file away", str(file)) from None
        clear(file)
        make_folder(path, within)


def clear(path: Path) -> None:
    """Take away whatever is there: a file, a link (not what it points to), a folder with all that is in it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        with suppress(FileNotFoundError, NotADirectoryError):
            path.unlink()


def sweep(folder: Path) -> None:
    """Delete what killed writes left below a folder: temporary files that no process has open for writing."""
    for path in folder.rglob(f".*{_TEMPORARY}"):
        with suppress(OSError, ValueError), open_regular(path) as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # fails where it is being written
            path.unlink()


def checksum(content: Mapping[str, Any]) -> str:
    """SHA-256 of the canonical JSON of `content` without its own checksum."""
    return keys.digest(**{name: value for name, value in content.items() if name != "checksum"})


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """`content` as JSON gives it back, with its checksum."""
    plain = json.loads(json.dumps(content))
    return {**plain, "checksum": checksum(plain)}


def text(content: Mapping[str, Any]) -> str:
    """`content` as one line of JSON."""
    return json.dumps(content, sort_keys=True, separators=(",", ":")) + "\n"


def parse(text: str | bytes) -> dict[str, Any]:
    """A JSON object that carries its checksum. ValueError, which says why in a few words, for anything else."""
    try:
        content = json.loads(text)
        if not isinstance(content, dict):
            raise ValueError
        fits = content.get("checksum") == checksum(content)
    except (ValueError, RecursionError, UnicodeError):
        raise ValueError("it is no JSON object") from None
    if "checksum" not in content:
        raise ValueError("it is of an older version, without a checksum")
    if not fits:
        raise ValueError("its checksum does not fit")
    return content


def read_sealed(path: Path, limit: int = SMALL) -> dict[str, Any]:
    """What `sealed` made and a file holds. FileNotFoundError where there is none; ValueError, which says why, for all
    that is no such file, or cannot be read."""
    return parse(read(path, limit))


def read(path: Path, limit: int = SMALL) -> bytes:
    """The content of a small file; errors as `read_sealed`."""
    try:
        return read_regular(path, limit)
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path)) from None
    except OSError as error:
        raise ValueError(f"it cannot be read: {error.strerror}") from None


def fault(path: Path, read: Callable[[Path], object] = read_sealed, again: str = "made") -> str:
    """A file that `read` refuses by a ValueError, and why, in words; "" where it does not, or there is none."""
    try:
        read(path)
    except ValueError as why:
        return f"{path} is not used, and {again} again: {why}"
    except OSError:
        pass
    return ""
