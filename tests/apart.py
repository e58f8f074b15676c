"""A process of its own that need not start: a fork of the test's, in which everything is imported already."""

import multiprocessing
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Apart:
    """`work` in a fork, which may be killed, limited and changed as it likes; what it returns is its status.

    `folder` gets what it prints.
    """

    def __init__(self, work: Callable[[], Any], folder: Path) -> None:
        self._printed = [folder / name for name in ("stdout", "stderr")]

        def inside() -> None:
            for number, path in enumerate(self._printed, start=1):
                os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
            sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2))
            status = work()
            for stream in filter(None, (sys.stdout, sys.stderr)):  # as Python does at its end
                stream.flush()
            sys.exit(status)

        self.process = multiprocessing.get_context("fork").Process(target=inside)
        self.process.start()

    def wait(self, seconds: float = 100) -> tuple[int | None, str, str]:
        """Its status, negative where a signal ended it, and what it printed; None where it runs on."""
        self.process.join(seconds)
        out, err = (path.read_text() if path.exists() else "" for path in self._printed)
        return self.process.exitcode, out, err
