"""`--detector DIR --score PATH ...`: a line of CSV for every file, or for every row of a file of features."""

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmark import shown
from benchmark.detectors.detector import Detector
from benchmark.detectors.verdicts import accepted, p_values, share
from benchmark.planning.suite import UsageError
from datasets import walking
from datasets.features import FeatureFile
from datasets.images import decode
from datasets.walking import printable

HEADER = ("file", "score", "p_value", "accepted", "note")


def score(folder: Path, paths: Sequence[Path], accept: str, *, device: str, strict: bool) -> int:
    """The exit status: 1 where the detector does not verify, no file is found, or (`strict`) a file has no score.

    UsageError for what is not there, and for a share that the calibration images are too few for.
    """
    for path in (folder, *paths):
        if not os.path.lexists(path):
            raise UsageError(f"{printable(path)} is not there")
    try:
        detector = Detector.load(folder, device=device)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    try:
        share(accept, len(detector.calibration))
    except ValueError as error:
        raise UsageError(f"--accept: {error}") from None
    print(",".join(HEADER))
    lines = scored = 0
    found = _of_features(detector, paths) if detector.of_features else _of_images(detector, paths)
    for names, scores, said in found:
        print(_csv(detector, names, scores, said, accept), end="", flush=True)
        lines, scored = lines + len(names), scored + int((~np.isnan(scores)).sum())
    if not lines:
        print("error: there is no file to score", file=sys.stderr)
    return int(not lines or (strict and scored < lines))


def _csv(detector: Detector, names: list[str], scores: Any, said: list[str], accept: str) -> str:
    p = p_values(detector.calibration, scores)
    verdicts = accepted(detector.calibration, scores, accept)
    cells = []
    for name, value, at, yes, note in zip(names, scores, p, verdicts, said, strict=True):
        figures = ("", "", "") if np.isnan(value) else (repr(float(value)), repr(float(at)), str(yes).lower())
        cells.append((name, *figures, note))
    return shown.csv((dict(zip(HEADER, cell, strict=True)) for cell in cells), HEADER).partition("\n")[2]


Found = tuple[list[str], Any, list[str]]  # files, their scores, NaN where there is none, and why


def _of_images(detector: Detector, paths: Sequence[Path]) -> Iterator[Found]:
    files = _files(paths)
    size = detector.worker.batch_size_of(detector.use.chain[0])

    def read(file: Path) -> Tensor | str:
        try:
            return detector.use.shrink(torch.from_numpy(decode(file, "it")))
        except (ValueError, OSError) as error:
            return " ".join(str(error).split())

    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        while batch := list(islice(files, size)):
            images = list(pool.map(read, batch))
            scores = np.full(len(batch), np.nan)
            whole = [image for image in images if not isinstance(image, str)]
            if whole:
                same = len({image.shape for image in whole}) == 1
                found = detector.of(detector.encode(torch.stack(whole) if same else whole)).double().numpy()
                scores[[not isinstance(image, str) for image in images]] = found
            said = [_note(image, value) for image, value in zip(images, scores, strict=True)]
            yield [printable(file) for file in batch], scores, said


def _note(image: Tensor | str, value: float) -> str:
    return image if isinstance(image, str) else "its score is NaN" if np.isnan(value) else ""


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    """The files that are named, and the images in the folders that are, at any depth."""
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        try:
            listing = walking.listed(path)
        except ValueError as error:
            raise UsageError(f"--score: {error}") from None
        for note in listing.notes:
            print(f"note: {printable(path)}: {note}", file=sys.stderr)
        yield from (path / image for image in listing.images)


def _of_features(detector: Detector, paths: Sequence[Path]) -> Iterator[Found]:
    for path in paths:
        row = 0
        try:
            for block in FeatureFile.of(path).blocks():
                scores = detector.scores(block)
                names = [f"{printable(path)}[{row + place}]" for place in range(len(scores))]
                row += len(scores)
                yield names, scores, ["its score is NaN" if np.isnan(value) else "" for value in scores]
        except (ValueError, OSError) as error:
            yield [printable(path)], np.array([np.nan]), [" ".join(str(error).split())]
