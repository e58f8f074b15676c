"""Every byte of the small files of a results folder and its cache, one bit flipped: how many injuries are found.

python -m tests.injuries.contents RESULTS/SUITE CACHE [STEP]: markers, records and score files, the journal of an
entry that grows, and the checkpoint of a training; each file also cut short and swapped with the next of its kind.
Works on a copy. An injury that changes nothing of what is read (a space that becomes a tab, 1e-5 that becomes 1E-5, a
date in an archive) is counted apart.
"""

import json
import shutil
import sys
import tempfile
from collections import Counter
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path

import numpy as np
import torch

from benchmark.records import records, score_files
from benchmark.store.chunks import ChunkWriter
from benchmark.store.entries import Store
from methods.training import checkpoint

ROWS, KEY = 30, "0" * 64
VALUES = torch.arange(200, dtype=torch.float32)


def injuries(content, other, step):
    """The damaged contents of one file."""
    for place in range(0, len(content), step):
        yield content[:place] + bytes([content[place] ^ 1 << place % 8]) + content[place + 1 :]
    yield from (content[: len(content) * part // 8] for part in range(8))
    if other != content:
        yield other


def grown(store, key):
    """The beginning of an entry: its chunks but the last, which no journal has."""
    writer = ChunkWriter(store, "encode", key, ROWS + 1)
    for start in range(0, ROWS, 10):
        writer.append({"embedding": np.arange(start, start + 10, dtype=np.float32)[:, None]})
    return store.partial("encode", key)


def journals(work, step):
    """How a run goes on whose journal was damaged: with fewer chunks, or with all; never past what is there."""
    store, counts = Store(work / "growing"), Counter()
    content = (grown(store, KEY) / "journal").read_bytes()
    other = (grown(store, KEY.replace("0", "1")) / "journal").read_bytes()
    for damaged in injuries(content, other, step):
        store.partial("encode", KEY).joinpath("journal").write_bytes(damaged)
        position = ChunkWriter(store, "encode", KEY, ROWS + 1).position
        same = damaged.split() == content.split()
        counts["found" if position < ROWS else "harmless" if same else "passed"] += 1
        shutil.rmtree(store.partial("encode", KEY))
        grown(store, KEY)
    return counts


def checkpoints(work, step):
    """What a training goes on from whose checkpoint was damaged: from its start, or from what was kept."""
    counts, paths = Counter(), (work / "one.pt", work / "other.pt")
    for seed, path in enumerate(paths):
        weights = torch.arange(seed, seed + 200, dtype=torch.float32).reshape(10, 20)
        checkpoint.save(path, {"identity": path.name, "step": 20 + seed, "model": {"weight": weights}})
    path, content = paths[0], paths[0].read_bytes()
    for damaged in injuries(content, paths[1].read_bytes(), step):
        path.write_bytes(damaged)
        found = checkpoint.load(path, path.name, 1 << 20)
        same = found is not None and found["step"] == 20 and torch.equal(found["model"]["weight"].flatten(), VALUES)
        counts["found" if found is None else "harmless" if same else "passed"] += 1
    return counts


def counted(folder, cache, step=1):
    """How many injuries of each kind of file were found, were harmless, passed, or raised."""
    counts = {kind: Counter() for kind in ("markers", "records", "score files")}
    with tempfile.TemporaryDirectory() as work:
        folder = Path(shutil.copytree(folder, Path(work) / "results", ignore=shutil.ignore_patterns(".cache")))
        cache = Path(shutil.copytree(cache, Path(work) / "cache"))
        markers = sorted(cache.glob("*/??/*/done.json"))
        results = sorted((folder / "records").glob("*/*.seed*.json"))
        checks = [
            ("markers", markers, lambda path: Store(cache).has(path.parts[-4], path.parts[-2]) or None),
            ("records", results, records.read),
        ]
        for path in results:
            about = records.read(path)
            side = [score_files.path_of(folder, about, side) for side in score_files.SIDES]
            checks.append(("score files", side, lambda _, about=about: score_files.fit(folder, about) or None))
        for kind, paths, read in checks:
            for number, path in enumerate(paths):
                content, good = path.read_bytes(), read(path)
                assert good is not None, path
                for damaged in injuries(content, paths[number - 1].read_bytes(), step):
                    path.write_bytes(damaged)
                    try:
                        found = read(path)
                    except Exception as error:
                        counts[kind][type(error).__name__] += 1
                        continue
                    if found is None:
                        counts[kind]["found"] += 1
                    else:
                        same = kind == "records" or json.loads(damaged) == json.loads(content)
                        counts[kind]["harmless" if found == good and same else "passed"] += 1
                path.write_bytes(content)
        counts["journals"] = journals(Path(work), step)
        with redirect_stderr(StringIO()):  # which is told of each
            counts["checkpoints"] = checkpoints(Path(work), step)
    return counts


def main(folder, cache, step=1):
    for kind, of_kind in counted(folder, cache, step).items():
        print(f"{kind}: {sum(of_kind.values()):,} injuries: {dict(of_kind)}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *map(int, sys.argv[3:]))
