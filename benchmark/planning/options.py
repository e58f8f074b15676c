"""What the command line says beside the suite, and the folder that results made with it go to."""

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmark.jobs.inputs import SHARD
from benchmark.planning.suite import UsageError
from benchmark.records import records
from benchmark.records.names import folder_name
from methods.device import precision


@dataclass(frozen=True)
class Options:
    """What the command line says beside the suite."""

    data: Path
    weights: Path
    results: Path
    cache: Path
    device: str = "cpu"
    batch_size: int | None = None  # None: auto, by the device and the size of the images
    shard: int = SHARD  # images of one encode job at most
    asked: str | None = None  # the precision that was typed; None: what the device has
    precision: str = "32"  # what that comes to
    pretrained: str | None = None
    network: Mapping[str, Any] | None = None  # settings of the encoder of that kind
    limit: int | None = None
    limit_train: int | None = None
    quick: bool = False
    resolution: str = "native"
    speed: bool = True
    pdf: bool = False  # figures as PDF as well
    counted: bool = False  # sets that are absent are taken as the catalogue counts them: nothing is run
    methods: tuple[str, ...] = ()
    ood: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    sweeps: tuple[str, ...] = ()
    searched: str | None = None  # the set that hyper-parameters are chosen on; "": the one of the suite's protocol


def device_of(name: str) -> str:
    """The device that is meant; UsageError where it is not there."""
    import torch

    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return "cpu"
    if name == "auto":
        name = "cuda"
    if name.partition(":")[0] in ("mps", "xpu"):
        raise UsageError(f"--device {name}: not supported; valid are auto, cpu, cuda and cuda:0, cuda:1, ...")
    if not re.fullmatch(r"cuda(:[0-9]{1,4})?", name):
        raise UsageError(f"--device {name}: valid are auto, cpu, cuda and cuda:0, cuda:1, ...")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if int(name.partition(":")[2] or 0) >= count:
        raise UsageError(f"--device {name}: there are {count} GPUs here; --device cpu runs without one")
    if name == "cuda" and count > 1:
        print(f"note: there are {count} GPUs here; a run takes one (--device cuda:1 is the next)", file=sys.stderr)
    return name


def resolved(asked: str | None, device: str, *, runs: bool, every: bool = False) -> str:
    """The precision that a run on `device` takes; UsageError, in one line, for one that the device does not have.

    `every`: on all GPUs here, where a cluster lends a job any of them.
    What runs nothing takes each record's own, wherever that was measured: what is asked for then names a folder.
    """
    if not runs:
        return asked or "32"
    try:
        return precision.resolve(asked or "auto", device, every=every)
    except ValueError as error:
        raise UsageError(f"--{error}") from None


def as_recorded(folder: Path, options: Options) -> Options:
    """The options with the precision of the newest record in a results folder."""
    found = records.load(folder)[0]
    dated = [(record["provenance"]["date"], record["precision"]) for record in found if _tells(record)]
    return replace(options, precision=max(dated)[1]) if dated else options


def _tells(record: records.Record) -> bool:
    return record["status"] == "done" and record.get("precision") is not None


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
    if options.asked is not None:
        parts.append(f"precision={options.asked}")
    if options.limit is not None:
        parts.append(f"limit={options.limit}")
    if options.limit_train is not None:
        parts.append(f"limit-train={options.limit_train}")
    if options.quick:
        parts.append("quick")
    return options.results / "+".join(parts)
