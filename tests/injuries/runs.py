"""Whole runs on injured results: what each kind of injury ends in.

python -m tests.injuries.runs [TIMES] [SEED]: a small run is finished once; TIMES times (25) for each kind a copy of
its results and cache is injured, and the same command given again, and once more. An injury ends well where it is
`told`, `made again` without a word (what is not there), or `harmless` (nothing was made), each with status 0 and the
same records, scores and table; where the second command finds all in its place, and tells nothing. All else is wrong.
"""

import contextlib
import io
import json
import random
import re
import shutil
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from benchmark.jobs import writing
from benchmark.store.chunks import ChunkWriter
from methods.training import checkpoint, loop
from tests.benchmark.conftest import Trial, undrawn
from tests.injuries.kinds import GROUPS, OF_FILES, OF_FOLDERS, files_of

FOLDER = "mini+limit=30+limit-train=60"
_SAME = ("records/*/*.json", "scores/*/*.npy", "mistakes/*/*.json", "table.csv", "significance.csv")
_OF_A_RUN = ("provenance", "training", "checksum")
NEEDED = ((), ("results",), ("results", "score"), ("results", "score", "fit", "accuracy"))
"""What is deleted before an injury, so that what was injured is read: records, or what they are made from as well."""


@dataclass(frozen=True)
class Ended:
    status: int | str
    said: str
    found: dict[str, Any]  # records, scores, mistakes and tables


class Ground:
    """A finished run, one stopped within a pass and one within a training; injuries happen to copies. rows: of them."""

    def __init__(self, folder: Path, rows: tuple[str, ...] = ()) -> None:
        self.folder, self.rows = folder, rows
        self.whole = Trial(folder / "whole")
        first = self.run(self.whole)
        assert first.status == 0, first.said
        self.found = first.found
        self.stopped = [Trial(folder / name) for name in ("pass", "training")]
        for trial, stop in zip(self.stopped, (_stop_in_a_pass(), _stop_in_a_training(1 if rows else 2)), strict=True):
            with stop:
                assert self.run(trial).status == 130
            shutil.rmtree(trial.results / FOLDER)

    def run(self, trial: Trial) -> Ended:
        return run(trial, *(("--methods", *self.rows) if self.rows else ()))

    def injured(self, group: str, kind: str, draw: random.Random) -> tuple[Trial, str]:
        """A copy to which one thing happened; and which, in words."""
        start = draw.choice(self.stopped) if group == "unfinished" else self.whole
        shutil.rmtree(self.folder / "copy", ignore_errors=True)
        shutil.copytree(start.folder, self.folder / "copy")
        trial = Trial(self.folder / "copy")
        if group == "folders":
            deleted = draw.choice(NEEDED[:2])
            OF_FOLDERS[kind](draw, trial.results)
            _delete(trial, deleted)
            return trial, f"{kind}, without {deleted}"
        paths = files_of(trial.results, group)
        path = draw.choice(paths)
        deleted = _to_read(path.relative_to(trial.results)) if draw.random() < 0.7 else ()
        OF_FILES[kind](draw, path, draw.choice([other for other in paths if other.suffix == path.suffix]))
        _delete(trial, deleted)
        return trial, f"{path.relative_to(trial.results)}: {kind}, without {deleted}"


def _to_read(path: Path) -> tuple[str, ...]:
    kinds = {"score": 1, "accuracy": 1, "fit": 2, "encode": 3}
    return NEEDED[kinds.get(path.parts[1], 0) if path.parts[0] == ".cache" else 0]


def _delete(trial: Trial, what: tuple[str, ...]) -> None:
    for name in what:
        folder = trial.results / (FOLDER if name == "results" else f".cache/{name}")
        if folder.is_file() or folder.is_symlink():
            folder.unlink()
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _stop(holder: Any, name: str, at: int) -> Iterator[None]:
    before, calls = getattr(holder, name), iter(range(1, 1_000_000))

    def counted(*args: Any, **more: Any) -> Any:
        if next(calls) == at:
            raise KeyboardInterrupt
        return before(*args, **more)

    with patch.object(holder, name, counted):
        yield


@contextlib.contextmanager
def _stop_in_a_pass() -> Iterator[None]:
    each_batch = patch.object(writing.WritingThread, "_is_a_chunk", lambda self: True)  # however slow the disk is
    with each_batch, _stop(ChunkWriter, "append", 4):
        yield


@contextlib.contextmanager
def _stop_in_a_training(at: int) -> Iterator[None]:
    """The `at`-th: between its last epoch and its end, where a checkpoint of it lies."""
    with patch.object(loop, "CHECKPOINT_SECONDS", 0), _stop(checkpoint, "remove", at):
        yield


def run(trial: Trial, *more: str) -> Ended:
    """The command, and what is there after it."""
    stream = io.StringIO()
    with contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream), undrawn():
        try:
            status: int | str = trial.run("--batch-size", "10", *more)
        except BaseException as error:
            traceback.print_exc()
            status = type(error).__name__
    return Ended(status, stream.getvalue(), dict(_found(trial.results / FOLDER)))


def _found(folder: Path) -> Iterator[tuple[str, Any]]:
    """Files by their names, records without what differs from run to run."""
    for path in sorted(path for name in _SAME for path in folder.glob(name)):
        content: Any = path.read_bytes()
        if path.parents[1].name == "records":
            try:
                content = {name: said for name, said in json.loads(content).items() if name not in _OF_A_RUN}
            except (ValueError, AttributeError):
                continue
        yield str(path.relative_to(folder)), content


def judged(first: Ended, second: Ended, found: dict[str, Any]) -> str:
    """How an injury ended. `found`: what a run that nothing befell leaves."""
    for which, ended in (("", first), ("the next run: ", second)):
        if ended.status != 0 or "Traceback" in ended.said:
            return f"wrong: {which}status {ended.status}"
        if different := [name for name in found if ended.found.get(name) != found[name]]:
            return f"wrong: {which}another {different[0]}"
    if not _notes(second) <= _notes(first) or not re.search(r"^0 measured", second.said, re.MULTILINE):
        return "wrong: the next run has it to do again"  # told it may be again, where it is needed by nothing
    if _notes(first):
        return "told"
    made = not re.search(r"^0 measured", first.said, re.MULTILINE)
    return "made again" if made else "harmless"


def _notes(ended: Ended) -> set[str]:
    return set(re.findall(r"note: .*", ended.said))


def cases() -> list[tuple[str, str]]:
    return [(group, kind) for group in GROUPS for kind in OF_FILES] + [("folders", kind) for kind in OF_FOLDERS]


def outcome(ground: Ground, group: str, kind: str, seed: str) -> tuple[str, str]:
    """How one injury ended, and all that was said of it."""
    trial, what = ground.injured(group, kind, random.Random(f"{group} {kind} {seed}"))
    first = ground.run(trial)
    second = ground.run(trial)
    return judged(first, second, ground.found), f"{what}\n{first.said}\n{second.said}"


def main(times: int = 25, seed: int = 0) -> int:
    counts: dict[tuple[str, str], Counter[str]] = {}
    with tempfile.TemporaryDirectory() as work:
        ground = Ground(Path(work))
        for group, kind in cases():
            of_kind = counts[group, kind] = Counter()
            for number in range(times):
                how, said = outcome(ground, group, kind, f"{seed} {number}")
                of_kind[how.partition(":")[0]] += 1
                if how.startswith("wrong"):
                    print(f"{how}: {said}", file=sys.stderr)
            print(f"{group}, {kind}: {dict(of_kind)}", flush=True)
    total = sum(counts.values(), Counter())
    print(f"{total.total():,} injuries: {dict(total)}")
    return min(1, total["wrong"])


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
