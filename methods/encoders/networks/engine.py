"""An encoder's network on ONNX Runtime: its pass as one graph, held against torch before it is trusted."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from methods.base import CannotRun
from methods.device import exporting
from methods.encoders.networks.one_network import OneNetwork

TOLERANCE = 1e-3  # standard deviations of a feature
_PIXELS = "pixels"


class OnnxRuntime:
    """What `encode_pixels` of an encoder gives, from its graph: float32 (N, 3, R, R) of 0 to 255 in, any N."""

    def __init__(self, graph: bytes) -> None:
        self._session = exporting.session(graph)
        self._names = [output.name for output in self._session.get_outputs()]

    def __call__(self, pixels: Tensor) -> dict[str, Tensor]:
        found = self._session.run(self._names, {_PIXELS: pixels.contiguous().cpu().numpy()})
        return {
            name: torch.from_numpy(values).to(pixels.device) for name, values in zip(self._names, found, strict=True)
        }


def graph_of(encoder: OneNetwork) -> bytes:
    """The graph of all that it offers, once open. CannotRun, in one line, where torch cannot export it."""
    side = encoder.resolution
    pixels = torch.linspace(0, 255, 2 * 3 * side * side).view(2, 3, side, side)
    try:
        names = list(encoder.encode_pixels(pixels))
        model = exporting.exported(_Pass(encoder).eval(), (pixels,), (_PIXELS,), names)
        content: bytes = model.SerializeToString()
    except Exception as error:  # of many kinds, and all mean that there is no graph
        raise CannotRun(f"torch exports no graph of it ({exporting.first_line(error)})") from None
    return content


def held_against_torch(encoder: OneNetwork, graph: bytes, pixels: Tensor) -> tuple[OnnxRuntime, float]:
    """The graph, ready to run, and its largest difference from torch for these images, in standard deviations.

    pixels: as `resized` gives them; also one image alone. CannotRun where it does not run, or is TOLERANCE apart.
    """
    try:
        engine = OnnxRuntime(graph)
        apart = max(_apart(encoder, encoder.encode_pixels(part), engine(part)) for part in (pixels, pixels[:1]))
    except Exception as error:  # of another library, on a graph that nobody has run yet
        raise CannotRun(f"ONNX Runtime does not run its graph ({exporting.first_line(error)})") from None
    if not apart <= TOLERANCE:
        raise CannotRun(f"ONNX Runtime gives features {apart:.2g} of a standard deviation from torch's")
    return engine, apart


def _apart(encoder: OneNetwork, wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> float:
    """The largest difference, each feature and each layer in its own standard deviation; infinite where one is none."""
    if wanted.keys() != found.keys() or any(wanted[name].shape != found[name].shape for name in wanted):
        return float("inf")
    largest = 0.0
    for name in wanted:
        sizes = list(encoder.layer_sizes) if name == "layers" else [wanted[name].shape[1]]
        parts = (torch.split(of[name].double(), sizes, dim=1) for of in (wanted, found))
        for one, other in zip(*parts, strict=True):
            difference = torch.where(one == other, 0.0, (one - other).abs()).max()
            apart = float(difference / one.std(correction=0)) if difference != 0 else 0.0
            largest = max(largest, apart) if apart == apart else float("inf")
    return largest


class _Pass(nn.Module):
    """An encoder behind the resize, as torch.export takes it."""

    def __init__(self, encoder: OneNetwork) -> None:
        super().__init__()
        self._encoder = encoder

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        return tuple(self._encoder.encode_pixels(pixels).values())
