"""What Ray calls on a worker."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import methods
from benchmark.running import packing, remote
from benchmark.running.base import Ended


def work(tokens: tuple[Path, ...], boxed: list[Any], path: tuple[int, ...], key: str) -> tuple[str, Ended]:
    """On which node it ran, and how it ended."""
    import ray

    device = remote.gpu(ray.get_gpu_ids(), os.environ.get("CUDA_VISIBLE_DEVICES"))
    return ray.get_runtime_context().get_node_id(), remote.work(tokens, _fetch(boxed), device, path, key)


def proof(tokens: tuple[Path, ...], boxed: list[Any]) -> str:
    """ "" where this worker may take part, else why not."""
    try:
        remote.begin(tokens, _fetch(boxed))
    except remote.NotAlike as why:
        return str(why)
    return ""


def _fetch(boxed: list[Any]) -> Callable[[], remote.Run]:
    def fetch() -> remote.Run:
        import ray

        for file in boxed[1:]:  # the run holds methods of theirs
            try:
                methods.load(file)
            except ValueError as error:
                raise remote.NotAlike(f"a worker does not see a plugin that all machines must share: {error}") from None
        return packing.unpacked(ray.get(boxed[0]))

    return fetch
