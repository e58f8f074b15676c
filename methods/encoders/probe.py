"""A linear classifier on another encoder's embedding: logits, a head and an accuracy for a frozen network."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional
from tqdm.auto import tqdm

from methods.base import Count, Features, Head, NotNegative
from methods.device.precision import switches
from methods.encoders.base import Encoder, Images, register
from methods.encoders.networks import checkpoints


@register("probe")
@dataclass
class Probe(Encoder):
    """Multinomial logistic regression on the `embedding` of the encoder called `base`.

    `encode` takes that embedding (N, D), not images, and returns {"logits"}; the probe's embedding is its
    base's. Minimises mean cross-entropy + weight_decay / 2 * |W|^2 over standardised features (L-BFGS, the
    whole training set at once, from zero: no seed matters); W and b are returned for the features as they
    are, so that logits = embedding @ W.T + b. The cheap form of a fine-tuned classifier on a frozen network
    (Alain & Bengio 2017).

    weight_decay comes from held-out training images of CIFAR-10 and CIFAR-100, where 1e-3 to 1e-1 lie within
    a point of accuracy; at 1e-2, 100 iterations converge.
    """

    title = "linear probe"
    paper = "Alain & Bengio, Understanding intermediate layers using linear classifier probes, https://arxiv.org/abs/1610.01644"
    learns = "embedding"
    runs_network = False  # one linear layer, in strict float32 whatever made the embedding

    base: str = ""
    weight_decay: NotNegative = 1e-2
    iterations: Count = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.base:
            raise ValueError("probe: `base` names the encoder whose embedding it reads")
        self._device = "cpu"
        self._head: Head | None = None

    @property
    def offers(self) -> tuple[str, ...]:
        return ("logits",)

    @property
    def resolution(self) -> int:
        """0: it never sees an image."""
        return 0

    @property
    def head(self) -> Head | None:
        return None if self._head is None else self._head.to("cpu")

    def open(self, weights: Path | None, *, device: str = "cpu", precision: str = "32") -> Self:
        self._device = device
        if weights is not None:
            self._head = checkpoints.read_head(weights)[0].to(device)
        return self

    def weights(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        return self.state(), {}

    def fit(self, train: Features, *, seed: int = 0, device: str = "cpu", workdir: Path | None = None) -> Self:
        """Train on `embedding` and labels; CannotRun without labels."""
        embedding, labels = train.need("embedding").to(device), train.need_labels().to(device)
        std, mean = torch.std_mean(embedding, 0, correction=0)
        scale = std.clamp_min(1e-6 * std.max().clamp_min(1e-6))  # a constant feature says nothing, and stays finite
        x = (embedding - mean) / scale
        classes = max(2, int(labels.max()) + 1)
        weight = torch.zeros((classes, x.shape[1]), device=device, requires_grad=True)
        bias = torch.zeros(classes, device=device, requires_grad=True)
        optimizer = torch.optim.LBFGS(
            [weight, bias],
            max_iter=self.iterations,
            tolerance_grad=1e-6,
            tolerance_change=1e-10,
            history_size=10,
            line_search_fn="strong_wolfe",
        )
        with (
            torch.enable_grad(),
            switches("32", device),
            tqdm(desc=f"probe on {self.base}", unit="pass", delay=2) as bar,
        ):

            def objective() -> Tensor:
                optimizer.zero_grad()
                loss = functional.cross_entropy(functional.linear(x, weight, bias), labels)
                loss = loss + self.weight_decay / 2 * weight.square().sum()
                loss.backward()  # type: ignore[no-untyped-call]
                bar.update()
                return loss

            optimizer.step(objective)  # type: ignore[no-untyped-call]
        with torch.no_grad():
            folded = weight / scale
            self._head = Head(folded, bias - folded @ mean).to(self._device)
        return self

    def encode(self, images: Images) -> dict[str, Tensor]:
        """`images` is the base's embedding (N, D) here."""
        if self._head is None:
            raise RuntimeError("fit the probe before encode")
        if not isinstance(images, Tensor) or images.ndim != 2:
            raise ValueError("a probe reads its base's embedding (N, D), not images")
        with torch.inference_mode():
            return {"logits": self._head(images.to(self._device, torch.float32))}

    def state(self) -> dict[str, Tensor]:
        return {} if self._head is None else {"weight": self._head.weight.cpu(), "bias": self._head.bias.cpu()}

    def load_state(self, state: Mapping[str, Tensor]) -> Self:
        self._head = Head(state["weight"], state["bias"]).to(self._device)
        return self
