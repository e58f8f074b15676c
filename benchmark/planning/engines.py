"""Which engine the encoders of a plan run on: chosen once for each, before anything is encoded.

What stands in the store decides before all else, so that no record joins two engines.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

from benchmark.jobs.base import Job, walk
from benchmark.jobs.encoding import Encode, TrainEncoder
from benchmark.jobs.engines import ONNX, TORCH
from benchmark.jobs.fitting import FitMethod
from benchmark.jobs.inputs import EncoderUse
from benchmark.jobs.scoring import Score
from benchmark.jobs.worker import Engine
from benchmark.planning.suite import UsageError
from benchmark.records.throughput import describe_device
from benchmark.store import chunks
from benchmark.store.entries import Store
from methods.device import exporting
from methods.encoders.networks.one_network import OneNetwork

Asked = Literal["torch", "onnxruntime", "auto"]
# Export in seconds by what an image is encoded faster on two cores, times that side: .05 to .33 x 10^6 (ResNet-18, -50,
# B4, Lite0), .46 x 10^6 (DenseNet-BC at 32). ResNet-20 and ViT-S may gain nothing, which only trying them tells.
PAYS = 500_000  # images x the side at which the network sees them


def resolved(asked: Asked, device: str, precision: str) -> Asked:
    """What is meant where it can be had: "auto" is torch on a GPU, in bf16, and without the extra `onnx`.

    UsageError, in one line, where ONNX Runtime is asked for and cannot be had.
    """
    if asked == TORCH:
        return asked
    absent = exporting.missing()
    why = f"it needs {absent}: {exporting.EXTRA}" if absent else ""
    why = "it computes in float32: --precision 32" if precision != "32" else why
    why = "it runs on the CPU: --device cpu" if device != "cpu" else why
    if why and asked == ONNX:
        raise UsageError(f"--engine {ONNX}: {why}")
    return "torch" if why else asked


def pays(images: int, side: int) -> bool:
    """Whether so many images, seen by the network with this side in pixels, are worth an export."""
    return images * side >= PAYS


@dataclass
class _Passes:
    """An encoder's passes in a plan: how many images each has, by its key; `stands`: the engine of what there is."""

    use: EncoderUse
    images: dict[str, int] = field(default_factory=dict)
    stands: str | None = None


def chosen(
    targets: Iterable[Job], store: Store, asked: Asked, say: Callable[[str], None] = lambda line: None
) -> dict[str, Engine]:
    """The engine of each encoder, by its key, for what a run is to make. `asked`: as `resolved` gives it.

    "auto" is ONNX Runtime where the images, all that the plan has for the encoder, pay for the export, and where it
    is the faster of the two here: the first worker that opens the encoder times both, for all.
    """
    found: dict[str, _Passes] = {}
    for job in walk(targets):
        passes = _reads(job)
        if not passes or not isinstance((use := passes[0].use).encoder, OneNetwork):
            continue
        of = found.setdefault(use.key, _Passes(use))
        if passes[0].images.span is None:  # a shard's images are its pass's
            of.images[passes[0].key] = len(passes[0].images.rows)
        of.stands = of.stands or _standing(job, store)
    engines = {}
    for key, of in found.items():
        if of.stands is not None:
            if asked not in ("auto", of.stands):
                say(
                    f"note: --engine {asked}: {of.use.name} goes on with {of.stands}, which made what the store holds "
                    "of it; another --cache begins anew"
                )
            engines[key] = Engine(of.stands, stands=True)
        elif asked == ONNX:
            engines[key] = Engine(ONNX)
        elif asked == "auto" and pays(sum(of.images.values()), of.use.resolution):
            engines[key] = Engine(ONNX, if_faster=describe_device("cpu"))
    return engines


def _reads(job: Job) -> tuple[Encode, ...]:
    """The passes, first that over images, that a job is or that it was made of."""
    if isinstance(job, Encode):
        return (job,) if job.use.base is None else ()
    if isinstance(job, TrainEncoder):
        return tuple(need for need in job.needs if isinstance(need, Encode))
    return job.train if isinstance(job, FitMethod) else job.images if isinstance(job, Score) else ()


def _standing(job: Job, store: Store) -> str | None:
    """The engine behind what the store holds of a job, or behind the part of it that was begun."""
    try:
        meta = store.meta(job.kind, job.key)
    except FileNotFoundError:
        return chunks.begun(store, job.kind, job.key).get("engine") if isinstance(job, Encode) else None
    found: str | None = meta.get("engine") or (meta.get("encode") or {}).get("engine")
    return found
