"""A captured function, with the GPU's part replaced: the copies in and out, and what is put back, are the same."""

import pytest
import torch
from torch import Tensor

from methods.device import graphs
from tests.rerun import Rerun


def test_only_a_gpu_captures() -> None:
    assert graphs.recorder(torch.device("cpu")) is None


def test_it_returns_what_the_function_does_and_keeps_what_it_changes() -> None:
    total = torch.zeros(2)

    def add(x: Tensor, y: Tensor) -> Tensor:
        total.add_(x * y)
        return total.sum()

    captured = graphs.Captured(add, lambda: [total], [], Rerun())
    assert float(captured(torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0]))) == 11
    assert total.tolist() == [3, 8]
    assert float(captured(torch.tensor([1.0, 1.0]), torch.tensor([1.0, 2.0]))) == 14
    assert total.tolist() == [4, 10]


def test_there_is_a_graph_for_each_shape_and_no_more() -> None:
    recorder = Rerun()
    captured = graphs.Captured(lambda x: x.sum(), list, [], recorder)
    sums = [float(captured(torch.ones(size))) for size in (4, 4, 3, 4, 3)]
    assert sums == [4, 4, 3, 4, 3]
    assert (recorder.recorded, recorder.warmed) == (2, 2 * graphs.WARM_UP)


def test_what_is_read_is_a_copy_at_one_place() -> None:
    places: list[int] = []

    def read(x: Tensor) -> Tensor:
        places.append(x.data_ptr())
        return x.clone()

    captured = graphs.Captured(read, list, [], Rerun())
    given = [torch.full((2, 3, 4, 4), float(number)).to(memory_format=torch.channels_last) for number in range(3)]
    assert [float(captured(x)[0, 0, 0, 0]) for x in given] == [0, 1, 2]
    assert len(set(places)) == 1
    assert places[0] not in {x.data_ptr() for x in given}


def test_warming_up_leaves_no_trace() -> None:
    """A tensor that was there has its value again, one that came into being is 0; both where they were."""
    weight, state = torch.tensor([5.0]), dict[str, Tensor]()
    generator = torch.Generator().manual_seed(3)
    seen: list[Tensor] = []

    def step(x: Tensor) -> Tensor:
        moment = state.setdefault("moment", torch.zeros(1))
        moment.add_(x)
        weight.sub_(moment + torch.rand(1, generator=generator))
        seen.append(weight.clone())
        return weight.sum()

    captured = graphs.Captured(step, lambda: [weight, *state.values()], [generator], Rerun())
    captured(torch.tensor([2.0]))
    place = weight.data_ptr(), state["moment"].data_ptr()
    drawn = torch.rand(1, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(weight, 5 - (2 + drawn))
    assert state["moment"].tolist() == [2]
    assert len(seen) > 1  # it was warmed up
    captured(torch.tensor([1.0]))
    assert state["moment"].tolist() == [3]
    assert place == (weight.data_ptr(), state["moment"].data_ptr())


def test_a_tensor_that_took_another_s_place_would_be_noticed() -> None:
    """What the rehearsal stands for: a graph that knows addresses would go on with the old tensor."""
    kept = [torch.zeros(1)]
    captured = graphs.Captured(lambda x: kept[0].add_(x), lambda: kept, [], Rerun(lambda: kept))
    captured(torch.ones(1))
    kept[0] = torch.zeros(1)
    with pytest.raises(AssertionError, match="another tensor"):
        captured(torch.ones(1))
