"""Encoders that run another's network otherwise: the values of methods.md, and what the passes have to be."""

import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_ood import detector as oracle
from safetensors.torch import save_file
from torch import Tensor, nn

from methods.base import Head
from methods.encoders.base import Images
from methods.encoders.inside import Inside, _gradients, gram
from methods.encoders.networks import cifar
from methods.encoders.networks.inference import Placed
from methods.encoders.networks.one_network import OneNetwork
from methods.encoders.perturbed import Perturbed
from methods.encoders.rank_removed import removed
from methods.encoders.registry import create

TOY = Head(torch.tensor([[1.0, -1], [-0.5, 2], [0, 0]]), torch.zeros(3))


class Line(OneNetwork):
    """The linear network of methods.md: two entries, which are its embedding too."""

    title = "line"
    resolution = 1
    offers = ("embedding", "layers", "logits")
    normalisation = ((0.0, 0.0), (1 / 255, 1 / 255))
    maps = ()

    @functools.cached_property
    def placed(self) -> Placed[nn.Module]:  # when it is asked for: what looks for garbage has no place in a collection
        return Placed(nn.Identity(), "line", device="cpu", exactness="32")

    def resized(self, images: Images) -> Tensor:
        return images  # type: ignore[return-value]

    def normalised(self, pixels: Tensor) -> Tensor:
        return pixels

    def passed(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        return x.flatten(1), [x.flatten(1)]

    def logits(self, embedding: Tensor) -> Tensor:
        return TOY(embedding)


X = torch.tensor([1, 0.2]).view(1, 2, 1, 1)


def odin(rule: str, **settings: Any) -> dict[str, Tensor]:
    encoder = create(
        "perturbed", base="line", **{"rule": rule, "epsilon": 0.1, "std": (), "temperature": 10, **settings}
    )
    encoder.stand_on(Line())
    return encoder.encode(X)


def confidence(logits: Tensor, temperature: float) -> float:
    return float((logits.double() / temperature).softmax(dim=1).amax())


@pytest.mark.parametrize(("rule", "moved", "score"), [("odin", (1.1, 0.1), 0.35990), ("i-odin", (1.0, 0.1), 0.35703)])
def test_odins_toy(rule: str, moved: tuple[float, float], score: float) -> None:
    given = odin(rule)
    torch.testing.assert_close(given["embedding"], torch.tensor([moved]))
    assert confidence(given["logits"], 10) == pytest.approx(score, abs=5e-6)


def test_the_step_of_odin() -> None:
    x = X.clone().requires_grad_()
    loss = nn.functional.cross_entropy(TOY(x.flatten(1)) / 10, torch.tensor([0]))
    (gradient,) = torch.autograd.grad(loss, x)
    torch.testing.assert_close(gradient.flatten(), torch.tensor([-0.0809, 0.1292]), atol=5e-5, rtol=0)
    divided = odin("odin", std=None)["embedding"]  # by the network's own std, a 255th
    torch.testing.assert_close(divided, X.flatten(1) + torch.tensor([[25.5, -25.5]]))
    flat = Line()
    flat.logits = lambda embedding: torch.zeros(len(embedding), 3) + 0 * embedding.sum()  # type: ignore[method-assign]
    encoder = create("perturbed", base="line", epsilon=0.1, std=())
    encoder.stand_on(flat)
    torch.testing.assert_close(encoder.encode(X)["embedding"], X.flatten(1) - 0.1)  # the sign of 0 is +1


def test_odin_of_no_step_at_temperature_1_is_msp() -> None:
    given = odin("odin", epsilon=0.0, temperature=1.0)
    torch.testing.assert_close(given["logits"], TOY(X.flatten(1)))


def test_adascale_moves_what_matters_least() -> None:
    """The predicted logit is x_1 - x_2: equal gradients, of which the first moves; with all, both go up the logit."""
    given = odin("adascale", epsilon=None, share=0.5)
    torch.testing.assert_close(given["embedding"], X.flatten(1))
    torch.testing.assert_close(given["perturbed"], torch.tensor([[1.5, 0.2]]))
    torch.testing.assert_close(odin("adascale", epsilon=None, share=1.0)["perturbed"], torch.tensor([[1.5, -0.3]]))


def test_rank_removed_toy() -> None:
    maps = torch.tensor([[3.0, 1], [1, 3]]).view(1, 2, 1, 2)
    wanted = torch.tensor([[1.0, -1], [-1, 1]]).view(1, 2, 1, 2)
    torch.testing.assert_close(removed(maps), wanted)
    torch.testing.assert_close(removed(maps, 20), wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", [(2, 5, 2, 2), (2, 3, 4, 4)])
def test_removing_is_the_svd_without_its_first_component(shape: tuple[int, ...]) -> None:
    maps = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    u, s, v = torch.linalg.svd(maps.flatten(2).double(), full_matrices=False)
    s[:, 0] = 0
    wanted = (u @ torch.diag_embed(s) @ v).view(shape).float()
    torch.testing.assert_close(removed(maps), wanted, atol=1e-5, rtol=1e-4)
    tokens = maps.flatten(2).mT.contiguous()  # (N, L, C): the same matrix, turned round
    torch.testing.assert_close(removed(tokens, last=True), wanted.flatten(2).mT, atol=1e-5, rtol=1e-4)


def test_gram_toy() -> None:
    found = gram(torch.tensor([[[1.0, 2], [3, 0]]]), 2)
    torch.testing.assert_close(found, torch.tensor([[8, 12, 5.0990, 9.4868]]).double(), atol=5e-5, rtol=0)
    negative = gram(torch.tensor([[[1.0, 0], [-3, 0]]]), 1)  # row sums 1 - 3 and -3 + 9
    torch.testing.assert_close(negative, torch.tensor([[-2.0, 6]]).double())


# on a network


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    network = cifar.build("resnet8", 5)
    with torch.no_grad():
        network.train()(torch.randn(64, 3, 32, 32))
    path = tmp_path_factory.mktemp("weights") / "net.safetensors"
    save_file(network.state_dict(), path, metadata={"mean": "[0.5, 0.4, 0.3]", "std": "[0.2, 0.3, 0.4]"})
    return path


def base(weights: Path, **how: Any) -> Any:
    return create("classifier", architecture="resnet8", checkpoint="net").open(weights, **how)


def on(weights: Path, kind: str, **settings: Any) -> Any:
    encoder: Any = create(kind, base="net", **settings)
    network = create("classifier", architecture="resnet8", checkpoint="net")
    encoder.prepare(network)
    encoder.stand_on(network.open(weights))
    return encoder


def images(n: int = 6) -> Tensor:
    return torch.randint(256, (n, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def plain(weights: Path) -> nn.Module:
    """The network by torch alone."""
    from safetensors.torch import load_file

    network = cifar.build("resnet8", 5)
    network.load_state_dict(load_file(weights))
    return network.eval()


def normalised() -> Tensor:
    pixels = images().permute(0, 3, 1, 2) / 255
    return (pixels - torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1)) / torch.tensor([0.2, 0.3, 0.4]).view(3, 1, 1)


def test_odin_is_pytorch_oods(weights: Path) -> None:
    """Theirs divides by no std unless it is told to, and its steps are in normalised pixels as well."""
    network, std = plain(weights), [0.2, 0.3, 0.4]
    theirs = oracle.ODIN(
        network, temperature=1000, eps=0.05, norm_std=std, criterion=nn.CrossEntropyLoss(reduction="sum")
    )
    wanted = theirs.predict(normalised()).detach()
    given = on(weights, "perturbed", epsilon=0.05).encode(images())
    found = -(given["logits"].double() / 1000).softmax(dim=1).amax(dim=1)
    torch.testing.assert_close(found, wanted.double(), rtol=1e-6, atol=1e-7)
    moved = on(weights, "perturbed", epsilon=0.0).encode(images())["logits"]
    assert not torch.allclose(moved, given["logits"], atol=1e-2)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("perturbed", {"rule": "adascale"}),
        ("inside", {"extras": ["extremes"]}),
        ("inside", {"extras": ["gram", "extremes", "gradients"], "powers": 3}),
    ],
)
def test_what_is_common_is_the_bases_own(weights: Path, kind: str, settings: dict[str, Any]) -> None:
    encoder, below = on(weights, kind, **settings), base(weights)
    given, plainly = encoder.encode(images()), below.encode(images())
    assert set(given) == set(encoder.offers) == {*plainly, *(settings.get("extras") or ["perturbed"])}
    for name, values in plainly.items():
        torch.testing.assert_close(given[name], values, rtol=1e-4, atol=1e-4)
    assert encoder.layer_sizes == below.layer_sizes
    assert torch.equal(encoder.head.weight, below.head.weight)
    assert not any(values.requires_grad for values in given.values())


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("perturbed", {}),
        ("perturbed", {"rule": "i-odin"}),
        ("perturbed", {"rule": "adascale"}),
        ("rank_removed", {}),
        ("inside", {"extras": ["gram", "extremes", "gradients"], "powers": 3}),
    ],
)
def test_an_images_numbers_do_not_depend_on_its_batch(weights: Path, kind: str, settings: dict[str, Any]) -> None:
    encoder = on(weights, kind, **settings)
    whole = encoder.encode(images())
    for name, values in encoder.encode(images()[2:4]).items():
        torch.testing.assert_close(values, whole[name][2:4], rtol=1e-3, atol=1e-3)


def test_logits_of_what_is_run_otherwise_are_the_heads(weights: Path) -> None:
    for encoder in (on(weights, "perturbed"), on(weights, "rank_removed")):
        given = encoder.encode(images())
        torch.testing.assert_close(given["logits"], encoder.head(given["embedding"]), rtol=1e-4, atol=1e-5)


def test_rank_removed_is_the_mean_of_two_passes_of_pytorch_ood(weights: Path) -> None:
    """Theirs is of one map, and gives logits where it is not asked for their energy."""
    network: Any = plain(weights)
    with torch.no_grad():
        second, last = network.stages(normalised())[-2:]
    aboves = (
        (lambda maps: network.head(network.embedding(network.layer3(maps)))),
        (lambda maps: network.head(network.embedding(maps))),
    )
    passes = [
        oracle.RankFeat(nn.Identity(), above, detector=lambda logits: logits).predict_feature_maps(maps)
        for above, maps in zip(aboves, (second, last), strict=True)
    ]
    given = on(weights, "rank_removed").encode(images())
    torch.testing.assert_close(given["logits"], (passes[0] + passes[1]) / 2, rtol=1e-3, atol=1e-3)


def test_what_is_inside_comes_from_every_convolution_and_activation(weights: Path) -> None:
    """ResNet-8: a convolution and an activation, and twice that in each of three blocks; no norm is folded in."""
    encoder = on(weights, "inside", extras=["gram", "extremes", "gradients"], powers=2)
    given = encoder.encode(images())
    assert encoder.extra_sizes["gram"] == (2 * 16,) * 6 + (2 * 32,) * 4 + (2 * 64,) * 4
    assert encoder.extra_sizes["extremes"] == (2,) * 7
    assert encoder.extra_sizes["gradients"] == (16, 32)
    network: Any = plain(weights)
    with torch.no_grad():
        first = network.conv1(normalised())
        before = network.bn1(first)
    torch.testing.assert_close(given["gram"][:, :32], gram(first.flatten(2), 2).float(), rtol=1e-3, atol=1e-2)
    ends = torch.stack([before.amax((1, 2, 3)), -before.amin((1, 2, 3))], dim=1)
    torch.testing.assert_close(given["extremes"][:, :2], ends, rtol=1e-4, atol=1e-4)


def test_gradients_are_of_the_kl_from_uniform(weights: Path) -> None:
    network: Any = plain(weights)
    second = network.layer2(network.layer1(torch.relu(network.bn1(network.conv1(normalised()))))).detach()
    second.requires_grad_()
    p = network.head(network.embedding(network.layer3(second))).softmax(dim=1)
    (0.2 * (0.2 / p).log()).sum().backward()
    wanted = second.detach().sum((2, 3)) * second.grad.sum((2, 3))
    given = on(weights, "inside", extras=["gradients"]).encode(images())["gradients"][:, 16:]
    torch.testing.assert_close(given, wanted, rtol=1e-3, atol=1e-4)
    # and of the last layer it would be W'(p - 1/K), which NAC has in closed form
    z = torch.randn(4, 2, 1, 1, requires_grad=True)
    f = TOY(z.flatten(1))
    (found,) = _gradients(f, [z])
    closed = z.flatten(1) * ((f.softmax(dim=1) - 1 / 3) @ TOY.weight)
    torch.testing.assert_close(found.float(), closed)


@pytest.mark.parametrize(
    ("kind", "wrong"), [("perturbed", {"std": (1.0,)}), ("inside", {"extras": []}), ("inside", {})]
)
def test_settings_that_cannot_be(kind: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=kind):
        create(kind, **({"base": "net", **wrong} if wrong else {}))


def test_it_stands_on_a_network_with_a_head_alone() -> None:
    for below in (create("pixels"), create("simclr", architecture="resnet8"), create("probe", base="x")):
        with pytest.raises(ValueError, match="it has no network with a head of its own"):
            create("perturbed", base="below").prepare(below)
    assert isinstance(create("perturbed", base="x"), Perturbed)
    assert isinstance(create("inside", base="x"), Inside)
