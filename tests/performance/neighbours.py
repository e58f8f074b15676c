"""kNN over 10^4 to 10^6 neighbours (reduced: 10^5), against a plain matrix product with top-k of the same rows.

faiss: its k nearest, as it finds them, without exact distances, and without order among those that rounding hides.
"""

from collections.abc import Callable
from functools import partial
from statistics import median

import faiss
import torch
from torch.nn.functional import normalize

import methods
from methods.base import Features
from tests.performance import paired

WIDTH, K = 512, 50


def main() -> None:
    given = paired.arguments(__doc__)
    rows, ratios = [], {}
    for count in (10_000, 100_000, *((1_000_000,) if given.full else ())):
        generator = torch.Generator().manual_seed(0)
        train = torch.randn(count, WIDTH, generator=generator).relu_()
        knn = methods.create("knn", k=K).fit(Features(embedding=train), device=given.device)
        directions = normalize(train, dim=1).to(given.device)
        for queries in (64, 1024):
            x = Features(embedding=torch.randn(queries, WIDTH, generator=generator).relu_()).to(given.device)

            def plain(x: Features = x, directions: torch.Tensor = directions) -> None:
                (normalize(x.embedding, dim=1) @ directions.T).topk(K, dim=1)

            def by_faiss(x: Features = x, train: torch.Tensor = directions) -> None:
                faiss.knn(normalize(x.embedding, dim=1).cpu().numpy(), train.cpu().numpy(), K)

            work: dict[str, Callable[[], object]] = {"knn": partial(knn.score, x), "plain": plain, "faiss": by_faiss}
            seconds = paired.interleaved(3, work, device=given.device)
            name = f"{count:,} neighbours, {queries} images a block"
            ratios[name] = [paired.ratio(seconds[other], seconds["knn"]) for other in ("plain", "faiss")]
            speeds = [queries / median(taken) for taken in seconds.values()]
            rows.append((name, *speeds, *ratios[name]))
    heads = ("images/s", "knn", "matmul + top-k", "faiss", "knn / plain", "knn / faiss")
    paired.finish(f"kNN, {WIDTH} numbers, k = {K}", heads, rows, given.device, full=given.full, ratios=ratios)


if __name__ == "__main__":
    main()
