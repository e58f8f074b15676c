"""Where a run is carried out: what `--cluster` and `--share-gpu` say."""

import os
import re
from dataclasses import dataclass
from importlib.util import find_spec

import torch

from benchmark.planning.suite import UsageError
from benchmark.running import resources


@dataclass(frozen=True)
class Place:
    """Where a run goes. `workers`: of this machine; None: the cluster that runs here. `threads`: of each job.

    share: how many encoders run on one GPU at once.
    """

    workers: int | None
    threads: int
    share: int = 1


def place(text: str, device: str, share: int | None = None) -> Place:
    """What the flags mean. UsageError for another value, or where Ray is not installed."""
    found = re.fullmatch(r"auto|local(?::([1-9][0-9]{0,5}))?", text)
    if found is None:
        raise UsageError(f"--cluster {text[:40]}: valid are local, local:N (N workers, at least 1) and auto")
    if find_spec("ray") is None:
        raise UsageError("--cluster needs Ray: pip install 'ood-benchmark[cluster]'")
    if device.startswith("cuda:"):
        raise UsageError(f"--cluster with --device {device}: Ray chooses each job's GPU; use --device cuda")
    if share is not None and device != "cuda":
        raise UsageError(f"--share-gpu {share}: --device {device} is no GPU")
    share = share or 1
    if text == "auto":
        if "://" in (address := os.environ.get("RAY_ADDRESS", "")):
            raise UsageError(f"--cluster auto: RAY_ADDRESS is {address[:60]}: run this on a node, or ray job submit")
        return Place(None, resources.threads(None), share)
    cores = max(1, (os.cpu_count() or 1) // resources.threads(None))
    most = torch.cuda.device_count() if device == "cuda" else cores
    workers = int(found[1] or most)
    return Place(min(workers, most) if device == "cuda" else workers, resources.threads(workers), share)
