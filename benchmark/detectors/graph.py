"""A detector as one ONNX file: from uint8 images of the encoder's size to `score`, `p_value` and `accepted`.

torch.export sees the very code that scores; what it cannot follow is not arithmetic, and the row says so.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmark.detectors.examples import colours
from benchmark.detectors.verdicts import ACCEPT, share
from methods.base import CannotRun, Features
from methods.device import exporting
from methods.vectors.neighbours import Neighbours

if TYPE_CHECKING:  # which imports this file
    from benchmark.detectors.detector import Detector

ROWS = 50_000  # of a bank of neighbours: more do not belong into a file
TOLERANCE = 1e-4  # of the scores' spread
FLOAT32 = 1e-6  # what a sum in float32 keeps of a number
_BATCHES = (1, 2, 7)


def export(detector: "Detector", path: Path) -> None:
    """Write the file, and hold it against the detector on other images. CannotRun, in one line, where it cannot be."""
    if absent := exporting.missing():
        raise CannotRun(f"--onnx needs {absent}: {exporting.EXTRA}")
    import onnx

    if detector.of_features or (
        not detector.use.chain[0].encoder.runs_network and detector.use.chain[0].kind != "pixels"
    ):
        raise CannotRun("--onnx: the graph starts at images, and this detector reads features")
    if detector.worker.device != "cpu":
        raise CannotRun("--onnx: on the CPU alone: --device cpu")
    graph = _Graph(detector).eval()
    size = detector.use.chain[0].resolution
    try:
        with torch.no_grad():
            graph.score(colours(2, size, seed=0))
    except CannotRun as why:
        raise CannotRun(f"--onnx: {detector.method.title}: {why}") from None
    try:
        model = _exported(graph, size)
    except CannotRun:
        raise
    except Exception as error:  # of many kinds, and all mean that there is no graph
        raise CannotRun(
            f"--onnx: {detector.method.title}: no graph of plain arithmetic ({exporting.first_line(error)})"
        ) from None
    try:
        session = exporting.session(model.SerializeToString())
        apart = max(_apart(session, graph, colours(n, size, seed=n), detector.spread) for n in _BATCHES)
    except Exception as error:
        raise CannotRun(
            f"--onnx: {detector.method.title}: onnxruntime cannot run its graph ({exporting.first_line(error)})"
        ) from None
    if not apart <= (most := tolerance(detector)):
        raise CannotRun(
            f"--onnx: {detector.method.title}: the graph's scores differ by {apart:.2g} of their spread, more than "
            f"{most:.2g}"
        )
    if apart > TOLERANCE:
        detector.worker.say(
            f"note: {detector.method.title}: the scores of its graph differ by up to {apart:.2g} of their spread: they "
            "are nearly alike"
        )
    for name, value in {**_metadata(detector, size), "differs": f"{apart:.2g} of the scores' spread at most"}.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = name, value
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())


def tolerance(detector: "Detector") -> float:
    """By how much the graph's scores may differ, in their spread: 1e-4, and where they are nearly alike up to 1e-3.

    A float32 score is no better than about a millionth of itself: of a hardly trained DLSR, whose scores are 1 +- .001,
    torch and onnxruntime lie as far from float64 as from each other, 5 units in the last place, and 2e-4 of the spread.
    """
    largest = np.abs(detector.calibration[np.isfinite(detector.calibration)]).max(initial=0)
    return max(TOLERANCE, min(FLOAT32 * float(largest) / detector.spread, 10 * TOLERANCE))


class _Graph(nn.Module):
    """The detector behind the resize; (N, H, W, 3) uint8 -> score (N,), p_value (N,), accepted (N,)."""

    calibration: Tensor

    def __init__(self, detector: "Detector") -> None:
        super().__init__()
        self.detector, self.method = detector, _plain(detector.method)
        self.register_buffer("calibration", torch.from_numpy(detector.calibration.copy()))
        self.left = 1 - share(ACCEPT, len(detector.calibration)) if _carries(detector) else None

    def forward(self, images: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        score = self.score(images)
        as_high = (self.calibration[None] >= score.double()[:, None]).sum(dim=1)
        p_value = (1 + as_high).double() / (len(self.detector.calibration) + 1)
        by_rank = torch.ones_like(as_high, dtype=torch.bool)
        if self.left is not None:
            by_rank = (1 + as_high) * self.left.denominator > self.left.numerator * (len(self.detector.calibration) + 1)
        return score, p_value, (threshold.isnan() & by_rank) | (score.double() <= threshold)

    def score(self, images: Tensor) -> Tensor:
        encoder = self.detector.worker.open(self.detector.use.chain[0])
        if self.detector.use.chain[0].kind == "pixels":
            out = {"pixels": images}
        else:
            out = encoder.encode_pixels(images.permute(0, 3, 1, 2).float())
        scores: Tensor = self.method.score(self.detector.features(out, _Whole))
        return scores


class _Whole(Features):
    """Features that are one block, whatever their number, which is not asked for."""

    def __post_init__(self) -> None: ...

    def blocks(self, rows: int) -> Iterator[Features]:
        yield self


class _Bank(nn.Module):
    """The arithmetic of `Neighbours`: all distances, in float64."""

    def __init__(self, rows: Tensor) -> None:
        super().__init__()
        self.rows = rows.double()
        self.squares = self.rows.square().sum(dim=1)

    def __len__(self) -> int:
        return len(self.rows)

    def search(self, x: Tensor, k: int) -> tuple[Tensor, Tensor]:
        x = x.double()
        squares = x.square().sum(dim=1, keepdim=True) + self.squares - 2 * (x @ self.rows.T)
        nearest, index = squares.topk(k, dim=1, largest=False)
        return nearest.clamp_min(0).sqrt(), index

    def kth(self, x: Tensor, k: int) -> Tensor:
        return self.search(x, k)[0][:, -1]


def _plain(method: Any) -> Any:
    """A copy whose parts are tensors and numbers: no search for neighbours, and no whole numbers in tensors."""
    method = method.before_export()
    method.__dict__.pop("_device", None)
    for name, value in vars(method).items():
        if isinstance(value, Neighbours):
            if len(value) > ROWS:
                raise CannotRun(f"--onnx: {method.title} keeps {len(value):,} rows; at most {ROWS:,} go into a file")
            setattr(method, name, _Bank(value.rows))
        elif isinstance(value, Tensor) and not value.is_floating_point() and value.ndim < 2:
            setattr(method, name, value.numpy())
        elif isinstance(value, list) and value and hasattr(value[0], "score"):
            setattr(method, name, [_plain(part) for part in value])
    return method


def _searchsorted(edges: Tensor, values: Tensor, *, right: bool = False, **others: Any) -> Tensor:
    """How many edges lie below each value, or up to it: what ONNX has no operation for."""
    edges, values = edges[..., None, :] if edges.ndim > 1 else edges, values[..., None]
    return (edges <= values if right else edges < values).sum(dim=-1)


def _kthvalue(values: Tensor, k: int, dim: int = -1, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    """The largest of the k smallest."""
    found = values.topk(k, dim=dim, largest=False)
    kth = [part.narrow(dim, k - 1, 1) for part in found]
    return (kth[0], kth[1]) if keepdim else (kth[0].squeeze(dim), kth[1].squeeze(dim))


def _sort(values: Tensor, *, stable: bool | None, dim: int = -1, descending: bool = False) -> tuple[Tensor, Tensor]:
    """All of them, as TopK has them: of equal ones the first comes first."""
    found = values.topk(values.shape[dim], dim=dim, largest=descending)
    return found.values, found.indices


def _argsort(values: Tensor, *, stable: bool, dim: int = -1, descending: bool = False) -> Tensor:
    return _sort(values, stable=stable, dim=dim, descending=descending)[1]


_PLAIN: dict[Any, Any] = {
    torch.ops.aten.searchsorted.Tensor: _searchsorted,
    torch.ops.aten.kthvalue.default: _kthvalue,
    torch.ops.aten.sort.stable: _sort,
    torch.ops.aten.argsort.stable: _argsort,
}


def _exported(graph: _Graph, size: int) -> Any:
    nan = torch.tensor(float("nan"), dtype=torch.float64)
    inputs, outputs = ("images", "threshold"), ("score", "p_value", "accepted")
    model = exporting.exported(graph, (colours(2, size, seed=0), nan), inputs, outputs, plain=_PLAIN)
    given = model.graph.initializer.add()  # an input with a value is one that may be left out
    from onnx import numpy_helper

    given.CopyFrom(numpy_helper.from_array(nan.numpy(), "threshold"))
    return model


def _metadata(detector: "Detector", size: int) -> dict[str, str]:
    about = detector.about
    return {
        "row": str(about["row"]),
        "preprocessing": json.dumps([shrinking.described() for shrinking in detector.use.shrinking]),
        "size": str(size),
        "thresholds": json.dumps({percent: cell["threshold"] for percent, cell in about["thresholds"].items()}),
        "threshold": json.dumps(about["thresholds"].get(ACCEPT, {}).get("threshold")),
        "accepted": (
            f"p_value > 1 - {ACCEPT} / 100, or score <= threshold where that is given"
            if _carries(detector)
            else f"too few calibration images for {ACCEPT} %: give a threshold"
        ),
        "p_value": "(1 + calibration scores >= score) / (n + 1)",
        "before": (
            "decode to RGB; resize as `preprocessing` says (antialiased); the centre, size x size; round to uint8 (the "
            "detector itself does not round where it enlarges)"
        ),
    }


def _carries(detector: "Detector") -> bool:
    try:
        share(ACCEPT, len(detector.calibration))
    except ValueError:
        return False
    return True


def _apart(session: Any, graph: _Graph, images: Tensor, spread: float) -> float:
    with torch.no_grad():
        wanted = graph.score(images).double().numpy()
    found = session.run(["score"], {"images": images.numpy()})[0].astype(np.float64)
    if found.shape != wanted.shape:
        return float("inf")
    return float(np.where(found == wanted, 0, np.abs(found - wanted)).max() / spread)
