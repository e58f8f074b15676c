"""Distance to the k-th nearest training image, in the space of normalised features."""

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import torch
from torch import Tensor
from torch.nn.functional import normalize

from methods.base import CannotRun, Count, Features, Method, register
from methods.vectors.layers import vectors

ROWS = 4096  # training rows handed to the index at a time
BLAS_QUERIES = 4  # from so many images on, faiss is to multiply matrices: 5 times as fast for 64 images of 512 numbers


@register("knn")
@dataclass
class KNN(Method):
    """|z' - its k-th nearest neighbour among the training set's z'|, z' = z / |z|: exact search, by faiss.

    z: the `feature`; of "layers" their channels, normalised within each layer as in DLSR.

    On a CUDA device the index lies on the GPU where this faiss has GPU indexes; a failing one is left for the
    CPU, with a warning. CannotRun without faiss, and where k is above the number of training images.
    """

    title = "kNN"
    paper = (
        "Sun et al., Out-of-Distribution Detection with Deep Nearest Neighbors, ICML 2022, "
        "https://arxiv.org/abs/2204.06507"
    )
    reads = ("embedding",)

    k: Count = 50
    feature: Literal["embedding", "logits", "layers"] = "embedding"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.__dict__["reads"] = (self.feature,)  # hides the class's, which is the default's

    def fit(self, train: Features, *, seed: int = 0, device: str = "cpu", workdir: Path | None = None) -> Self:
        rows = vectors(train, self.feature)
        return self._build((normalize(block, dim=1) for block in torch.split(rows, ROWS)), rows.shape, device)

    def _build(self, blocks: Iterable[Tensor], shape: tuple[int, ...], device: str) -> Self:
        try:
            import faiss
        except ImportError as error:
            raise CannotRun('needs faiss: pip install -e ".[cpu]" or, for a GPU, ".[gpu]"') from error
        if self.k > shape[0]:
            raise CannotRun(f"k is {self.k} but there are only {shape[0]} training images: lower k")
        # its own bound, 250 images of 512 numbers, leaves usual batches to the loop for single queries
        faiss.cvar.distance_compute_blas_threshold = min(
            faiss.cvar.distance_compute_blas_threshold, BLAS_QUERIES * shape[1]
        )
        self.index: Any = faiss.IndexFlatL2(shape[1])
        for block in blocks:
            self.index.add(block.cpu().numpy())
        if device.startswith("cuda") and hasattr(faiss, "StandardGpuResources"):
            try:
                number = torch.device(device).index or 0
                on_gpu = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), number, self.index)
                on_gpu.search(self.index.reconstruct_n(0, 1), self.k)  # too large a k shows only here
                self.index = on_gpu
            except RuntimeError as error:
                warnings.warn(f"knn: the GPU index failed, searching on the CPU: {error}", stacklevel=3)
        return self

    def score(self, x: Features) -> Tensor:
        z = normalize(vectors(x, self.feature, x.index.device), dim=1).cpu()
        _, neighbours = self.index.search(z.numpy(), self.k)
        # faiss's |a|^2 + |b|^2 - 2ab rounds small distances away, and differently for small blocks
        farthest: Tensor = torch.from_numpy(self.index.reconstruct_batch(neighbours[:, -1]))
        return torch.sum((z - farthest).square(), dim=1).sqrt().to(x.index.device)

    def state(self) -> dict[str, Tensor]:
        return {"rows": torch.from_numpy(self.index.reconstruct_n(0, self.index.ntotal))}

    def load_state(self, state: Mapping[str, Tensor], *, device: str = "cpu") -> Self:
        return self._build([state["rows"]], state["rows"].shape, device)
