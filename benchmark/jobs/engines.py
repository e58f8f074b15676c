"""On which engine an encoder's network runs here: torch, or ONNX Runtime with a graph that the store keeps.

In no key, like the device: journals, markers and records name it.
"""

import time

import numpy as np
from torch import Tensor

from benchmark.jobs.inputs import EncoderUse, Selection, encode_key
from benchmark.jobs.worker import Engine, Worker
from benchmark.records import throughput
from benchmark.store import keys
from benchmark.store.entries import Store
from datasets.loading import batches
from methods.base import CannotRun
from methods.device import exporting
from methods.encoders.networks import engine as onnx
from methods.encoders.networks.one_network import OneNetwork

TORCH, ONNX = "torch", "onnxruntime"
CHECKED = 16  # images that a new graph is held against torch on
TIMED = CHECKED * 224**2  # pixels of a batch, as the network sees it, that the engines are timed on; CHECKED at least


def take(worker: Worker, use: EncoderUse, images: Selection, begun: str | None = None) -> str | None:
    """Have an encoder run on its engine from now on, and say on which; None where no network runs.

    `begun`: that of what goes on, or of what is measured again. CannotRun where an engine whose features are there
    already does not run here.
    """
    if use.base is not None:
        return behind(worker.store, use.base, images)
    if not use.encoder.runs_network:
        return None
    encoder = worker.open(use)
    if not isinstance(encoder, OneNetwork):
        return TORCH
    choice = worker.engines.get(use.key)
    wanted = begun or use.engine or (choice.name if choice else TORCH)
    encoder.run_on(None)
    if wanted == TORCH:
        return TORCH
    try:
        if choice and choice.if_faster and not begun:
            wanted = _faster(worker, use, encoder, images, choice.if_faster)
            worker.engines = {**worker.engines, use.key: Engine(wanted)}
        if wanted == ONNX:
            encoder.run_on(_graph(worker, use, encoder, images))
    except CannotRun as why:
        if begun or (choice and choice.stands):
            raise CannotRun(
                f"{use.name}: its features here were made by {wanted}, and {why}; another --cache begins anew"
            ) from None
        worker.engines = {**worker.engines, use.key: Engine(TORCH)}  # told once
        worker.say(f"note: {use.name} runs on torch: {why}")
        return TORCH
    return wanted


def take_graph(worker: Worker, use: EncoderUse, graph: bytes, images: Tensor) -> None:
    """Have an encoder run on a graph that lies beside its weights from now on; images: uint8 (N, H, W, 3).

    CannotRun, in one line, where that cannot be here, or does not give what torch gives for these images.
    """
    encoder = worker.open(use)
    if worker.device != "cpu":
        raise CannotRun("it runs on the CPU alone")
    if absent := exporting.missing(ONNX):
        raise CannotRun(f"{absent} is not installed: pip install {absent}")
    if not isinstance(encoder, OneNetwork):
        raise CannotRun(f"it runs no {use.kind}")
    encoder.run_on(onnx.held_against_torch(encoder, graph, encoder.resized([use.shrink(each) for each in images]))[0])


def behind(store: Store, use: EncoderUse, images: Selection) -> str | None:
    """The engine that made stored features of an encoder; None where no network ran."""
    engine: str | None = store.meta("encode", encode_key(use, images)).get("engine")
    return engine


def graph_key(use: EncoderUse) -> str:
    """The key of an encoder's graph: of its weights, and of what exports and runs it."""
    source = keys.source("methods.encoders.networks.engine")
    return keys.digest(what="graph", encoder=use.identity, versions=exporting.versions(), source=source)


def kept(store: Store, use: EncoderUse) -> bytes | None:
    """The graph of an encoder, where the store has one that was held against torch."""
    if not store.has("graph", key := graph_key(use)):
        return None
    arrays = store.arrays("graph", key)
    return arrays["graph"].tobytes() if "graph" in arrays else None


def _faster(worker: Worker, use: EncoderUse, encoder: OneNetwork, images: Selection, machine: str) -> str:
    """The engine that encodes more images a second, timed once for a machine, whichever of its workers does it.

    CannotRun where there is no graph.
    """
    store, key = worker.store, keys.digest(what="faster engine", graph=graph_key(use), machine=machine)
    if not store.has("engine", key):
        with store.lock(key):  # Busy where another process times them: this job is put off
            if not store.has("engine", key):
                graph = _graph(worker, use, encoder, images)
                count = min(worker.batch_size_of(use), max(CHECKED, TIMED // use.resolution**2))
                pixels = _resized(use, encoder, images, count)
                works = {TORCH: lambda: encoder.encode_pixels(pixels), ONNX: lambda: graph(pixels)}
                speeds = throughput.compared(works, len(pixels))
                rates = {name: speed.images_per_second for name, speed in speeds.items()}
                faster = max(rates, key=lambda name: rates[name])
                meta = {"title": f"engine of {use.name}", "engine": faster, "images_per_second": rates}
                store.put("engine", key, meta={**meta, "batch": len(pixels), "machine": machine})
                if faster == TORCH:
                    worker.say(
                        f"note: {use.name} runs on torch, which is faster here: {rates[TORCH]:,.3g} images/s, "
                        f"{rates[ONNX]:,.3g} on ONNX Runtime"
                    )
    chosen: str = store.meta("engine", key)["engine"]
    return chosen


def _resized(use: EncoderUse, encoder: OneNetwork, images: Selection, count: int) -> Tensor:
    """The first of the images, `count` at most, as the network reads them."""
    return encoder.resized(next(batches(images.images, images.rows[:count], count, shrink=use.shrink)).images)


def _graph(worker: Worker, use: EncoderUse, encoder: OneNetwork, images: Selection) -> onnx.OnnxRuntime:
    """CannotRun where there is none: that is kept as well, so that nobody tries again."""
    if absent := exporting.missing(ONNX):
        raise CannotRun(f"{absent} is not installed: {exporting.EXTRA}")
    store, key = worker.store, graph_key(use)
    if not store.has("graph", key):
        with store.lock(key):  # Busy where another process exports it: this job is put off
            if not store.has("graph", key):
                return _made(worker, use, encoder, images)
    if (graph := kept(store, use)) is None:
        raise CannotRun(store.meta("graph", key)["refused"])
    return onnx.OnnxRuntime(graph)


def _made(worker: Worker, use: EncoderUse, encoder: OneNetwork, images: Selection) -> onnx.OnnxRuntime:
    if absent := exporting.missing():
        raise CannotRun(f"{absent} is not installed: {exporting.EXTRA}")
    started = time.perf_counter()
    pixels = _resized(use, encoder, images, CHECKED)
    meta = {"title": f"graph of {use.name}"}
    try:
        graph = onnx.graph_of(encoder)
        engine, apart = onnx.held_against_torch(encoder, graph, pixels)
    except CannotRun as why:
        worker.store.put("graph", graph_key(use), meta={**meta, "refused": str(why)})
        raise
    arrays = {"graph": np.frombuffer(graph, dtype=np.uint8)}
    seconds = time.perf_counter() - started
    worker.store.put("graph", graph_key(use), arrays=arrays, meta={**meta, "apart": apart, "seconds": seconds})
    worker.say(
        f"note: {use.name} exported for ONNX Runtime in {seconds:.0f} s, its features at most {apart:.1g} of a "
        "standard deviation from torch's"
    )
    return engine
