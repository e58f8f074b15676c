"""One process at a time: a lock file that the operating system frees, and in it who holds it and since when."""

import errno
import fcntl
import json
import os
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from benchmark.store.files import clear
from datasets.files import read_regular

_OPEN = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

NO_LOCKS = errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP  # of a filesystem that has none


class Busy(Exception):
    """Another process is at work on this entry."""


@contextmanager
def held(lock: Path) -> Iterator[None]:
    """Hold `lock`, and say in it who does; Busy, with owner and age, where another process holds it.

    The operating system frees the lock of a process that dies, however it dies. What is no regular file under one name,
    a link above all, is taken away and never written into.
    """
    if os.path.lexists(lock) and not _is_ours(os.lstat(lock)):
        clear(lock)
    descriptor = os.open(lock, _OPEN, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy(_describe(lock)) from None
        except OSError as error:
            if error.errno not in NO_LOCKS:  # without locks, whoever gives the jobs out is taken at their word
                raise
        me = {"host": socket.gethostname(), "pid": os.getpid(), "since": time.time()}
        os.truncate(descriptor, 0)  # what a process that died said
        os.write(descriptor, json.dumps(me).encode())  # for people: not worth a wait for the disk
        try:
            yield
        finally:
            os.truncate(descriptor, 0)
    finally:
        os.close(descriptor)


def _is_ours(about: os.stat_result) -> bool:
    return stat.S_ISREG(about.st_mode) and about.st_nlink == 1


class Owner(NamedTuple):
    """Who holds a lock, and since when (seconds since 1970)."""

    host: str
    pid: int
    since: float


def read_owner(path: Path) -> Owner | None:
    """Who says there that they hold a lock; None where nobody does, or it cannot be read."""
    try:
        who = json.loads(read_regular(path, 4096))
        host = f"{str(who['host'])[:100]!a}".replace("'", "")
        return Owner(host, int(who["pid"]), min(time.time(), float(who["since"])))
    except (OSError, ValueError, KeyError, TypeError, RecursionError, OverflowError):
        return None


def _describe(lock: Path) -> str:
    who = read_owner(lock)
    return (
        "another process" if who is None else f"process {who.pid} on {who.host}, for {round(time.time() - who.since)} s"
    )
