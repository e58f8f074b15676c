"""A network's pass as one graph on ONNX Runtime: all that it offers, any number of images, held against torch."""

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor

from methods.base import CannotRun
from methods.device import exporting
from methods.encoders.networks import timm_models
from methods.encoders.networks.engine import OnnxRuntime, graph_of, held_against_torch
from methods.encoders.networks.one_network import OneNetwork
from methods.encoders.registry import create

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
pytestmark = pytest.mark.usefixtures("exporter")


def pixels(count: int, side: int) -> Tensor:
    return torch.rand((count, 3, side, side), generator=torch.Generator().manual_seed(count)) * 255


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> OneNetwork:
    """An encoder with random weights, running statistics of some data, and maps that are resized and pooled."""
    torch.manual_seed(0)
    network = timm.create_model("test_efficientnet.r160_in1k", pretrained=False)
    with torch.no_grad():
        network.train()(torch.randn(4, 3, 160, 160))
    path = tmp_path_factory.mktemp("small") / "weights.safetensors"
    save_file(network.state_dict(), path)
    encoder = create("pretrained", model="test_efficientnet.r160_in1k", pooling="grid14").open(path)
    assert isinstance(encoder, OneNetwork)
    return encoder


@pytest.fixture(scope="module")
def graph(small: OneNetwork) -> bytes:
    return graph_of(small)


def changed(graph: bytes, by: float) -> bytes:
    """The same graph with one convolution's weights that much larger."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load_from_string(graph)
    weight = next(each for each in model.graph.initializer if len(each.dims) == 4)
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * (1 + by), weight.name))
    content: bytes = model.SerializeToString()
    return content


def test_one_graph_gives_all_that_an_encoder_offers_for_any_number_of_images(small: OneNetwork, graph: bytes) -> None:
    images = torch.randint(256, (5, 170, 200, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    wanted = [small.encode(images[:count]) for count in (1, 2, 5)]
    small.run_on(OnnxRuntime(graph))
    found = [small.encode(images[:count]) for count in (1, 2, 5)]
    small.run_on(None)
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours.keys() == theirs.keys() == {"embedding", "layers", "logits"}
        for name, values in theirs.items():
            assert ours[name].dtype == torch.float32
            assert (ours[name] - values).abs().max() <= 1e-4 * values.std()


def test_tokens_are_turned_into_maps_for_any_number_of_images() -> None:
    class Maps(torch.nn.Module):
        def forward(self, tokens: Tensor) -> Tensor:
            return timm_models._as_map(tokens, "it", channels_last=False, prefix=1)

    free = ({0: torch.export.Dim("N")},)
    program = torch.export.export(Maps(), (torch.zeros(2, 10, 4),), dynamic_shapes=free).module()
    tokens = torch.arange(5 * 10 * 4.0).view(5, 10, 4)
    assert torch.equal(program(tokens), tokens[:, 1:].transpose(1, 2).reshape(5, 4, 3, 3))


def test_threads_are_those_that_the_run_has(graph: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    asked = []
    before = onnxruntime.InferenceSession
    monkeypatch.setattr(
        onnxruntime,
        "InferenceSession",
        lambda content, how, providers: asked.append((how.intra_op_num_threads, providers)) or before(content, how),
    )
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    OnnxRuntime(graph)
    assert asked == [(3, ["CPUExecutionProvider"])]


def test_a_graph_is_trusted_up_to_a_thousandth_of_a_standard_deviation(small: OneNetwork, graph: bytes) -> None:
    images = pixels(6, 160)
    engine, apart = held_against_torch(small, graph, images)
    assert apart < 1e-4
    assert torch.equal(engine(images)["logits"], OnnxRuntime(graph)(images)["logits"])
    held_against_torch(small, changed(graph, 1e-5), images)
    with pytest.raises(CannotRun, match=r"^ONNX Runtime gives features [\d.]+ of a standard deviation from torch's$"):
        held_against_torch(small, changed(graph, 0.02), images)


def test_a_layer_is_measured_in_its_own_deviation(small: OneNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two layers one has numbers a million times as large: beside them, what the other lacks would not show."""
    from methods.encoders.networks import engine

    layers = torch.tensor([[1e6, 0.0], [-1e6, 1.0], [1e6, 2.0], [-1e6, 3.0]])
    monkeypatch.setattr(type(small), "layer_sizes", (1, 1))
    other = layers + torch.tensor([0.0, 0.5])
    deviation = torch.tensor([0.0, 1.0, 2.0, 3.0], dtype=torch.float64).std(correction=0)
    assert engine._apart(small, {"layers": layers}, {"layers": other}) == pytest.approx(float(0.5 / deviation))
    assert engine._apart(small, {"layers": layers}, {"layers": layers.clone()}) == 0
    for wrong in (layers * torch.nan, layers[:, :1]):
        assert engine._apart(small, {"layers": layers}, {"layers": wrong}) == float("inf")
    constant = torch.ones(4, 1)
    assert engine._apart(small, {"embedding": constant}, {"embedding": constant + 1e-6}) == float("inf")


def test_what_torch_cannot_export_says_so_in_one_line(small: OneNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    def passed(self: OneNetwork, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        scale = 2.0 if x.mean().item() > 0 else 1.0  # depends on the images
        return x.mean((2, 3)) * scale, [x.mean((2, 3))]

    monkeypatch.setattr(type(small), "passed", passed)
    monkeypatch.setattr(type(small), "logits", lambda self, embedding: None)
    with pytest.raises(CannotRun, match=r"^torch exports no graph of it \([^\n]+\)$"):
        graph_of(small)


def test_what_is_no_graph_says_so_in_one_line(small: OneNetwork) -> None:
    with pytest.raises(CannotRun, match=r"^ONNX Runtime does not run its graph \([^\n]+\)$"):
        held_against_torch(small, b"no graph", pixels(2, 160))


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert exporting.missing() == ""
    find = exporting.find_spec
    monkeypatch.setattr(exporting, "find_spec", lambda name: None if name == "onnxscript" else find(name))
    assert exporting.missing() == "onnxscript"
    assert exporting.missing("onnxruntime") == ""
