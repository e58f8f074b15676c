"""What the command line says beside the suite, and the folder that results made with it go to."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.records.names import folder_name


@dataclass(frozen=True)
class Options:
    """What the command line says beside the suite."""

    data: Path
    weights: Path
    results: Path
    cache: Path
    device: str = "cpu"
    batch_size: int = 64
    precision: str = "32"
    pretrained: str | None = None
    network: Mapping[str, Any] | None = None  # settings of the encoder of that kind
    limit: int | None = None
    limit_train: int | None = None
    quick: bool = False
    resolution: str = "native"
    speed: bool = True
    pdf: bool = False  # figures as PDF as well
    methods: tuple[str, ...] = ()
    ood: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()


def results_folder(name: str, options: Options, *, own: bool = False) -> Path:
    """Where results go: whole ones in `<name>`, all others in `<name>+<what>`, apart.

    own: of a folder of the user's, whose whole result is that of the user's network.
    """
    parts = [folder_name(name)]
    if options.pretrained is not None:
        parts.append(f"pretrained={folder_name(options.pretrained)}")
    if options.network is not None and not own:
        parts.append(f"network={folder_name(options.network['network'])}")
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
