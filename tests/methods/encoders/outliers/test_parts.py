"""The parts of OAL: outliers by k-NN and by diffusion, the terms of its loss, CLUB, the importer of latents."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from methods.base import CannotRun
from methods.encoders.networks.cifar import ResNet18, build
from methods.encoders.networks.stages import Stages
from methods.encoders.outliers import border, feature_diffusion, latents
from methods.encoders.outliers import loss as outlier_loss
from methods.encoders.outliers.border import Shell, boundary_outliers, gather, gaussian_like, kth_distance
from methods.encoders.outliers.club import CLUB
from methods.encoders.outliers.feature_diffusion import ConditionalLFDN, ddim, synthesise
from methods.encoders.outliers.sources import Sources, Space
from methods.encoders.outliers.student import Adapter, Student
from methods.networks.lfdn import LFDN
from methods.training import loop
from methods.vectors import diffusion


def source(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def ring(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Points near the unit circle, and their classes: its four quarters."""
    generator = source(seed)
    angle = 2 * math.pi * torch.rand(count, generator=generator)
    radius = 1 + 0.05 * torch.randn(count, generator=generator)
    points = radius[:, None] * torch.stack((angle.cos(), angle.sin()), 1)
    return points, (angle / (math.pi / 2)).long().clamp(0, 3)


@pytest.fixture(scope="module")
def trained() -> tuple[ConditionalLFDN, list[float]]:
    """A diffusion of the ring."""
    points, labels = ring(512, 0)
    with loop.seeded(0):
        network = ConditionalLFDN(2, 4, width=32, blocks=2)
    losses = feature_diffusion.fit(network, points, labels, epochs=60, lr=3e-3, seed=0, device="cpu", workdir=None)
    return network, losses


SIZES: dict[str, Any] = {"width": 32, "blocks": 2, "epochs": 30, "lr": 5e-3}


def on_the_ring() -> Sources:
    points, labels = ring(256, 0)
    return Sources(points, labels, ring(100, 1)[0], k=20, sigma=0.5, seed=0, stages=Stages(None, ""))


# Outliers


def test_kth_distance_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    bank = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]])
    x = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, -1.0]])
    monkeypatch.setattr(border, "_BLOCK", 6)  # two rows at a time
    torch.testing.assert_close(kth_distance(x, bank, 1), torch.tensor([0.0, 3.0, 1.0]))
    torch.testing.assert_close(kth_distance(x, bank, 2), torch.tensor([1.0, math.sqrt(10), 2.0]))
    torch.testing.assert_close(kth_distance(x, bank, 3), torch.tensor([5.0, 4.0, math.sqrt(34)]))


def test_the_shell_lies_between_two_percentiles_of_held_out_distances() -> None:
    bank = torch.zeros(3, 1)
    held = torch.arange(1001.0)[:, None]  # at distances 0 .. 1000 of any neighbour
    shell = Shell.around(bank, held, 2)
    assert (shell.low, shell.high) == pytest.approx((950, 999))
    x = torch.tensor([[949.0], [950.5], [-998.0], [1000.0]])
    assert shell.holds(x).tolist() == [False, True, True, False]
    assert shell.outside(x).tolist() == [False, True, True, True]


def test_boundary_outliers_start_at_the_farthest_of_their_class_and_go_farther() -> None:
    points, labels = ring(400, 2)
    points = 7 * points
    found, classes = boundary_outliers(points, labels, k=10, sigma=0.5, generator=source())
    assert found.shape == (4 * border.BOUNDARY * border.KEPT, 2)
    assert classes.bincount().tolist() == [100] * 4
    for label in range(4):
        own = points[labels == label]
        unit = functional.normalize(own, dim=1)
        reach = kth_distance(unit, unit, 11)
        norms = own[reach.topk(border.BOUNDARY).indices].norm(dim=1)
        mine = found[classes == label]
        torch.testing.assert_close(mine.norm(dim=1), norms.repeat_interleave(border.KEPT), rtol=1e-4, atol=1e-4)
        # The two farthest of 1,500: farther out than any point of the class, whose candidates they are.
        assert kth_distance(functional.normalize(mine, dim=1), unit, 10).min() > reach.max()


def test_boundary_outliers_are_the_farthest_of_their_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    points, labels = ring(60, 3)
    monkeypatch.setattr(border, "BOUNDARY", 1)
    kept, _ = boundary_outliers(points, labels, k=5, sigma=0.3, generator=source(4))
    monkeypatch.setattr(border, "KEPT", border.CANDIDATES)
    every, classes = boundary_outliers(points, labels, k=5, sigma=0.3, generator=source(4))
    for label in range(4):
        unit = functional.normalize(points[labels == label], dim=1)
        reach = kth_distance(functional.normalize(every[classes == label], dim=1), unit, 5)
        best = kth_distance(functional.normalize(kept[2 * label : 2 * label + 2], dim=1), unit, 5)
        torch.testing.assert_close(best, reach.sort(descending=True).values[:2])


def test_sigma_is_the_length_of_the_noise_in_any_width(monkeypatch: pytest.MonkeyPatch) -> None:
    # OAL adds .07 N(0, I) to unit vectors of 768 numbers: a length of 1.94, a cosine of 1 / sqrt(1 + 1.94^2) = .458.
    monkeypatch.setattr(border, "KEPT", border.CANDIDATES)
    for width in (64, 768):
        point = functional.normalize(torch.randn(1, width, generator=source()), dim=1)
        pair = torch.cat((point, point))  # one class has two images at least
        found, _ = boundary_outliers(pair, torch.zeros(2).long(), k=300, sigma=1.94, generator=source(1))
        assert float((found @ point.T).mean()) == pytest.approx(0.458, abs=0.01)


def test_a_class_of_one_image_is_an_error() -> None:
    with pytest.raises(ValueError, match="class 1 has one image"):
        boundary_outliers(torch.randn(3, 2), torch.tensor([0, 0, 1]), k=5, sigma=1, generator=source())
    with pytest.raises(ValueError, match="at least 2 training images"):
        Sources(torch.randn(3, 2), torch.tensor([0, 0, 1]), torch.randn(2, 2), 5, 1.0, 0, Stages(None, ""))


def test_distances_are_to_the_first_500_of_a_class() -> None:
    labels = torch.tensor([1, 0, 1, 1, 0, 3])
    assert border.first_of_each(labels, 2).tolist() == [0, 1, 2, 4, 5]
    assert len(border.first_of_each(torch.zeros(700).long())) == 500


def test_gather_draws_until_there_are_enough() -> None:
    rounds: list[int] = []

    def draw() -> Tensor:
        rounds.append(len(rounds))
        return torch.arange(4.0)[:, None] + 10 * rounds[-1]

    found = gather(draw, lambda x: x[:, 0] % 2 == 0, 5, "even")
    assert found.flatten().tolist() == [0, 2, 10, 12, 20]
    assert len(rounds) == 3
    with pytest.raises(RuntimeError, match=r"0 of 40 negative outliers .* 5 are needed"):
        gather(draw, lambda x: x[:, 0] < 0, 5, "negative")


def test_gaussian_outliers_have_the_norms_of_others() -> None:
    norms = torch.linspace(1, 5, 4000)[:, None]
    found = gaussian_like(norms * functional.normalize(torch.ones(4000, 3), dim=1), source())
    torch.testing.assert_close(found.norm(dim=1, keepdim=True), norms)
    assert (found / norms).mean(0).abs().max() < 0.05  # no direction is preferred: .58 / sqrt(4000) = .009


def test_knn_outliers_are_finite_and_none_is_inside_the_id_radius() -> None:
    labels = torch.arange(300) % 3
    centres = 2 * torch.randn(3, 8, generator=source(1))
    points = centres[labels] + torch.randn(300, 8, generator=source(2))
    held = centres[labels[:100]] + torch.randn(100, 8, generator=source(3))

    def draw() -> Tensor:
        made = Sources(points, labels, held, k=20, sigma=1.0, seed=0, stages=Stages(None, ""))
        return made.draw("knn", 150, guidance="away", **SIZES)

    found = draw()
    assert found.shape == (150, 8)
    assert bool(found.isfinite().all())
    radius = torch.quantile(kth_distance(held, points, 20), 0.95)
    assert kth_distance(found, points, 20).min() >= radius
    assert torch.equal(found, draw())


def test_diffused_and_gaussian_outliers() -> None:
    made = on_the_ring()
    diffused = made.draw("diffusion", 100, guidance="away", **SIZES)
    assert diffused.shape == (100, 2)
    assert bool(diffused.isfinite().all())
    points, held = ring(256, 0)[0], ring(100, 1)[0]
    low, high = torch.quantile(kth_distance(held, points, 20), torch.tensor([0.95, 0.999])).tolist()
    distances = kth_distance(diffused, points, 20)
    assert low <= distances.min()
    assert distances.max() <= high
    assert len(made.losses) == 30
    drawn = on_the_ring().draw("gaussian", 100, guidance="away", **SIZES)  # the same diffusion, by the same seed
    torch.testing.assert_close(drawn.norm(dim=1), diffused.norm(dim=1))
    assert not torch.allclose(drawn, diffused)


def test_a_space_is_standardised_and_goes_back() -> None:
    embedding = torch.randn(500, 3, generator=source()) * torch.tensor([1.0, 10.0, 0.0]) + 5
    space = Space.of(embedding)
    z = space(embedding)
    torch.testing.assert_close(z.mean(0), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(z.std(0, correction=0), torch.tensor([1.0, 1.0, 0.0]))
    torch.testing.assert_close(space.back(z), embedding)
    # A dimension that was dead in training does not swamp distances when it wakes: 1 % of the mean std of 3.7.
    assert 20 < float(space(embedding + 1)[0, 2]) < 35


# The diffusion


def test_without_a_condition_it_is_the_lfdn() -> None:
    network = ConditionalLFDN(6, 3, width=10, blocks=2)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3)
    plain = LFDN(6, width=10, blocks=2)
    plain.load_state_dict({k: v for k, v in network.state_dict().items() if not k.startswith("labels.")})
    x, level = torch.randn(5, 6), torch.tensor([0, 3, 50, 99, 7])
    torch.testing.assert_close(network(x, level, torch.zeros(5, 6)), plain(x, level))
    # It is added to the time embedding: as much in the last layer that makes this one is the same.
    with torch.no_grad():
        assert plain.embed is not None
        plain.embed[2].bias.add_(torch.full((6,), 0.7))
    torch.testing.assert_close(network(x, level, torch.full((5, 6), 0.7)), plain(x, level))


def test_no_label_is_a_label_of_its_own() -> None:
    network = ConditionalLFDN(6, 3, width=10, blocks=1)
    assert network.labels.weight.shape == (4, 6)
    torch.testing.assert_close(network.condition(None, 2), network.labels.weight[[3, 3]])
    torch.testing.assert_close(network.condition(torch.tensor([2, 0]), 2), network.labels.weight[[2, 0]])


def test_the_diffusions_loss_falls(trained: tuple[ConditionalLFDN, list[float]]) -> None:
    _, losses = trained
    assert len(losses) == 60
    assert sum(losses[-5:]) / 5 < 0.5 * losses[0]


def test_labels_are_hidden_a_tenth_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []
    real = ConditionalLFDN.condition

    def spy(self: ConditionalLFDN, labels: Tensor | None, count: int) -> Tensor:
        assert labels is not None
        seen.append(labels)
        return real(self, labels, count)

    monkeypatch.setattr(ConditionalLFDN, "condition", spy)
    labels = torch.arange(4000) % 3
    network = ConditionalLFDN(2, 3, width=4, blocks=1)
    feature_diffusion.fit(network, torch.randn(4000, 2), labels, epochs=1, lr=1e-3, seed=0, device="cpu", workdir=None)
    counts = torch.cat(seen).bincount()
    assert counts.tolist() == pytest.approx([1200, 1200, 1200, 400], abs=90)


def test_ddim_is_that_of_dlsr_where_no_level_is_left_out() -> None:
    x = torch.randn(4, 3, generator=source())

    def network(x: Tensor, level: int) -> Tensor:
        return x.tanh() + level / 10

    ours = ddim(network, x, [4, 3, 2, 1, 0])
    torch.testing.assert_close(ours, diffusion.ddim(network, x, 4, lambda step: torch.zeros(0)))


def test_a_network_that_knows_the_answer_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """w mixes the two predictions as the formula says: of 1 without a label and label + 2 with one."""
    network = ConditionalLFDN(1, 4, width=4, blocks=1)
    levels: set[int] = set()

    def forward(x: Tensor, level: Tensor, condition: Tensor | None = None) -> Tensor:
        levels.add(int(level))
        return torch.ones_like(x) if condition is None else condition + 2

    monkeypatch.setattr(network, "forward", forward)
    with torch.no_grad():
        network.labels.weight.copy_(torch.arange(5.0)[:, None])
    labels = torch.arange(4).repeat(50)
    seeds = torch.zeros(200, 1)
    for w in (0.0, -1.0, 2.0):
        out = synthesise(network, seeds, labels, guidance="away", generator=source(), weights=(w, w))
        torch.testing.assert_close(out[:, 0], 1 - w * (labels + 1.0))
    free = synthesise(network, seeds, labels, guidance="away", generator=source())[:, 0]
    w = (1 - free) / (labels + 1)
    assert 0.5 < w.min() < 0.6
    assert 1.9 < w.max() < 2
    mixed = synthesise(network, seeds, labels, guidance="mixed", generator=source())[:, 0]
    other = 2 * (mixed - 2) - labels  # the mean of two class embeddings, never of the class with itself
    assert {int(x) for x in other.round()} == {0, 1, 2, 3}
    assert not bool((other.round() == labels).any())
    assert {30, 40, 50, 60, 0} <= levels
    assert max(levels) == 60


def test_guidance_away_from_the_class_raises_the_distance(trained: tuple[ConditionalLFDN, list[float]]) -> None:
    network, _ = trained
    points, labels = ring(512, 0)
    seeds, classes = points[:200], labels[:200]

    def distance(low: float, high: float) -> float:
        out = synthesise(network, seeds, classes, guidance="away", generator=source(), weights=(low, high))
        return float(kth_distance(out, points, 20).mean())

    plain, free, away = distance(-1, -1), distance(0, 0), distance(0.5, 2)
    assert away > 1.2 * plain
    assert away > 1.2 * free


# The loss


def test_energy_and_hinge_by_hand() -> None:
    inside = torch.tensor([[math.log(3.0), 0.0], [0.0, 0.0]])  # E = -log 4, -log 2
    outside = torch.tensor([[0.0, 0.0], [math.log(7.0), 0.0]])  # E = -log 2, -log 8
    torch.testing.assert_close(outlier_loss.energy(inside), -torch.tensor([4.0, 2.0]).log())
    m_in, m_out = -math.log(4), -math.log(2)
    # ID: 0 and log 2 above its margin; outliers: 0 and 2 log 2 below theirs.
    expected = (math.log(2) ** 2) / 2 + (2 * math.log(2)) ** 2 / 2
    assert float(outlier_loss.hinge(inside, outside, m_in, m_out)) == pytest.approx(expected)


def test_uniform_cross_entropy_by_hand() -> None:
    logits = torch.tensor([[0.0, 0.0, 0.0, 0.0], [math.log(5.0), 0.0, 0.0, 0.0]])
    # of the second: probabilities 5/8 and three times 1/8
    expected = (math.log(4) + (math.log(8 / 5) + 3 * math.log(8)) / 4) / 2
    assert float(outlier_loss.uniform(logits)) == pytest.approx(expected)


def test_distillation_is_the_divergence_of_the_teacher_from_the_student() -> None:
    teacher, student = (
        torch.tensor([[0.6, 0.3, 0.1], [0.2, 0.5, 0.3]]),
        torch.tensor([[0.2, 0.2, 0.6], [0.1, 0.8, 0.1]]),
    )
    expected = (teacher * (teacher / student).log()).sum(1).mean()
    torch.testing.assert_close(outlier_loss.distillation(teacher.log() + 3, student.log() - 2), expected)
    assert float(outlier_loss.distillation(student, student)) == pytest.approx(0, abs=1e-6)


def test_logistic_by_hand() -> None:
    term = outlier_loss.Logistic()
    with torch.no_grad():
        term.regression.weight.copy_(torch.tensor([[1.0], [-1.0]]))
        term.regression.bias.zero_()
    inside, outside = torch.tensor([[2.0, 2.0]]), torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    # P(ID) = sigmoid(-2 E); E = -(a + log 2) where both logits are a
    known = torch.sigmoid(2 * torch.tensor(2 + math.log(2)))
    unknown = torch.sigmoid(2 * torch.tensor([math.log(2), 1 + math.log(2)]))
    expected = -(known.log() + (1 - unknown).log().sum()) / 3
    torch.testing.assert_close(term(inside, outside), expected)


def test_learning_at_another_rate_is_a_group_of_that_rate() -> None:
    with loop.seeded(0):
        ours = nn.Linear(3, 2)
    theirs = nn.Linear(3, 2)
    theirs.load_state_dict(ours.state_dict())
    outlier_loss.learn_at(ours, 0.01, of=0.5, weight_decay=0.1)
    kind = {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}
    optimizers = [torch.optim.SGD(ours.parameters(), 0.5, **kind), torch.optim.SGD(theirs.parameters(), 0.01, **kind)]
    for step in range(20):
        for model, optimizer in zip((ours, theirs), optimizers, strict=True):
            optimizer.zero_grad()
            model(torch.full((4, 3), 1.0 + step)).tanh().sum().backward()
            optimizer.step()
    torch.testing.assert_close(ours.weight, theirs.weight)
    torch.testing.assert_close(ours.bias, theirs.bias)


def test_club_against_its_formula() -> None:
    club = CLUB(2, 3, hidden=8)
    x, y = torch.randn(5, 2, generator=source()), torch.randn(5, 3, generator=source(1))
    mu, logvar = club.mu(x).detach(), club.logvar(x).detach()
    total = 0.0
    for i in range(5):
        for d in range(3):
            pairs = sum((float(mu[i, d]) - float(y[j, d])) ** 2 for j in range(5)) / 5
            own = (float(mu[i, d]) - float(y[i, d])) ** 2
            total += (pairs - own) / (2 * math.exp(float(logvar[i, d])))
    assert club(x, y).item() == pytest.approx(total / 5, rel=1e-4)


def test_club_by_hand() -> None:
    club = CLUB(1, 1, hidden=2)
    for module in (club.mu, club.logvar):
        for parameter in module.parameters():
            nn.init.zeros_(parameter)
    with torch.no_grad():
        club.mu[0].weight.fill_(1)
        club.mu[2].weight.fill_(2)  # mu = 2 max(0, x), variance 1
    x, y = torch.tensor([[1.0], [2.0]]), torch.tensor([[1.0], [4.0]])
    # i = 0: mu 2, own 1, all (1 + 4) / 2; i = 1: mu 4, own 0, all (9 + 0) / 2. Mean of 1.5 / 2 and 4.5 / 2.
    assert club(x, y).item() == pytest.approx((1.5 / 2 + 4.5 / 2) / 2)


def test_club_is_zero_on_average_for_pairs_at_random() -> None:
    club = CLUB(4, 4)
    x, y = torch.randn(300, 4, generator=source()), 5 * torch.randn(300, 4, generator=source(1))
    values = torch.tensor([club(x[torch.randperm(300, generator=source(i))], y).item() for i in range(60)])
    assert values.mean().abs() < 3 * values.std() / math.sqrt(60)


def test_an_untrained_adapter_changes_nothing() -> None:
    embedding = torch.randn(6, 4, generator=source())
    adapter = Adapter(embedding.mean(0), embedding.std(0))
    assert torch.equal(adapter(embedding), embedding)
    assert sum(parameter.numel() for parameter in adapter.parameters()) == 2 * (4 * 4 + 4)


def test_outliers_reach_the_head_and_not_the_convolutions() -> None:
    network = build("resnet8", 3)
    student = Student(network, None, {})
    logits = student.head(student.features(torch.randn(4, 3, 8, 8))).detach()
    for kind in ("energy", "logistic", "uniform"):
        term = outlier_loss.OutlierTerm(kind, 1.0, torch.randn(9, 64), club=False, m_in=0.0, m_out=9.0)
        network.zero_grad()
        term(student, torch.randn(4, 64), logits, *term.draw(4, source())).backward()
        touched = {name for name, parameter in network.named_parameters() if parameter.grad is not None}
        assert touched == {"linear.weight", "linear.bias"}
    assert {name for name, _ in Student(network, Adapter(torch.zeros(64), torch.ones(64)), {}).named_parameters()} == {
        *(f"adapter.{layer}.{what}" for layer in ("first", "second") for what in ("weight", "bias")),
        *("body.weight", "body.bias"),
    }
    assert Student(build("resnet18", 2), None, {}).head.in_features == ResNet18.stage_channels[-1]


def test_weights_of_the_terms() -> None:
    student = Student(build("resnet8", 3), None, {})
    features, logits, drawn = torch.randn(4, 64), torch.randn(4, 3), torch.randn(9, 64)
    with torch.no_grad():
        outside = student.head(drawn[torch.randint(9, (4,), generator=source(5))])
        term = outlier_loss.OutlierTerm("uniform", 2.5, drawn, club=True, m_in=0.0, m_out=0.0)
        assert term.club is not None
        chosen = drawn[torch.randint(9, (4,), generator=source(5))]
        expected = 2.5 * outlier_loss.uniform(outside) + 0.1 * term.club(chosen, features)
        torch.testing.assert_close(term(student, features, logits, *term.draw(4, source(5))), expected)
        vectors = torch.randn(7, 64)
        published = outlier_loss.PublishedTerm(drawn, vectors)
        generator = source(6)
        first = drawn[torch.randint(9, (4,), generator=generator)]
        second = vectors[torch.randint(7, (4,), generator=generator)]
        expected = 0.1 * published.club(first, features) + 0.2 * published.latent_club(second, features)
        torch.testing.assert_close(published(student, features, logits, *published.draw(4, source(6))), expected)


# Latents


def test_latents_of_64_numbers_as_they_are(tmp_path: Path) -> None:
    values = torch.randn(5, 64, generator=source())
    torch.save(values, tmp_path / "x.pt")
    save_file({"anything": values.half()}, tmp_path / "x.safetensors")
    assert torch.equal(latents.read(tmp_path / "x.pt"), values)
    assert torch.equal(latents.read(tmp_path / "x.safetensors"), values.half().float())


def test_latents_as_images_are_averaged_over_channels_and_rows(tmp_path: Path) -> None:
    values = torch.randn(3, 4, 64, 64, generator=source())
    save_file({"latents": values}, tmp_path / "x.safetensors")
    torch.save({"latents": values}, tmp_path / "x.pt")
    expected = torch.stack([sum(image[c, r] for c in range(4) for r in range(64)) / 256 for image in values])
    for name in ("x.safetensors", "x.pt"):
        found = latents.read(tmp_path / name)
        assert found.shape == (3, 64)
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    "values",
    [
        torch.zeros(5, 63),
        torch.zeros(5, 3, 64, 64),
        torch.zeros(5, 64, dtype=torch.int64),
        torch.zeros(0, 64),
        torch.full((2, 64), math.nan),
        {"one": torch.zeros(2, 64), "two": torch.zeros(2, 64)},
        [torch.zeros(2, 64)],
    ],
    ids=["width", "channels", "integers", "empty", "NaN", "two tensors", "list"],
)
def test_what_is_no_latents(tmp_path: Path, values: object) -> None:
    torch.save(values, tmp_path / "x.pt")
    with pytest.raises(ValueError, match=r"x\.pt"):
        latents.read(tmp_path / "x.pt")


def test_latents_from_files_that_are_absent_torn_or_hostile(tmp_path: Path) -> None:
    with pytest.raises(CannotRun, match=r"no latents at .*x\.pt"):
        latents.read(tmp_path / "x.pt")
    for name in ("x.pt", "x.safetensors"):
        (tmp_path / name).write_bytes(b"torn")
        with pytest.raises(ValueError, match=name):
            latents.read(tmp_path / name)
    torch.save(nn.Linear(2, 2), tmp_path / "x.pt")
    with pytest.raises(ValueError, match="more than plain tensors"):
        latents.read(tmp_path / "x.pt")


# Stages


def test_what_a_stage_ended_with_is_kept_until_all_have(tmp_path: Path) -> None:
    stages = Stages(tmp_path, "this")
    assert stages.folder("first") == tmp_path / "first"
    assert stages.load("first") is None
    stages.save("first", {"x": torch.arange(3)})
    found = Stages(tmp_path, "this").load("first")
    assert found is not None
    assert found["x"].tolist() == [0, 1, 2]
    assert Stages(tmp_path, "that").load("first") is None
    stages.clear()
    assert Stages(tmp_path, "this").load("first") is None
    nowhere = Stages(None, "this")
    nowhere.save("first", {})
    assert nowhere.load("first") is None
    assert nowhere.folder("first") is None
