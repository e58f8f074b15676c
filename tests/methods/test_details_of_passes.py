"""Details of the detectors that read another pass (AdaSCALE, Gram, CombOOD, NAC over layers), by hand."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import methods
from methods.base import CannotRun, Features, Head
from tests.methods.test_posthoc import same, score


def adascale(**settings: Any) -> Any:
    known = torch.tensor([1.0, 2, 3, 4]).double()
    return methods.create("adascale", p_min=0.0, p_max=80.0, **settings).load_state({"quantities": known})


def moved(z: list[float], perturbed: list[float]) -> Features:
    rows, head = torch.tensor([z]), Head(torch.tensor([[1.0, 0, 0, 0, 1], [0, 1, 0, 0, 0]]), torch.zeros(2))
    return Features(embedding=rows, logits=head(rows), head=head, extras={"perturbed": torch.tensor([perturbed])})


def test_adascale_adds_up_shifts_and_leaves_out_what_moves_below_zero() -> None:
    # of the two largest entries, the first and the third: relu(-1) + relu(2) + .5 (|5 - -1| + |3 - 2|)
    x = moved([5.0, -2, 3, 1, 1], [-1.0, 9, 2, 9, 9])
    same(adascale(k1=0.4, k2=0.4, weight=0.5)._quantity(x), [0 + 2 + 0.5 * (6 + 1)])
    tied = moved([1.0, 4, 1, 1, 0], [7.0, 5, 2, 1, 0])  # of equal entries the first
    same(adascale(k1=0.4, k2=0.4, weight=1.0)._quantity(tied), [5 + 7 + 1 + 6])


@pytest.mark.parametrize(("quantity", "ratio"), [(3.0, 1.0), (2.9, 3.75 / 3.5)])
def test_adascale_counts_images_that_are_not_above_and_reads_relu_of_the_embedding(
    quantity: float, ratio: float
) -> None:
    # 3 of 4 images are not above 3: 20 %, so that 4 of 5 entries are kept, all that are not 0; 2 of 4: 40 %, and 3
    x = moved([2.0, 1, 0.5, 0.25, -4], [quantity, 1, 0.5, 0.25, -4])
    logits = torch.tensor([[2.0, 1]]).double()
    same(adascale(k1=0.2, weight=0.0).score(x), -(logits * torch.e**ratio).logsumexp(dim=1))
    found = adascale(k1=0.2, weight=0.0, variant="l").score(x)  # LTS scales the logits as they are
    same(found, -(x.logits.double() * ratio**2).logsumexp(dim=1))


def ranges(logits: Tensor, values: Tensor, held: Tensor, **settings: Any) -> Any:
    validation = Features(logits=logits[: len(held)], extras={"gram": held})
    labels = torch.zeros(len(logits), dtype=torch.int64)
    train = Features(logits=logits, labels=labels, extras={"gram": values}, validation=validation)
    return methods.create("gram", **settings).fit(train)


def test_gram_has_a_range_for_each_predicted_class_and_that_of_all_where_there_is_none() -> None:
    logits = torch.tensor([[3.0, 0, 1], [2, 1, 0], [0, 3, 1]])  # nobody is predicted as the last class
    method = ranges(logits, torch.tensor([[1.0], [4], [9]]), torch.tensor([[4.0]]))
    assert method.low.tolist() == [[1], [9], [1]]
    assert method.high.tolist() == [[4], [9], [9]]
    by_label = ranges(logits, torch.tensor([[1.0], [4], [9]]), torch.tensor([[4.0]]), group="label")
    assert by_label.low.tolist() == [[1]] * 3
    assert by_label.high.tolist() == [[9]] * 3


def test_gram_has_a_range_for_each_label_though_the_head_knows_fewer() -> None:
    x = Features(logits=torch.eye(2), labels=torch.tensor([0, 3]), extras={"gram": torch.tensor([[1.0], [4]])})
    method: Any = methods.create("gram", group="label").fit(replace(x, validation=x))
    assert method.low[:, 0].tolist() == [1, 1, 1, 4]


def test_gram_adds_a_millionth_to_what_it_divides_by() -> None:
    logits = torch.tensor([[1.0, 0]])
    method = ranges(logits, torch.tensor([[1e-6, -1e-6]]), torch.tensor([[1e-6, -1e-6]]))
    low, high = 0.0, 2e-6  # of the first feature 1e-6 below, of the second 3e-6 above; |-1e-6 + 1e-6| is 0
    asked = Features(logits=logits, extras={"gram": torch.tensor([[low, -1e-6]])})
    same(method._deviations(asked), [[0.5]], rtol=1e-3)
    asked = Features(logits=logits, extras={"gram": torch.tensor([[1e-6 + high, -1e-6]])})
    same(method._deviations(asked), [[1.0]], rtol=1e-3)


def test_gram_calibrates_on_an_image_of_two_and_not_of_one() -> None:
    logits, values = torch.tensor([[1.0, 0], [1, 0]]), torch.tensor([[4.0], [5]])
    two = Features(logits=logits, extras={"gram": values})
    assert bool(score("gram", two, two).isfinite().all())
    with pytest.raises(CannotRun, match="needs a training image to calibrate on"):
        score("gram", two, two[:1])


def test_combood_reads_the_largest_logit_and_less_the_smallest() -> None:
    x = Features(logits=torch.tensor([[3.0, -2, 1]]), extras={"extremes": torch.tensor([[7.0]])})
    assert methods.create("combood")._extremes(x).tolist() == [[7, 3, 2]]  # type: ignore[attr-defined]


def test_combood_of_extremes_that_do_not_vary_and_of_as_many_images_as_neighbours() -> None:
    generator = torch.Generator().manual_seed(0)
    train = Features(
        embedding=torch.randn(6, 3, generator=generator),
        logits=torch.tensor([[1.0, 0]]).expand(6, 2),
        extras={"extremes": torch.cat([torch.randn(6, 1, generator=generator), torch.full((6, 1), 2.0)], dim=1)},
    )
    method: Any = methods.create("combood", k=6).fit(train)
    assert method.std[1:].tolist() == [1, 1, 1]  # of what is constant; standardised it is 0 for ID images
    assert method.powers[1:].tolist() == [1, 1, 1]
    assert bool(method.score(train).isfinite().all())
    with pytest.raises(CannotRun, match="k is 7 but there are only 6"):
        score("combood", train, train, k=7)


def test_nac_is_the_mean_over_its_layers() -> None:
    generator = torch.Generator().manual_seed(0)
    z, weight = torch.rand(40, 5, generator=generator), torch.randn(3, 5, generator=generator)
    gradients = torch.randn(40, 7, generator=generator)
    x = Features(
        embedding=z,
        head=Head(weight, torch.zeros(3)),
        labels=torch.arange(40) % 4,  # a class more than the head has
        extras={"gradients": gradients},
        extra_sizes={"gradients": (3, 4)},
    )
    method: Any = methods.create("nac", layers="cifar10", images=12, full=2.0).fit(x)
    assert [len(layer) for layer in method.coverage] == [5, 3, 4]
    counts = method.coverage[0] * 2.0  # 12 images, three of each class, an O of 2 for 12: at most 1
    assert float(counts.max()) == 2
    parts = []
    for place, (products, layer) in enumerate(method._layers(x)):
        alone: Any = methods.create("nac").load_state({"coverage.0": method.coverage[place]})
        alone._layers = lambda _, products=products, layer=layer: [(products, layer)]
        parts.append(alone.score(x))
    same(method.score(x), torch.stack(parts).mean(dim=0))
    assert torch.stack(parts).std(dim=0).max() > 0.01
