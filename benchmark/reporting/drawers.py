"""Processes that draw figures, beside what this one does: with none of its threads, imports and interrupts."""

import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).parents[2]
_MOST = 4
_NICE = 5  # what is measured meanwhile comes first

Draw = Callable[[Path], None]


class Gone(Exception):
    """The process that was to draw has ended, or could not be started."""


class Drawers(AbstractContextManager["Drawers"]):
    """As many processes as cores, at most four, each started when it has something to draw, gone at the end.

    What draws is a function of a module, or a `partial` of one, which is imported there.
    """

    def __init__(self, most: int | None = None) -> None:
        self._threads = ThreadPoolExecutor(most or min(_MOST, os.cpu_count() or 1))  # one for each process
        self._mine = threading.local()
        self._processes: list[subprocess.Popen[bytes]] = []
        self._given: list[Future[None]] = []

    def give(self, draw: Draw, path: Path) -> Future[None]:
        """Have a figure drawn. What that raises, the future raises; `Gone` where its process does not live."""
        self._given.append(future := self._threads.submit(self._draw, draw, path.absolute()))
        return future

    def rest(self) -> None:
        """Wait until all that was given is drawn."""
        wait(self._given)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._threads.shutdown(cancel_futures=True)
        for process in self._processes:
            process.communicate()  # the end of what it is to draw: it goes

    def _draw(self, draw: Draw, path: Path) -> None:
        try:
            process: subprocess.Popen[bytes] | None = getattr(self._mine, "process", None)
            if process is None:
                process = self._mine.process = self._started()
            assert process.stdin is not None
            assert process.stdout is not None
            pickle.dump((draw, path), process.stdin)
            process.stdin.flush()
            failed: Exception | None = pickle.load(process.stdout)
        except (OSError, EOFError, pickle.PickleError) as error:
            self._mine.process = None
            raise Gone(str(error)) from None
        if failed is not None:
            raise failed

    def _started(self) -> "subprocess.Popen[bytes]":
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        # -P: no file of the folder that it is started in is taken for a module
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # what goes wrong comes back, and is told here
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )
        self._processes.append(process)
        return process


def _serve() -> None:
    """Draw what comes from stdin until it ends, and say of each what it raised."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(OSError):
        os.nice(_NICE)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    with suppress(EOFError, BrokenPipeError):  # whoever asked is gone
        while True:
            draw, path = pickle.load(sys.stdin.buffer)
            try:
                draw(path)
                answer = pickle.dumps(None)
            except Exception as error:
                answer = _pickled(error)
            answers.write(answer)
            answers.flush()


def _pickled(error: Exception) -> bytes:
    try:
        pickle.loads(content := pickle.dumps(error))
        return content
    except Exception:  # one with arguments of its own
        return pickle.dumps(RuntimeError(f"{type(error).__name__}: {error}"))


if __name__ == "__main__":
    _serve()
