"""Features in files: each form read as what it is, and one line for each that cannot be right."""

import io
import os
import zipfile

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch

from datasets import arrays, features, sources
from datasets.features import FeatureFile, FeatureSet
from datasets.labelled import labelled

N, D, K = 50, 6, 3
RNG = np.random.default_rng(0)
ARRAYS = {
    "embedding": RNG.normal(size=(N, D)).astype(np.float32),
    "logits": RNG.normal(size=(N, K)).astype(np.float32),
    "layers": RNG.normal(size=(N, 5)).astype(np.float32),
    "layer_sizes": np.array([2, 3]),
    "labels": np.arange(N) % K,
}


def npz(path, **arrays):
    np.savez(path.with_suffix(".npz"), **arrays)
    return path.with_suffix(".npz")


def compressed(path, **arrays):
    np.savez_compressed(path.with_suffix(".npz"), **arrays)
    return path.with_suffix(".npz")


def tensors(path, **arrays):
    save_file({name: np.ascontiguousarray(values) for name, values in arrays.items()}, path.with_suffix(".safetensors"))
    return path.with_suffix(".safetensors")


def folder(path, **arrays):
    path.mkdir()
    for name, values in arrays.items():
        np.save(path / f"{name}.npy", values)
    return path


FORMS = (npz, compressed, tensors, folder)


def read(path, rows=None):
    blocks = list(FeatureFile.of(path).blocks(rows))
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


def found(path):
    return sources.find(str(path), "test", None)


@pytest.mark.parametrize("write", FORMS)
def test_every_form_gives_its_rows(write, tmp_path, monkeypatch):
    monkeypatch.setattr(features, "BLOCK_ROWS", 7)
    path = write(tmp_path / "mine", **ARRAYS)
    images = found(path)
    assert (images.name, len(images), images.features.layer_sizes) == ("mine", N, (2, 3))
    assert images.features.widths == {"embedding": D, "logits": K, "layers": 5}
    assert np.array_equal(images.labels, ARRAYS["labels"])
    assert not images.named
    rows = np.array([0, 3, 20, 21, 48, 49])
    for name in features.FEATURES:
        assert np.array_equal(read(path)[name], ARRAYS[name])
        assert np.array_equal(read(path, rows)[name], ARRAYS[name][rows])
        assert all(len(block[name]) <= 7 for block in images.features.blocks())


@pytest.mark.parametrize(
    ("write", "kind"),
    [*((write, kind) for write in FORMS for kind in (np.float16, np.float64)), (npz, ">f4"), (folder, ">f4")],
)
def test_other_floats_are_read_as_float32(write, kind, tmp_path):
    values = ARRAYS["embedding"].astype(kind)
    assert np.array_equal(read(write(tmp_path / "mine", embedding=values))["embedding"], values.astype(np.float32))


@pytest.mark.parametrize("write", [npz, compressed, folder])
def test_arrays_that_lie_column_by_column(write, tmp_path):
    path = write(tmp_path / "mine", embedding=np.asfortranarray(ARRAYS["embedding"]))
    assert np.array_equal(read(path, np.array([4, 30]))["embedding"], ARRAYS["embedding"][[4, 30]])


def test_texts_are_class_names_in_the_order_of_texts(tmp_path):
    texts = np.array(["10", "2", "0", "1", "10"])
    images = found(npz(tmp_path / "mine", embedding=ARRAYS["embedding"][:5], labels=texts))
    assert images.classes == ("0", "1", "10", "2")
    assert [images.classes[label] for label in images.labels] == texts.tolist()


def test_rows_without_a_label_are_left_out_of_an_id_set(tmp_path):
    labels = np.where(np.arange(N) % 5 == 0, -1, ARRAYS["labels"])
    images = labelled(found(npz(tmp_path / "mine", embedding=ARRAYS["embedding"], labels=labels)))
    kept = np.flatnonzero(labels >= 0)
    blocks = list(images.features.blocks(np.array([1, 2, 39])))
    assert len(images) == len(kept)
    assert np.array_equal(np.concatenate([b["embedding"] for b in blocks]), ARRAYS["embedding"][kept[[1, 2, 39]]])


def test_the_same_rows_have_the_same_digests_whatever_the_form(tmp_path):
    sets = [found(write(tmp_path / write.__name__, **ARRAYS)) for write in FORMS]
    half = found(npz(tmp_path / "half", embedding=ARRAYS["embedding"][N // 2 :].astype(np.float64)))
    for images in sets:
        assert np.array_equal(images.digests, sets[0].digests)
        assert np.array_equal(images.digests[N // 2 :], half.digests)
    assert len(set(sets[0].digests.tolist())) == N


def test_the_fingerprint_covers_every_file_and_no_place(tmp_path):
    one = folder(tmp_path / "one", **ARRAYS)
    before = found(one).fingerprint
    os.rename(one, tmp_path / "two")
    assert found(tmp_path / "two").fingerprint == before
    np.save(tmp_path / "two" / "logits.npy", ARRAYS["logits"] + 1)
    assert found(tmp_path / "two").fingerprint != before


def test_keys_that_are_not_read_are_told_and_never_opened(tmp_path):
    path = npz(tmp_path / "mine", embedding=ARRAYS["embedding"], files=np.array([{"a": 1}], dtype=object))
    assert found(path).notes == ("keys that are not read: files",)


BROKEN = {
    "none": ({"vectors": ARRAYS["embedding"]}, "holds none of embedding, logits, layers, but vectors"),
    "rows": (
        {"embedding": ARRAYS["embedding"], "logits": ARRAYS["logits"][1:]},
        "embedding has 50 rows, logits has 49",
    ),
    "flat": ({"embedding": ARRAYS["embedding"][0]}, r"embedding is \(6,\); it must be \(rows, columns\)"),
    "deep": ({"embedding": np.zeros((4, 2, 2), np.float32)}, r"embedding is \(4, 2, 2\)"),
    "empty": ({"embedding": np.zeros((0, 4), np.float32)}, "holds no rows|cannot be read|holds no array"),
    "thin": ({"embedding": np.zeros((4, 0), np.float32)}, r"it must be \(rows, columns\)|holds no array"),
    "whole": ({"embedding": np.ones((4, 2), np.int64)}, "embedding is int64; float16, float32 and float64 are read"),
    "halves": ({"layers": ARRAYS["layers"]}, "holds layers and no layer_sizes"),
    "sizes": (
        {"layers": ARRAYS["layers"], "layer_sizes": np.array([2, 2])},
        r"\(2, 2\) do not add up to the 5 columns",
    ),
    "minus": ({"layers": ARRAYS["layers"], "layer_sizes": np.array([6, -1])}, "do not add up"),
    "part": ({"layers": ARRAYS["layers"], "layer_sizes": np.array([2.0, 3.0])}, "layer_sizes is float64"),
    "labels": (
        {"embedding": ARRAYS["embedding"], "labels": np.zeros(3, int)},
        r"labels are \(3,\); it must be \(50,\)",
    ),
}


@pytest.mark.parametrize("write", FORMS)
@pytest.mark.parametrize("name", BROKEN)
def test_what_cannot_be_right_is_told_in_one_line(write, name, tmp_path):
    arrays, said = BROKEN[name]
    path = write(tmp_path / "mine", **arrays)
    with pytest.raises(ValueError, match=said) as raised:
        FeatureSet("mine", "test", path, title="mine")
    assert str(raised.value).startswith(str(path))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("write", FORMS)
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_the_first_number_that_is_none_is_named(write, value, tmp_path, monkeypatch):
    monkeypatch.setattr(features, "BLOCK_ROWS", 7)
    values = ARRAYS["embedding"].astype(np.float64)
    values[[31, 40], 2] = value
    path = write(tmp_path / "mine", logits=ARRAYS["logits"], embedding=values)
    with pytest.raises(ValueError, match=rf"{path.name}: embedding of row 31 \(from 0\) is NaN or infinite"):
        found(path)


@pytest.mark.parametrize(
    ("labels", "fault"), [([0, -2], "a label is -2"), ([0.5, 1], "fractions"), ([1e9, 0], "a label is")]
)
def test_labels_that_cannot_be_are_a_fault_of_the_set(labels, fault, tmp_path):
    images = found(npz(tmp_path / "mine", embedding=ARRAYS["embedding"][:2], labels=np.array(labels)))
    assert fault in images.fault
    assert (images.labels == -1).all()


class Bomb:
    def __reduce__(self):
        return (os.system, ("touch /tmp/never",))


@pytest.mark.parametrize("write", [npz, folder])
@pytest.mark.parametrize("key", ["labels", "embedding"])
def test_nothing_is_unpickled(write, key, tmp_path):
    arrays = {"embedding": ARRAYS["embedding"], key: np.array([Bomb()] * N, dtype=object)}
    with pytest.raises(ValueError, match=r"never loaded|embedding is object") as raised:
        found(write(tmp_path / "mine", **arrays))
    assert "\n" not in str(raised.value)
    assert not os.path.exists("/tmp/never")


def test_brain_floats_are_refused_by_name(tmp_path):
    save_torch({"embedding": torch.zeros((4, 2), dtype=torch.bfloat16)}, tmp_path / "mine.safetensors")
    with pytest.raises(ValueError, match="embedding is bfloat16; float16, float32 and float64 are read"):
        found(tmp_path / "mine.safetensors")


@pytest.mark.parametrize("write", FORMS)
@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.99])
def test_torn_files_are_told(write, share, tmp_path):
    path = write(tmp_path / "mine", embedding=ARRAYS["embedding"])
    file = path / "embedding.npy" if write is folder else path
    file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
    with pytest.raises(ValueError, match=rf"^{path}") as raised:
        found(path)
    assert "\n" not in str(raised.value)


def test_a_flipped_byte_in_an_archive_is_told(tmp_path):
    path = npz(tmp_path / "mine", embedding=ARRAYS["embedding"])
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="cannot be read as features"):
        found(path)


def test_an_archive_that_unpacks_to_too_much_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(arrays, "WHOLE_BYTES", 1 << 20)
    path = compressed(tmp_path / "mine", embedding=np.zeros((1 << 12, 1 << 8), np.float64))
    with pytest.raises(ValueError, match=r"unpacks to 8,388,736: these are no features"):
        found(path)


def test_a_header_that_promises_more_than_there_is(tmp_path):
    header = io.BytesIO()
    shape = {"descr": "<f4", "fortran_order": False, "shape": (10**12, 4)}
    np.lib.format.write_array_header_1_0(header, shape)
    with zipfile.ZipFile(tmp_path / "mine.npz", "w") as archive:
        archive.writestr("embedding.npy", header.getvalue() + bytes(64))
    with pytest.raises(ValueError, match="not as long as it says"):
        found(tmp_path / "mine.npz")


def test_a_fifo_is_never_waited_for(tmp_path):
    os.mkfifo(tmp_path / "mine.npz")
    with pytest.raises(ValueError, match="is a fifo, not a regular file"):
        found(tmp_path / "mine.npz")


def test_a_split_that_is_there_twice_is_refused(tmp_path):
    npz(tmp_path / "train", embedding=ARRAYS["embedding"])
    tensors(tmp_path / "train", embedding=ARRAYS["embedding"])
    with pytest.raises(ValueError, match=r"holds train twice: train\.npz, train\.safetensors; keep one"):
        sources.find(str(tmp_path), "train", None)
