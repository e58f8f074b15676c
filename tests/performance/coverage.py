"""How often the 95 % intervals of AUROC and FPR95 hold the true value: `python -m tests.performance.coverage`.

Simulated, with a true value that is known: two Gaussians of equal and of unequal spread, exponential scores, and a
mixture in which a few OOD images cannot be told from ID images at all, which few images do not show.
"""

import math
from collections.abc import Callable
from statistics import NormalDist

import numpy as np

from benchmark.metrics import delong_interval, fpr_interval

Scores = np.ndarray
Draw = Callable[[np.random.Generator, int, int], tuple[Scores, Scores]]
AUROCS = (0.5, 0.9, 0.99, 0.995, 0.999)
SIZES = ((10, 10), (20, 20), (50, 50), (100, 100), (300, 30), (30, 300), (500, 500))
ID_IMAGES = (5, 10, 15, 19, 50, 200, 1000)
SHIFTS = (0.0, 1.0, 2.0, 3.0, 4.0)


def gaussians(shift: float, spread: float = 1.0) -> Draw:
    return lambda rng, m, n: (rng.normal(size=m), shift + spread * rng.normal(size=n))


def worlds(auroc: float) -> dict[str, Draw]:
    """Ways of drawing (ID, OOD) scores whose AUROC is `auroc`."""
    odds, alike = auroc / (1 - auroc), 2 * (1 - auroc)

    def shift(spread: float) -> float:
        return NormalDist().inv_cdf(auroc) * math.hypot(1, spread)

    return {
        "Gaussians": gaussians(shift(1), 1),
        "OOD wide": gaussians(shift(3), 3),
        "OOD narrow": gaussians(shift(0.3), 0.3),
        "exponential": lambda rng, m, n: (rng.exponential(size=m), odds * rng.exponential(size=n)),
        "mixture": lambda rng, m, n: (
            rng.normal(size=m),
            np.where(rng.random(n) < alike, rng.normal(size=n), 100),
        ),
    }


def of_auroc(auroc: float, draw: Draw, m: int, n: int, repeats: int, seed: int = 0) -> float:
    """The share of simulations in which the interval holds `auroc`."""
    rng = np.random.default_rng(seed)
    runs = [delong_interval(*draw(rng, m, n)) for _ in range(repeats)]
    return float(np.mean([low <= auroc <= high for low, high in runs]))


def of_fpr95(shift: float, m: int, n: int, repeats: int, seed: int = 0) -> float:
    """The share of simulations in which the interval of FPR95 holds that of two unit Gaussians `shift` apart."""
    rng, true = np.random.default_rng(seed), NormalDist(shift).cdf(NormalDist().inv_cdf(0.95))
    runs = [fpr_interval(*gaussians(shift)(rng, m, n)) for _ in range(repeats)]
    return float(np.mean([low <= true <= high for low, high in runs]))


def main() -> None:
    repeats = 1000  # the standard error of a coverage of .95 is then .007
    print(f"AUROC: coverage of the 95 % interval in percent, least over {', '.join(worlds(0.9))}")
    print("ID x OOD images " + "".join(f"{auroc:>8}" for auroc in AUROCS))
    for m, n in SIZES:
        least = [min(of_auroc(auroc, d, m, n, repeats) for d in worlds(auroc).values()) for auroc in AUROCS]
        print(f"{f'{m} x {n}':16}" + "".join(f"{100 * share:8.1f}" for share in least))
    print("FPR95: the same, of unit Gaussians so many standard deviations apart, 200 OOD images")
    print("ID images       " + "".join(f"{shift:>8}" for shift in SHIFTS))
    for m in ID_IMAGES:
        print(f"{m:<16}" + "".join(f"{100 * of_fpr95(shift, m, 200, repeats):8.1f}" for shift in SHIFTS))


if __name__ == "__main__":
    main()
