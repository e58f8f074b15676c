"""What the command line says beside the suite, and the folder that results made with it go to."""

from dataclasses import dataclass
from pathlib import Path

from benchmark.records.names import folder_name


@dataclass(frozen=True)
class Options:
    """What the command line says beside the suite."""

    data: Path
    weights: Path
    results: Path
    cache: Path
    device: str = "cpu"
    batch_size: int | None = None  # None: auto, by the device and the size of the images
    precision: str = "32"
    pretrained: str | None = None
    limit: int | None = None
    limit_train: int | None = None
    quick: bool = False
    resolution: str = "native"
    speed: bool = True
    pdf: bool = False  # figures as PDF as well
    methods: tuple[str, ...] = ()
    ood: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()


def results_folder(name: str, options: Options) -> Path:
    """Where results go: whole ones in `<name>`, all others in `<name>+<what>`, apart."""
    parts = [folder_name(name)]
    if options.pretrained is not None:
        parts.append(f"pretrained={folder_name(options.pretrained)}")
    if options.resolution != "native":
        parts.append(f"resolution={options.resolution}")
    if options.precision != "32":
        parts.append(f"precision={options.precision}")
    if options.limit is not None:
        parts.append(f"limit={options.limit}")
    if options.limit_train is not None:
        parts.append(f"limit-train={options.limit_train}")
    if options.quick:
        parts.append("quick")
    return options.results / "+".join(parts)
