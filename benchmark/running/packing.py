"""The run as it travels: files that belong to the code are found again in the code of the worker."""

import io
from pathlib import Path
from typing import Any

from benchmark.running import remote


def packed(run: remote.Run) -> bytes:
    """A run in bytes."""
    from ray import cloudpickle

    class Pickler(cloudpickle.Pickler):
        def reducer_override(self, found: Any) -> Any:
            if isinstance(found, Path) and found.is_relative_to(remote.ROOT):
                inside = found.relative_to(remote.ROOT)
                if inside.parts[:1] and inside.parts[0] in remote.ROOMS:
                    return _of_the_code, (str(inside),)
            return super().reducer_override(found)  # type: ignore[no-untyped-call]

    file = io.BytesIO()
    Pickler(file).dump(run)  # type: ignore[no-untyped-call]
    return file.getvalue()


def _of_the_code(inside: str) -> Path:
    return remote.ROOT / inside


def unpacked(content: bytes) -> remote.Run:
    """What `packed` was given."""
    from ray import cloudpickle

    run: remote.Run = cloudpickle.loads(content)
    return run
