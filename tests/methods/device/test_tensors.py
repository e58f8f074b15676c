"""Crafted files of weights: each small, and none of them may take memory, run code or give a number."""

import io
import json
import os
import pickle
import resource
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from methods.device import tensors
from methods.encoders.registry import create
from tests.apart import Apart

MIB = 1 << 20


def probe(paths: tuple[Path, ...]) -> None:
    """Print what is said of each file, and by how many MiB the process grew; it may have 2 GiB more than it has."""
    encoder = create("classifier", architecture="resnet8")
    before = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (before + (2 << 30),) * 2)
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for path in paths:
        try:
            encoder.open(path)
        except ValueError as error:
            print(error)
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - rss) >> 10)


def refused(folder: Path, *paths: Path) -> list[str]:
    """What a process of 2 GiB says of each file, one line each, with at most 300 MiB in memory and in a minute."""
    status, said, errors = Apart(lambda: probe(paths), folder).wait(60)
    assert status == 0, errors[-2000:]
    *messages, peak = said.splitlines()
    assert int(peak) < 300, f"{peak} MiB"
    assert [path.name in message for path, message in zip(paths, messages, strict=True)] == [True] * len(paths)
    return messages


def saved(path: Path, content: object, **how: bool) -> Path:
    torch.save(content, path, **how)
    return path


def zipped(path: Path, *, compression: int = zipfile.ZIP_STORED, **change: bytes) -> Path:
    """The zip of `torch.save`, its entries as `change` has them."""
    whole = io.BytesIO()
    torch.save({"a": torch.zeros(2)}, whole)
    with zipfile.ZipFile(whole) as before, zipfile.ZipFile(path, "w", compression) as after:
        for entry in before.infolist():
            kind = entry.filename.rpartition("/")[2].replace(".", "_")
            after.writestr(entry.filename, change.get(kind, before.read(entry)))
    return path


def bytearray_of(count: int) -> bytes:
    """A pickle that asks for so many bytes, by a name that torch allows."""
    return b"\x80\x02cbuiltins\nbytearray\n(J" + struct.pack("<i", count) + b"tR."


def bomb(path: Path) -> Path:
    """A zip of less than a MiB that unpacks to 400."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb/data.pkl", pickle.dumps(OrderedDict(), 2))
        with archive.open("bomb/data/0", "w") as entry:
            for _ in range(400):
                entry.write(bytes(MIB))
    return path


def wide(path: Path) -> Path:
    """A head of one number that is seen a billion times: 12.8 GB once it is copied."""
    weight = torch.zeros(1).expand(25_000_000, 64)
    state = {"linear.weight": weight, "linear.bias": torch.zeros(1).expand(25_000_000)}
    return saved(path, {"state_dict": state, "mean": [0.5] * 3, "std": [0.5] * 3})


def greedy(path: Path) -> Path:
    """The old form, whose pickle asks for 1.9 GB."""
    saved(path, {"a": 1}, _use_new_zipfile_serialization=False)
    stream = io.BytesIO(path.read_bytes())
    for _ in range(3):
        pickle.load(stream)
    path.write_bytes(stream.getvalue()[: stream.tell()] + bytearray_of(1_900_000_000))
    return path


def sparse(path: Path, size: int, start: bytes = b"") -> Path:
    with path.open("wb") as file:
        file.write(start)
        file.truncate(size)
    return path


def test_small_files_that_ask_for_gigabytes_are_refused_before_they_get_them(tmp_path: Path) -> None:
    said = {
        bomb(tmp_path / "bomb.pth"): "unpacks to 419,4",
        wide(tmp_path / "wide.pth"): "has a head of 25,000,000 classes",
        zipped(tmp_path / "greedy.pth", data_pkl=bytearray_of(1_900_000_000)): "holds more than plain tensors",
        greedy(tmp_path / "old.pth"): "holds more than plain tensors",
        sparse(
            tmp_path / "a.safetensors", 60 * MIB + 8, struct.pack("<Q", 60 * MIB)
        ): "has a header of 62,914,560 bytes",
        sparse(tmp_path / "b.safetensors", 1 << 40): "has 1,099,511,627,776 bytes; at most",
        sparse(tmp_path / "b.pth", 1 << 40): "has 1,099,511,627,776 bytes; at most",
    }
    for message, wanted in zip(refused(tmp_path, *said), said.values(), strict=True):
        assert wanted in message


def test_what_an_ordinary_training_keeps_is_read(tmp_path: Path) -> None:
    """Weights, their average and an optimiser's two moments: four times the network."""
    network = nn.Linear(1000, 1000)
    weights = network.state_dict()
    torch.save({"state_dict": weights, "ema": weights, "m": weights, "v": weights}, tmp_path / "x.pth")
    found, _ = tensors.read(tmp_path / "x.pth", tensors.room(network))
    assert torch.equal(found["state_dict"]["weight"], weights["weight"])
    assert tensors.room(network) == 8 * 8 * 1_001_000 + 64 * MIB


@pytest.mark.parametrize("place", [200, -200])
def test_a_flipped_bit_in_a_zip_is_found(tmp_path: Path, place: int) -> None:
    path = saved(tmp_path / "x.pth", {"a": torch.arange(4096.0)})
    content = bytearray(path.read_bytes())
    content[len(content) // 2 + place] ^= 4
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"x.pth is damaged"):
        tensors.read(path, MIB)


@pytest.mark.parametrize("kind", ["fifo", "folder", "device"])
def test_only_regular_files_are_read(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.pth"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(ValueError, match=r"x.pth is a .*, not a regular file"):
        tensors.read(path, MIB)


@pytest.mark.parametrize(
    "content",
    [b"\x80\x02cos\nsystem\n(X\x02\0\0\0lstR.", b"\x80\x04\x8c\x02os\x8c\x06system\x93.", b"PK\x03\x04" + bytes(400)],
)
def test_no_advice_of_torch_is_passed_on(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(ValueError, match=r"x.pth") as caught:
        tensors.read(tmp_path / "x.pth", MIB)
    said = str(caught.value)
    assert "weights_only" not in said
    assert "\n" not in said
    assert len(said) < len(str(tmp_path)) + 200


def test_the_header_alone(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "x.safetensors", {"trained_on": "cifar10"})
    assert tensors.header(tmp_path / "x.safetensors") == {"trained_on": "cifar10"}
    for name, content in (("y.pth", b"PK\x03\x04" + bytes(99)), ("z.safetensors", json.dumps([1]).encode())):
        (tmp_path / name).write_bytes(content)
        assert tensors.header(tmp_path / name) == {}
    assert tensors.header(tmp_path / "absent") == {}
