"""The schedule and the samplers of DLSR, against the values of paper.md 2.2 and 2.5 and against diffusers."""

from collections.abc import Callable

import pytest
import torch
from diffusers import DDIMScheduler
from torch import Tensor

from methods.vectors import diffusion

ALPHAS = {
    **{0: 0.99850000, 1: 0.99692237, 2: 0.99526542, 3: 0.99352747, 9: 0.98130962, 10: 0.97896089},
    **{24: 0.93578168, 49: 0.80712974, 74: 0.62079522, 99: 0.41175000},
}


def test_schedule() -> None:
    betas, alphas = diffusion.betas(), diffusion.alphas_cumprod()
    assert (len(betas), len(alphas)) == (100, 100)
    assert float(betas[0]) == pytest.approx(0.0015)
    assert float(betas[-1]) == pytest.approx(0.0195)
    for index, value in ALPHAS.items():
        assert float(alphas[index]) == pytest.approx(value, abs=6e-9)


@pytest.mark.parametrize(("level", "std"), [(0, 0.0387), (3, 0.0805), (10, 0.1450), (49, 0.4392), (99, 0.7670)])
def test_noised(level: int, std: float) -> None:
    one, zero = torch.ones(1, 1), torch.zeros(1, 1)
    assert float(diffusion.noised(zero, one, level)) == pytest.approx(std, abs=6e-5)
    assert float(diffusion.noised(one, zero, level)) ** 2 == pytest.approx(ALPHAS[level], abs=1e-7)


class Coefficients:
    """Vectors with one column for the start, each network call and each draw: a sampler's output shows its formula."""

    def __init__(self, k: int) -> None:
        self.columns = ["start", *(f"net{level}" for level in range(k + 1)), *(f"noise{i}" for i in range(k + 1))]
        self.calls: list[int] = []

    def unit(self, name: str) -> Tensor:
        return torch.eye(len(self.columns), dtype=torch.float64)[self.columns.index(name)][None]

    def network(self, x: Tensor, level: int) -> Tensor:
        self.calls.append(level)
        return self.unit(f"net{level}")

    def draw(self, step: int) -> Tensor:
        return self.unit(f"noise{step}")

    def of(self, out: Tensor) -> dict[str, float]:
        return {name: float(value) for name, value in zip(self.columns, out[0], strict=True) if value}


def released(k: int) -> tuple[dict[str, float], list[int]]:
    terms = Coefficients(k)
    out = diffusion.released(terms.network, terms.unit("start"), k, terms.draw)
    return terms.of(out), terms.calls


def test_released_closed_form() -> None:
    terms, _ = released(3)
    assert terms.pop("start") == pytest.approx(0.4108, abs=5e-5)
    assert terms.pop("net3") == pytest.approx(0.1757, abs=5e-5)
    assert terms.pop("net2") == pytest.approx(0.4133, abs=5e-5)
    assert sorted(terms.values()) == pytest.approx([0.0193, 0.0278], abs=5e-5)


def test_released_with_one_step_returns_its_input() -> None:
    assert released(1)[0] == {"start": 1.0}


@pytest.mark.parametrize(
    ("k", "weight"),
    [(1, 0.9985), (2, 0.585), (3, 0.410), (5, 0.250), (10, 0.117), (25, 0.034), (50, 0.010)],
)
def test_released_keeps_this_much_of_z0(k: int, weight: float) -> None:
    kept = released(k)[0]["start"] * float(diffusion.alphas_cumprod()[k]) ** 0.5
    assert kept == pytest.approx(weight, abs=6e-4)


def test_released_noise_and_signal_as_the_record_has_them() -> None:
    terms, _ = released(3)
    alpha = float(diffusion.alphas_cumprod()[3])
    epsilon = terms["start"] * (1 - alpha) ** 0.5
    noises = [value for name, value in terms.items() if name.startswith("noise")]
    assert epsilon == pytest.approx(0.033, abs=5e-4)
    assert (epsilon**2 + sum(n**2 for n in noises)) ** 0.5 == pytest.approx(0.0473, abs=6e-5)
    signal = terms["start"] * alpha**0.5 + terms["net3"] + terms["net2"]  # with a perfect network
    assert signal == pytest.approx(0.9984, abs=6e-5)


def test_network_calls() -> None:
    assert released(3)[1] == [3, 2]
    terms = Coefficients(3)
    out = diffusion.ddim(terms.network, terms.unit("start"), 3, terms.draw)
    assert terms.calls == [3, 2, 1, 0]
    assert terms.of(out) == {"net0": 1.0}  # at a = 1 the last prediction alone
    terms = Coefficients(3)
    assert terms.of(diffusion.single(terms.network, terms.unit("start"), 3)) == {"net3": 1.0}


@pytest.mark.parametrize("k", [1, 3, 99])
def test_ddim_with_a_perfect_network_returns_z0(k: int) -> None:
    z, noise = torch.randn(5, 4), torch.randn(5, 4)
    out = diffusion.ddim(lambda x, level: z, diffusion.noised(z, noise, k), k, lambda step: noise, eta=1.0)
    assert torch.equal(out, z)


def curved(scale: float) -> Callable[[Tensor, int], Tensor]:
    """A network whose answer depends on its input and on the level."""
    return lambda x, level: torch.tanh(scale * x + 0.02 * level)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("k", [1, 3, 99])
def test_ddim_is_diffusers(k: int, eta: float) -> None:
    scheduler = DDIMScheduler(
        num_train_timesteps=100,
        trained_betas=diffusion.betas().numpy(),
        prediction_type="sample",
        clip_sample=False,
        set_alpha_to_one=True,
    )
    scheduler.set_timesteps(100)
    network = curved(1.3)
    start = torch.randn(6, 5, generator=torch.Generator().manual_seed(k))
    noises = torch.randn(k + 1, 6, 5, generator=torch.Generator().manual_seed(7))
    x = start
    for level in range(k, -1, -1):
        x = scheduler.step(network(x, level), level, x, eta=eta, variance_noise=noises[level]).prev_sample
    out = diffusion.ddim(network, start, k, lambda step: noises[step], eta=eta)
    assert torch.allclose(out, x, atol=2e-5)
    if k == 3:  # the noise matters, so that the comparison could have failed
        other = diffusion.ddim(network, start, k, lambda step: -noises[step], eta=eta)
        assert torch.equal(out, other) == (eta == 0)
