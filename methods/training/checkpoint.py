"""What makes a training survive an interruption: files that are whole or absent, and a Ctrl-C that waits."""

import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

from methods.device import tensors

_TEMPORARY = ".tmp"


def write(path: Path, writer: Callable[[Path], object]) -> None:
    """Have `writer` fill a temporary file, flush it to disk and rename it to `path`; makes the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}{_TEMPORARY}")
    temporary.unlink(missing_ok=True)
    try:
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666))  # no link's target
        writer(temporary)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        if path.is_dir():
            _clear(path)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def remove(path: Path) -> None:
    """Delete a file, or whatever is in its place, and what a killed `write` of it left behind."""
    for stale in (path, *path.parent.glob(f"{path.name}.*{_TEMPORARY}")):
        _clear(stale)


def _clear(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def save(path: Path, state: dict[str, Any]) -> None:
    """`state` of tensors and plain values, as torch.save has it."""

    def fill(temporary: Path) -> None:
        with temporary.open("wb") as file:  # a full disk is then an OSError that says so
            torch.save(state, file)

    write(path, fill)


def load(path: Path, identity: str, limit: int) -> dict[str, Any] | None:
    """What `save` wrote, on the CPU, if its `identity` is this one and it unpacks to at most `limit` bytes.

    None where there is none, and for any other file, of which a line tells.
    """
    try:
        state, _ = tensors.read(path, limit)
        if isinstance(state, dict) and state.get("identity") == identity:
            return state
        why = "it is that of another training"
    except FileNotFoundError:
        return None
    except (OSError, ValueError):  # torn, damaged or hostile
        why = "it is damaged"
    tqdm.write(f"note: {path} is not used, and its steps are done again: {why}", file=sys.stderr)
    return None


class Interrupt:
    """Inside `with`, Ctrl-C only sets `pending`, so that no step is cut in two; a second one acts at once.

    Outside the main thread, where Ctrl-C never arrives, it does nothing.
    """

    def __enter__(self) -> "Interrupt":
        self.pending = False
        main = threading.current_thread() is threading.main_thread()
        self._previous: Any = signal.getsignal(signal.SIGINT) if main else None
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._note)
        return self

    def _note(self, *_: object) -> None:
        self.pending = True
        signal.signal(signal.SIGINT, self._previous)

    def act(self) -> None:
        """Do now what the Ctrl-C that is pending would have done."""
        if self.pending:
            self.pending = False
            signal.raise_signal(signal.SIGINT)

    def __exit__(self, *_: object) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)
        self.act()
