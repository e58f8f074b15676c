import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

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
