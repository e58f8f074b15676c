"""Large files are hashed in threads, beside what else is done with them."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from datasets.images import file_sha256

THREADS = 2


class Hashing:
    """Of each file size and hash. ValueError, when asked, for what is none, or has more than `limit` bytes."""

    def __init__(self, files: Sequence[Path], limit: int) -> None:
        self._files = files
        with_threads = ThreadPoolExecutor(THREADS)
        self._found = {path: with_threads.submit(file_sha256, path, limit) for path in files}
        with_threads.shutdown(wait=False)

    def of(self, path: Path) -> tuple[int, str]:
        return self._found[path].result()

    def once(self) -> list[Path]:
        """The files, each content once: only those of one size may be the same."""
        if len({path.stat().st_size for path in self._files}) == len(self._files):
            return list(self._files)
        first: dict[tuple[int, str], Path] = {}
        for path in self._files:
            first.setdefault(self.of(path), path)
        return list(first.values())
