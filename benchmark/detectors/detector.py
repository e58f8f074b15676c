"""A row as it is taken home: an encoder, a fitted method, and the scores of the ID calibration images."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor

import methods
from benchmark.detectors import folder as saved_folder
from benchmark.detectors.examples import colours, numbers
from benchmark.detectors.verdicts import ACCEPT, Scores, accepted, p_values, share
from benchmark.jobs import engines
from benchmark.jobs.inputs import EncoderUse
from benchmark.jobs.scoring import Score
from benchmark.jobs.worker import Worker
from benchmark.records import provenance
from benchmark.store.entries import Store
from datasets.features import FeatureFile
from datasets.files import read_regular
from datasets.images import decode
from datasets.walking import printable
from methods.base import NAMES, CannotRun, Features, Head, Method, hyperparameters
from methods.device import exporting, tensors
from methods.device.memory import out_of_memory
from methods.encoders import registry
from methods.encoders.base import class_of

CHECKS = "checks.safetensors"
METHOD = "method.safetensors"
GRAPH = "encoder.onnx"
TOLERANCE = 1e-5  # of the calibration scores' deviation: what is told


@dataclass(frozen=True, eq=False)
class Detector:
    """Scores images, or features, as the row that it was made of does; greater = more out-of-distribution.

    `about`: what `detector.json` says beside encoders, method and files. `calibration`: (n,) ascending. `graph`: of the
    encoder's network, where the row's features were made by ONNX Runtime.
    """

    about: Mapping[str, Any]
    use: EncoderUse
    method: Method
    method_name: str
    calibration: Scores
    worker: Worker
    graph: bytes | None = None

    def __call__(self, images: Any, *, accept: str | float = ACCEPT) -> pd.DataFrame:
        """`score`, `p_value` and `accepted` of each image, a row each.

        images: uint8 (N, H, W, 3), or a sequence of uint8 (H, W, 3) and of files; of a detector on a network that was
        given as an object, tensors as that network reads them (N, ...); of one on features a mapping
        of arrays (`embedding`, `logits`, `layers`) or their file. p = (1 + calibration scores >= score) / (n + 1);
        accepted: p > 1 - accept / 100. ValueError for a share that the calibration images are too few for.
        """
        share(accept, len(self.calibration))
        scores = self.scores(images)
        verdicts = pd.array(accepted(self.calibration, scores, accept), dtype="boolean")
        verdicts[np.isnan(scores)] = pd.NA
        return pd.DataFrame({"score": scores, "p_value": p_values(self.calibration, scores), "accepted": verdicts})

    def scores(self, images: Any) -> Scores:
        """The score (N,) float64 of each image; as above."""
        found = [self.of(block).numpy() for block in self._blocks(images)]
        return np.concatenate(found).astype(np.float64) if found else np.empty(0)

    def of(self, x: Features) -> Tensor:
        """The scores (N,) of features as the encoder gives them, all with the noise of index 0; on the CPU."""
        return Score.scored(self.method, replace(x, index=torch.zeros_like(x.index)), self.worker)

    @property
    def of_features(self) -> bool:
        """Whether it reads features, not images."""
        return self.use.chain[0].encoder.of_files

    def _blocks(self, images: Any) -> Iterator[Features]:
        if self.of_features:
            yield from self._given(images)
            return
        first = self.use.chain[0]
        size = self.worker.batch_size_of(first)
        if isinstance(images, str | Path):
            images = [images]
        if not isinstance(images, Sequence | Tensor | np.ndarray):
            raise ValueError(f"{type(images).__name__}: {first.name} takes {first.encoder.takes}")
        for start in range(0, len(images), size):
            shrunk = [self.use.shrink(_image(image)) for image in images[start : start + size]]
            try:
                yield self.encode(torch.stack(shrunk) if len({image.shape for image in shrunk}) == 1 else shrunk)
            except RuntimeError as error:
                if not first.encoder.is_given or out_of_memory(error):
                    raise
                shapes = ", ".join(sorted({f"{image.dtype} {tuple(image.shape)}" for image in shrunk}))
                raise ValueError(
                    f"{first.name} takes {first.encoder.takes}, no images of {shapes}: {exporting.first_line(error)}"
                ) from None

    def encode(self, images: Tensor | list[Tensor]) -> Features:
        """Features of images that `use.shrink` has seen."""
        return self.features(self.worker.encode(self.use.chain[0], images))

    def features(self, out: dict[str, Tensor], made: type[Features] = Features) -> Features:
        """The features that the method reads, from what the first encoder gave; the rest of the chain is run."""
        head: Head | None = None
        sizes: tuple[int, ...] = ()
        found: dict[str, Tensor] = {}
        extra_sizes: dict[str, tuple[int, ...]] = {}
        for place, link in enumerate(self.use.chain):
            encoder = self.worker.open(link)
            found |= encoder.encode(found["embedding"]) if place else out
            sizes = encoder.layer_sizes or sizes
            extra_sizes |= encoder.extra_sizes
            head = encoder.head or head
            if link.no_head:
                head = None
                found.pop("logits", None)
        first = next(iter(found.values()))
        index = first.new_zeros(first.shape[0], dtype=torch.int64)
        there: dict[str, Any] = {name: found.pop(name) for name in NAMES if name in found}
        return made(**there, layer_sizes=tuple(sizes), head=head, index=index, extras=found, extra_sizes=extra_sizes)

    def _given(self, features: Any) -> Iterator[Features]:
        reader: Any = self.worker.open(self.use.chain[0])
        if isinstance(features, str | Path):
            blocks: Iterable[Mapping[str, Any]] = FeatureFile.of(Path(features)).blocks()
        elif isinstance(features, Features):
            there = {name: getattr(features, name) for name in NAMES}
            blocks = [{name: values for name, values in there.items() if values is not None}]
        elif isinstance(features, Mapping):
            blocks = [{name: torch.as_tensor(values) for name, values in features.items()}]
        else:
            raise ValueError("it reads features: a mapping of arrays (embedding, logits, layers), or their file")
        for block in blocks:
            yield self.features(reader.given(block))

    def save(self, folder: str | Path, *, onnx: bool = False) -> None:
        """Write it into a folder of its own, which is replaced where it is there.

        `onnx`: with an ONNX file. CannotRun, in one line, where it cannot be kept, or (it is saved then) has no graph.
        """
        from safetensors.torch import save

        kept: list[tuple[str, dict[str, Tensor], dict[str, str]]] = []
        without: list[CannotRun] = []

        def linked(link: EncoderUse) -> dict[str, Any]:
            below = {} if link.of is None else {"of": linked(link.of)}
            encoder = self.worker.open(link)
            weights, header = encoder.weights()
            if not _is_json(encoder.built_from):
                raise CannotRun(
                    f"{link.name} is an object of this process, which no folder can hold: save its weights, and give "
                    "it by name (--network NAME --checkpoint FILE)"
                )
            name = f"encoder{len(kept) or ''}.safetensors" if weights else None
            kept.extend([(name, weights, header)] if name else [])
            part = {"name": link.name, "title": link.title, "kind": link.kind, "no_head": link.no_head}
            graph = GRAPH if self.graph is not None and link == self.use.chain[0] else None
            engine = {"engine": engines.ONNX if graph else engines.TORCH, "graph": graph}
            return {**part, **below, "settings": encoder.built_from, "weights": name, **engine}

        links = [linked(link) for link in self.use.chain]
        state = self.method.state()
        kept += [(METHOD, state, {})] if state else []
        inputs = self._examples()
        kept.append((CHECKS, {**inputs, "scores": torch.from_numpy(self._checked(inputs))}, {}))

        def make(where: Path) -> None:
            for name, values, header in kept:
                own = {key: value.detach().cpu().contiguous().clone() for key, value in values.items()}
                (where / name).write_bytes(save(own, header))
            if self.graph is not None:
                (where / GRAPH).write_bytes(self.graph)
            if onnx:
                from benchmark.detectors import graph

                try:
                    graph.export(self, where / "detector.onnx")
                except CannotRun as why:
                    without.append(why)

        about = {
            **self.about,
            "match": self.use.chain[0].match,
            "encoders": links,
            "method": {
                "name": self.method_name,
                "title": self.method.title,
                "settings": {name: getattr(self.method, name) for name in hyperparameters(self.method)},
                "state": METHOD if state else None,
            },
            "calibration": {**self.about["calibration"], "scores": self.calibration.tolist()},
            "checks": CHECKS,
        }
        saved_folder.write(Path(folder), about, make)
        if without:
            raise CannotRun(f"saved, without an ONNX file: {without[0]}")

    @classmethod
    def load(cls, folder: str | Path, *, device: str = "cpu") -> Self:
        """The detector in a folder that `save` wrote, on `device`. ValueError, in one line, where it does not verify.

        That it computes otherwise than where it was made, or that this is another machine, is said on stderr.
        """
        here = Path(folder)
        saved, about = saved_folder.read(here)
        worker = Worker(Store(here), device=device)
        try:
            use = _use(here, saved)
            method = methods.create(saved.method.name, **saved.method.settings)
            if saved.method.state is not None:
                method.load_state(tensors.read(here / saved.method.state, saved_folder.MOST)[0], device=device)
            scores = np.array(saved.calibration.scores, dtype=np.float64)
            if np.isnan(scores).any() or (np.diff(scores) < 0).any():
                raise ValueError("its calibration scores do not ascend")
            detector = cls(about, use, method, saved.method.name, scores, worker)
            checks = tensors.read(here / saved.checks, saved_folder.MOST)[0]
            before = checks.pop("scores").double().numpy()
            apart = detector._apart(before, detector._checked(checks))
            if (file := saved.encoders[0].graph) is not None:
                graph = read_regular(here / file, saved_folder.MOST)
                detector = replace(detector, graph=graph)
                try:
                    engines.take_graph(worker, use.chain[0], graph, checks["images"])
                except CannotRun as why:
                    worker.say(f"note: {here}: made with ONNX Runtime, it scores with torch: {why}")
        except Exception as error:  # settings and tensors that nobody vouches for make a network raise anything
            said = " ".join(str(error).split()) or type(error).__name__
            raise ValueError(f"{here} does not fit this version: {said:.300}") from None
        for note in _elsewhere(saved.made):
            worker.say(f"note: {here}: {note}")
        if apart > TOLERANCE:
            worker.say(
                f"note: {here}: its {len(before)} inputs score up to {apart:.2g} of the calibration scores' deviation "
                "otherwise here than where it was made"
            )
        return detector

    def _checked(self, inputs: Mapping[str, Tensor]) -> Scores:
        return self.scores(inputs if self.of_features else inputs["images"])

    def _apart(self, before: Scores, now: Scores) -> float:
        """The largest difference of scores, in deviations of the calibration scores."""
        with np.errstate(invalid="ignore"):
            apart = np.where(before == now, 0, np.abs(before - now)).max(initial=0)
        return float(apart / self.spread)

    @cached_property
    def spread(self) -> float:
        """The standard deviation of the finite calibration scores; 1 where they are all alike."""
        finite = self.calibration[np.isfinite(self.calibration)]
        return float(finite.std()) if len(finite) and finite.std() > 0 else 1.0

    def _examples(self) -> dict[str, Tensor]:
        """Eight inputs that belong to nobody: blurred colours at the encoder's size; of features, numbers."""
        if self.of_features:
            return numbers(self.use.chain[0].encoder)
        return {"images": colours(8, self.use.chain[0].resolution, seed=0)}


def _image(image: Any) -> Tensor:
    if isinstance(image, str | Path):
        return torch.from_numpy(decode(Path(image), printable(image)))
    return torch.as_tensor(image if isinstance(image, Tensor) else np.array(image))


def _is_json(settings: Mapping[str, Any]) -> bool:
    try:
        json.dumps(settings)
    except TypeError:
        return False
    return True


def _use(folder: Path, saved: saved_folder.Saved) -> EncoderUse:
    use: EncoderUse | None = None
    registry.names()  # all are there
    for link in saved.encoders:
        match = saved.match if use is None else None
        of = None if link.of is None else _use_of(folder, link.of, match=match)
        use = _use_of(folder, link, match=match, base=use, of=of)
    assert use is not None
    return use


def _use_of(folder: Path, part: saved_folder.Part, **beside: Any) -> EncoderUse:
    # before it is made: some settings name a file
    if refused := part.settings.keys() - class_of(part.kind, part.settings).building():
        raise ValueError(f"the encoder {part.kind} is not built from {', '.join(sorted(refused))}")
    weights = None if part.weights is None else folder / part.weights
    return EncoderUse(part.name, part.kind, part.settings, part.title, weights, no_head=part.no_head, **beside)


def _elsewhere(made: Mapping[str, Any]) -> Iterator[str]:
    """What differs between the machine that it was made on and this one, for people."""
    here = provenance.machine()
    then = made.get("versions")
    versions = [
        f"{name} {then[name]!s:.20} (here {here['versions'].get(name, 'absent')})"
        for name in ("torch", "timm", "numpy", "Pillow")
        if isinstance(then, Mapping) and name in then and then[name] != here["versions"].get(name)
    ]
    if versions:
        yield f"made with {', '.join(versions)}"
    if made.get("cpu") != here["cpu"]:
        yield f"made on {made.get('cpu')!s:.60}, this is {here['cpu']}"
