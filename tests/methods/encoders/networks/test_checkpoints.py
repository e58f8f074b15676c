import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from methods.encoders.base import BadFile, HeadClasses
from methods.encoders.classifier import Classifier
from methods.encoders.networks import checkpoints, cifar
from methods.encoders.registry import create

LIKE = torch.nn.Linear(2, 1)
METADATA = {"mean": "[0.5, 0.5, 0.5]", "std": "[0.25, 0.25, 0.25]"}


class Touch:
    """Unpickled, it leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("suffix", [".pth", ".th", ".safetensors"])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_runs_code_is_refused(tmp_path: Path, suffix: str, zipped: bool) -> None:
    path, marker = tmp_path / f"evil{suffix}", tmp_path / "code_ran"
    if zipped:
        torch.save({"state_dict": Touch(marker)}, path)
    else:
        path.write_bytes(pickle.dumps(Touch(marker)))
    encoder = create("classifier", architecture="resnet20", checkpoint="evil")
    found = encoder.find_weights(tmp_path)
    assert found == path
    with pytest.raises(ValueError, match=rf"evil\{suffix}") as caught:
        encoder.open(found)
    assert "\n" not in str(caught.value)
    assert not marker.exists()


@pytest.mark.parametrize("content", [b"", b"not weights", b"\xff" * 64, b"\x08\0\0\0\0\0\0\0{}", b"\x80\x02."])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_broken_file_is_named(tmp_path: Path, content: bytes, suffix: str) -> None:
    path = tmp_path / f"broken{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"broken\.") as caught:
        checkpoints.read(path, LIKE)
    assert "\n" not in str(caught.value)


def test_a_page_in_the_place_of_weights_is_no_code(tmp_path: Path) -> None:
    path = tmp_path / "network.pth"
    path.write_bytes(b"<html><body>404</body></html>")
    with pytest.raises(ValueError, match=r"network.pth cannot be read as weights .*: get the file again"):
        checkpoints.read(path, LIKE)


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "short.safetensors"
    save_file({"a": torch.zeros(100)}, path)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ValueError, match=r"short.safetensors cannot be read as weights"):
        checkpoints.read(path, LIKE)


@pytest.mark.parametrize("content", [[1, 2], {"a": 1}, {"state_dict": {"a": "b"}}, {1: torch.zeros(1)}])
def test_what_is_no_state_dict_is_named(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(ValueError, match=r"x.pth holds no state dict"):
        checkpoints.read(tmp_path / "x.pth", LIKE)


def test_a_training_checkpoint_is_reduced_to_its_weights(tmp_path: Path) -> None:
    state = {"module.weight": torch.ones(1, 2), "module.bias": torch.zeros(1)}
    torch.save({"state_dict": state, "epoch": 3, "mean": [0.1, 0.2, 0.3], "std": [1, 1, 1]}, tmp_path / "x.th")
    read, metadata = checkpoints.read(tmp_path / "x.th", LIKE)
    assert {name: tensor.tolist() for name, tensor in read.items()} == {"weight": [[1, 1]], "bias": [0]}
    assert checkpoints.normalisation(metadata, tmp_path / "x.th") == ((0.1, 0.2, 0.3), (1, 1, 1))


@pytest.mark.parametrize(
    "metadata",
    [
        {"mean": "[0.5, 0.5, 0.5]"},
        {"mean": "[0.5]", "std": "[0.5]"},
        {"mean": "[0.5, 0.5, 0.5]", "std": "[0.5, 0.0, 0.5]"},
        {"mean": "[0.5, NaN, 0.5]", "std": "[0.5, 0.5, 0.5]"},
        {"mean": "__import__('os')", "std": "[0.5, 0.5, 0.5]"},
        {"mean": "0.5", "std": "0.5"},
        {"mean": "[125.3, 123.0, 113.9]", "std": "[63.0, 62.1, 66.7]"},  # of pixels from 0 to 255
        {"mean": "[-0.1, 0.5, 0.5]", "std": "[0.5, 0.5, 0.5]"},
        {"mean": "[true, 0.5, 0.5]", "std": "[0.5, 0.5, 0.5]"},
        {"mean": f"[{10**400}, 0.5, 0.5]", "std": "[0.5, 0.5, 0.5]"},
        {"mean": "[" * 100_000, "std": "[0.5, 0.5, 0.5]"},
    ],
    ids=range(11),
)
def test_a_header_with_an_impossible_mean_or_std_is_named(metadata: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"x.safetensors: mean .*(std above 0|not of pixels from 0 to 1)"):
        checkpoints.normalisation(metadata, Path("x.safetensors"))


def test_a_checkpoint_that_does_not_fit_says_where(tmp_path: Path) -> None:
    state = cifar.build("resnet20", 10).state_dict()
    state["conv1.weight"] = torch.zeros(16, 1, 3, 3)
    del state["layer3.2.bn2.bias"]
    state |= {f"extra{i}": torch.zeros(1) for i in range(5)}
    save_file(state, tmp_path / "odd.safetensors", metadata=METADATA)
    encoder = create("classifier", architecture="resnet20", checkpoint="odd")
    with pytest.raises(ValueError) as caught:
        encoder.open(encoder.find_weights(tmp_path))
    message = str(caught.value)
    assert "\n" not in message
    for part in (
        "odd.safetensors does not fit resnet20",
        "1 missing (layer3.2.bn2.bias)",
        "5 unexpected (extra0, extra1, extra2, ...)",
        "1 wrong shape (conv1.weight (16, 1, 3, 3) for (16, 3, 3, 3))",
    ):
        assert part in message


def test_safetensors_come_first(tmp_path: Path) -> None:
    for suffix in (".th", ".pth", ".safetensors"):
        (tmp_path / f"x{suffix}").touch()
        assert checkpoints.find(tmp_path, "x") == tmp_path / f"x{suffix}"
    assert checkpoints.find(tmp_path, "y", "x") == tmp_path / "x.safetensors"
    assert checkpoints.find(tmp_path, "y") is None
    assert checkpoints.find(None, "x") is None


def state_of(**changes: torch.Tensor) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {**cifar.build("resnet8", 4).state_dict(), **changes}


def opened(path: Path, state: dict[str, torch.Tensor], **header: str) -> Classifier:
    save_file(state, path, {**METADATA, **header})
    encoder = create("classifier", architecture="resnet8").open(path)
    assert isinstance(encoder, Classifier)
    return encoder


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_usual_floating_point_numbers_are_read(tmp_path: Path, dtype: torch.dtype) -> None:
    state = {key: value.to(dtype) if value.is_floating_point() else value for key, value in state_of().items()}
    head = opened(tmp_path / "x.safetensors", state).head
    assert head is not None
    assert torch.equal(head.weight, state["linear.weight"].float())


@pytest.mark.parametrize(
    "dtype", [torch.int8, torch.bool, torch.uint8, torch.int64, torch.complex64, torch.float8_e4m3fn]
)
def test_weights_that_are_no_floating_point_numbers_are_refused_by_name(tmp_path: Path, dtype: torch.dtype) -> None:
    kind = str(dtype).removeprefix("torch.")
    state = state_of()
    state["conv1.weight"] = state["conv1.weight"].to(dtype)
    torch.save({"state_dict": state, "mean": [0.5] * 3, "std": [0.5] * 3}, tmp_path / "x.pth")
    with pytest.raises(ValueError, match=rf"x.pth does not fit resnet8: 1 wrong type \(conv1.weight {kind} "):
        create("classifier", architecture="resnet8").open(tmp_path / "x.pth")


def test_a_sparse_weight_and_a_counter_of_another_type_are_refused(tmp_path: Path) -> None:
    for name, value in (
        ("linear.weight", state_of()["linear.weight"].to_sparse()),
        ("bn1.num_batches_tracked", torch.tensor(1.0)),
    ):
        torch.save({"state_dict": state_of(**{name: value}), "mean": [0.5] * 3, "std": [0.5] * 3}, tmp_path / "x.pth")
        with pytest.raises(ValueError, match=r"x.pth (holds more than plain tensors|.*wrong type \(bn1.num_batches)"):
            create("classifier", architecture="resnet8").open(tmp_path / "x.pth")


@pytest.mark.parametrize(
    ("name", "value", "fault"),
    [
        ("conv1.weight", torch.full((16, 3, 3, 3), torch.nan), "not finite"),
        ("linear.bias", torch.tensor([0.0, 0.0, torch.inf, 0.0]), "not finite"),
        ("bn1.running_mean", torch.full((16,), -torch.inf), "not finite"),
        ("bn1.bias", torch.full((16,), 1e300, dtype=torch.float64), "not finite"),  # in float32
        ("bn1.running_var", torch.full((16,), -1e-3), "below 0"),
    ],
)
def test_weights_that_give_no_number_are_refused(tmp_path: Path, name: str, value: torch.Tensor, fault: str) -> None:
    with pytest.raises(ValueError, match=rf"x.safetensors does not fit resnet8: 1 {fault} \({name}\)"):
        opened(tmp_path / "x.safetensors", state_of(**{name: value}))


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "net.", "_orig_mod.module.", "model._orig_mod."])
@pytest.mark.parametrize("container", [None, "state_dict", "model", "net"])
def test_what_wrappers_put_before_the_names_is_read(tmp_path: Path, prefix: str, container: str | None) -> None:
    own = state_of()
    state = {f"{prefix}{name}": value for name, value in own.items() if not name.endswith("num_batches_tracked")}
    beside = {"loss.weight": torch.ones(4)}  # another module of the same training
    content = {**state, **beside} if container is None else {container: {**state, **beside}, "epoch": 3}
    torch.save(content, tmp_path / "x.pth")
    like = cifar.build("resnet8", 2)
    found, _ = checkpoints.read(tmp_path / "x.pth", like)
    network = cifar.build("resnet8", 4)
    checkpoints.load(network, found, name="resnet8", path=tmp_path / "x.pth")
    assert all(torch.equal(value, own[name]) for name, value in network.state_dict().items())


def test_names_of_classes_in_a_header_fit_the_head(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    encoder = opened(path, state_of(), classes='["a", "b", "c", "d"]', trained_on="letters")
    assert encoder.head_in(path) == HeadClasses(4, ("a", "b", "c", "d"), "letters")
    assert opened(path, state_of(), classes="4").head_in(path) == HeadClasses(4)  # a number, as many files have it
    for classes in ('["a", "b"]', '["a", "a", "b", "c"]'):
        with pytest.raises(ValueError, match=r"`classes` in the header are \d different names for 4 outputs"):
            opened(path, state_of(), classes=classes)


@pytest.mark.parametrize("kind", ["fifo", "device", "dangling", "self"])
def test_what_is_no_regular_file_is_neither_weights_nor_absent(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.pth"
    if kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to({"device": "/dev/zero", "dangling": "nowhere", "self": path}[kind])
    for name in ("x", "x.pth"):
        with pytest.raises(BadFile, match=r"x.pth (cannot be opened|is a)"):
            create("classifier", checkpoint=name).find_weights(tmp_path)
