"""Whether all machines see the same files: a token in each folder, and patience with network filesystems."""

import contextlib
import fcntl
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmark.store.files import NEW, clear, make_folder, sweep
from benchmark.store.locks import NO_LOCKS

SEEN_SECONDS = 60.0  # NFS keeps what it knows of a folder so long by default


@contextlib.contextmanager
def tokens(paths: tuple[Path, ...], say: Callable[[str], None]) -> Iterator[None]:
    """Files that are there for the time of a run: whoever sees them sees its folders. Those of the dead go.

    `say` is told where the filesystem has no locks.
    """
    with contextlib.ExitStack() as stack:
        for path in paths:
            make_folder(path.parent)
            sweep(path.parent)
            file = stack.enter_context(os.fdopen(os.open(path, NEW, 0o666), "wb"))
            stack.callback(clear, path)
            try:
                fcntl.flock(file, fcntl.LOCK_EX)  # `sweep` of another run leaves it
            except OSError as error:
                if error.errno not in NO_LOCKS:
                    raise
                say(f"note: {path.parent} lies on {filesystem(path.parent)}, which has no locks: start no second run")
        yield


def appears(there: Callable[[], bool], seconds: float) -> bool:
    """Whether `there` comes true in time."""
    end = time.monotonic() + seconds
    while not there():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def look(folder: Path) -> None:
    """List a folder anew: network filesystems remember which names were there."""
    with contextlib.suppress(OSError):
        os.listdir(folder)


def filesystem(path: Path) -> str:
    """The kind of filesystem that a folder lies on."""
    done = subprocess.run(["stat", "-f", "-c", "%T", str(path)], capture_output=True, text=True)
    return done.stdout.strip() or "an unknown filesystem"
