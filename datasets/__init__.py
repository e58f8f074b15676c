"""Sets of images. Hugging Face has a package of this name: who looks for it here is told."""

from typing import Any

_THEIRS = (
    "load_dataset",
    "load_from_disk",
    "Dataset",
    "DatasetDict",
    "IterableDataset",
    "Image",
    "concatenate_datasets",
)


def __getattr__(name: str) -> Any:
    line = (
        f"module 'datasets' has no attribute {name!r}: this is ood-benchmark's, not Hugging Face's, and one process "
        "holds one package of that name: write features or images to files in a process that imports theirs alone, and "
        "run `run_all.py --id FOLDER`, or use theirs in a process of its own"
    )
    raise (ImportError if name in _THEIRS else AttributeError)(line)
