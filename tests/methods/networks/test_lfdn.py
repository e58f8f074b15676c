"""LFDN: its size and its formula."""

import pytest
import torch
import torch.nn.functional as F
from diffusers.models.embeddings import get_timestep_embedding

from methods.networks.lfdn import LFDN, restore, sinusoidal


def parameters(channels: int, **sizes: int) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in LFDN(channels, **sizes).parameters())


@pytest.mark.parametrize(
    ("sizes", "count"),
    [
        ({"channels": 720}, 86_740_560),
        ({"channels": 720, "blocks": 8}, 45_187_920),
        ({"channels": 720, "hidden": 720}, 45_222_480),
        ({"channels": 720, "width": 720}, 27_041_760),
        ({"channels": 720, "time": 0}, 68_572_080),
        ({"channels": 1792, "width": 1440, "time": 720}, 89_828_992),
        ({"channels": 1792, "width": 1440}, 118_766_560),
        ({"channels": 1792}, 536_698_624),
    ],
)
def test_parameter_counts_of_the_paper(sizes: dict[str, int], count: int) -> None:
    assert parameters(**sizes) == count


@pytest.mark.parametrize("time", [None, 0])
def test_output_is_exactly_zero_before_training(time: int | None) -> None:
    level = None if time == 0 else torch.tensor([3])
    out = LFDN(6, blocks=2, time=time)(torch.randn(5, 6), level)
    assert out.shape == (5, 6)
    assert torch.equal(out, torch.zeros(5, 6))


def randomised(**sizes: int) -> LFDN:
    """A network whose zero weights are no longer zero."""
    network = LFDN(**sizes)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in network.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) / p.shape[-1] ** 0.5)
    return network


@pytest.mark.parametrize("time", [None, 0])
def test_the_formula_of_the_paper(time: int | None) -> None:
    network = randomised(channels=6, hidden=10, blocks=2, **({} if time is None else {"time": time}))
    w, x, level = network.state_dict(), torch.randn(4, 6), torch.tensor([0, 7, 50, 99])

    def linear(name: str, y: torch.Tensor) -> torch.Tensor:
        return y @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(name: str, y: torch.Tensor) -> torch.Tensor:  # the released code's: one group over all channels
        return F.group_norm(y, 1, w[f"{name}.weight"], w[f"{name}.bias"], eps=1e-5)

    e = torch.zeros(4, 0)
    if time is None:
        e = get_timestep_embedding(level, 12, flip_sin_to_cos=True, downscale_freq_shift=0)  # cosines first
        e = linear("embed.2", F.silu(linear("embed.0", e)))
    h = linear("enter", F.silu(x))
    for i in range(2):
        y = linear(f"blocks.{i}.linear1", F.silu(norm(f"blocks.{i}.norm1", h)))
        if time is None:
            y = y + linear(f"blocks.{i}.time", F.silu(e))
        h = h + linear(f"blocks.{i}.linear2", F.silu(norm(f"blocks.{i}.norm2", y)))
    expected = linear("leave", F.silu(norm("norm", h)))
    assert float(expected.abs().max()) > 0.1
    assert torch.allclose(network(x, None if time == 0 else level), expected, atol=1e-5)


def test_one_level_for_all_is_that_level_for_each() -> None:
    network, x = randomised(channels=6, blocks=2), torch.randn(4, 6)
    assert torch.allclose(network(x, torch.tensor([7])), network(x, torch.full((4,), 7)), atol=1e-6)
    assert not torch.allclose(network(x, torch.tensor([7])), network(x, torch.tensor([8])), atol=1e-3)


def test_sinusoidal_at_an_odd_width() -> None:
    embedding = sinusoidal(torch.tensor([0, 1]), 5)
    assert embedding[0].tolist() == [1, 1, 0, 0, 0]
    assert embedding[1, :4].tolist() == pytest.approx([0.5403023, 0.9999500, 0.8414710, 0.0099998], abs=1e-6)


def test_a_level_is_needed_with_time() -> None:
    with pytest.raises(ValueError, match="needs the noise level"):
        LFDN(4, blocks=1)(torch.zeros(1, 4))


def test_restore() -> None:
    network, x = randomised(channels=6, hidden=10, blocks=2), torch.randn(4, 6)
    state = {f"a.{name}": value for name, value in network.state_dict().items()} | {"other": torch.zeros(1)}
    again = restore(state, 6, "cpu", prefix="a.", hidden=10, blocks=2)
    assert torch.equal(again(x, torch.tensor([2])), network(x, torch.tensor([2])))
    assert not again.training
