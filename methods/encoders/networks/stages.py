"""Trainings one after another: what one has ended with is kept until all have."""

from pathlib import Path

from torch import Tensor

from methods.training import checkpoint

BYTES = 4 << 30  # of a result
_FILE = "ended.pt"


class Stages:
    """Folders in `workdir` (None: nothing is kept), one a stage, for `training.train`, and each stage's result.

    A result of another `identity` (settings, seed, data) or that cannot be read counts as none.
    """

    def __init__(self, workdir: Path | None, identity: str) -> None:
        self.workdir, self.identity = workdir, identity
        self.kept: list[Path] = []

    def folder(self, name: str) -> Path | None:
        return None if self.workdir is None else self.workdir / name

    def load(self, name: str) -> dict[str, Tensor] | None:
        """What the stage ended with in an earlier process, on the CPU."""
        if self.workdir is None:
            return None
        path = self.workdir / name / _FILE
        found = checkpoint.load(path, self.identity, BYTES)
        if found is None:
            return None
        self.kept.append(path)
        result: dict[str, Tensor] = found["result"]
        return result

    def save(self, name: str, result: dict[str, Tensor]) -> None:
        if self.workdir is not None:
            path = self.workdir / name / _FILE
            checkpoint.save(path, {"identity": self.identity, "result": result})
            self.kept.append(path)

    def clear(self) -> None:
        """Delete the results: all stages have ended."""
        for path in self.kept:
            checkpoint.remove(path)
