"""The one way to open a file that came from outside: without blocking, and only what is a regular file."""

import os
import stat
from pathlib import Path
from typing import BinaryIO

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a fifo"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def open_regular(path: str | Path, limit: int | None = None) -> BinaryIO:
    """The file at `path`, open for reading, without ever waiting for anyone who writes into it.

    ValueError, in one line, for a folder, a fifo, a socket or a device, and for a file of more than `limit` bytes;
    OSError for what is absent, or may not be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if stat.S_ISSOCK(_mode(path)):  # the one kind that cannot be opened at all
            raise ValueError(f"{path} is a socket, not a regular file") from None
        raise error
    try:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode):
            kind = next((name for is_one, name in _KINDS if is_one(about.st_mode)), "something else")
            raise ValueError(f"{path} is {kind}, not a regular file")
        if limit is not None and about.st_size > limit:
            raise ValueError(f"{path} has {about.st_size:,} bytes; at most {limit:,} are read")
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_regular(path: str | Path, limit: int) -> bytes:
    """The content of the file at `path`, as `open_regular`; a file that grows meanwhile is bounded as well."""
    with open_regular(path, limit) as file:
        size = os.fstat(file.fileno()).st_size  # room for more is not asked for, which costs where there are many files
        content = file.read(size + 1)
        if len(content) > size:
            content += file.read(limit + 1 - len(content))
    if len(content) > limit:
        raise ValueError(f"{path} has more than {limit:,} bytes; no more are read")
    return content


def _mode(path: str | Path) -> int:
    try:
        return os.stat(path).st_mode
    except OSError:
        return 0
