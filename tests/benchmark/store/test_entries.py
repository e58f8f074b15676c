"""What must stay true of the store: an entry is whole or it is not there, whatever was killed or damaged."""

import json
import multiprocessing
import os

import numpy as np
import pytest
import torch

from benchmark.store import files
from benchmark.store.chunks import ChunkWriter
from benchmark.store.entries import Busy, Store
from benchmark.store.files import write_atomically
from benchmark.store.markers import MARKER

KEY = "ab" + "0" * 62
ROWS = np.arange(60, dtype=np.float32).reshape(20, 3)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "cache")


def put(store):
    store.put("score", KEY, arrays={"scores": ROWS}, tensors={"mean": torch.ones(3)}, meta={"seconds": 1.5})


def test_what_is_put_comes_back(store):
    assert not store.has("score", KEY)
    put(store)
    assert store.has("score", KEY)
    np.testing.assert_array_equal(store.arrays("score", KEY)["scores"], ROWS)
    assert torch.equal(store.tensors("score", KEY)["mean"], torch.ones(3))
    assert store.meta("score", KEY) == {"seconds": 1.5}


@pytest.mark.parametrize("settled", [0, 10**12])  # the file's times tell; it is too new for that
def test_a_marker_is_parsed_again_only_where_its_file_changed(store, monkeypatch, settled):
    parsed, before = [], files.parse
    monkeypatch.setattr(files, "SETTLED", settled)
    monkeypatch.setattr(files, "parse", lambda content: parsed.append(content) or before(content))
    put(store)
    for _ in range(3):
        store.meta("score", KEY)["seconds"] = 0
    assert store.meta("score", KEY) == {"seconds": 1.5}
    assert len(parsed) == 1
    (store.folder("score", KEY) / "scores.npy").unlink()  # what it lists is looked at each time
    assert not store.has("score", KEY)
    store.put("score", KEY, meta={"seconds": 2.5})
    assert store.meta("score", KEY) == {"seconds": 2.5}


def test_a_marker_that_changes_as_soon_as_it_is_written_is_seen(store):
    put(store)
    assert store.has("score", KEY)
    marker = store.folder("score", KEY) / MARKER
    marker.write_bytes(marker.read_bytes().replace(b"1.5", b"2.5"))  # as long as it was, within a tick of the clock
    assert not store.has("score", KEY)


@pytest.mark.parametrize(
    ("durable", "seconds", "at_once", "later"),
    [(True, None, 2, 2), (True, 3600.0, 2, 2), (True, 0.5, 0, 2), (False, 3600.0, 0, 0)],  # the array and the marker
)
def test_only_what_is_worth_a_wait_for_the_disk_is_flushed(store, monkeypatch, durable, seconds, at_once, later):
    flushed, flush = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: flushed.append(file) or flush(file))
    store.put("score", KEY, arrays={"scores": ROWS}, meta={"seconds": seconds}, durable=durable)
    assert len(flushed) == at_once
    store.flush()
    store.flush()  # nothing is left
    assert len(flushed) == later
    (store.folder("score", KEY) / "scores.npy").write_bytes(b"")  # as a disk that lost its power may have left it
    assert not Store(store.root).has("score", KEY)


def test_writing_into_a_loaded_array_does_not_reach_the_disk(store):
    put(store)
    store.arrays("score", KEY)["scores"][:] = -1
    np.testing.assert_array_equal(store.arrays("score", KEY)["scores"], ROWS)


@pytest.mark.parametrize(
    "damage", ["short", "changed byte", "no marker", "marker is no JSON", "file gone", "marker is a list"]
)
def test_a_damaged_entry_is_a_miss(store, damage):
    put(store)
    folder = store.folder("score", KEY)
    path, marker = folder / "scores.npy", folder / MARKER
    if damage == "short":
        os.truncate(path, path.stat().st_size - 4)
    elif damage == "changed byte":
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(bytes(content))
    elif damage == "no marker":
        marker.unlink()
    elif damage == "marker is no JSON":
        marker.write_text("{")
    elif damage == "marker is a list":
        marker.write_text("[]")
    else:
        path.unlink()
    again = Store(store.root)  # another process: nothing verified yet
    assert not again.has("score", KEY)
    put(again)
    assert again.has("score", KEY)
    np.testing.assert_array_equal(again.arrays("score", KEY)["scores"], ROWS)


def write_chunks(store, stop=20, start=None):
    writer = ChunkWriter(store, "encode", KEY, 20)
    for at in range(writer.position if start is None else start, stop, 4):
        writer.append({"embedding": ROWS[at : at + 4], "pixels": ROWS[at : at + 4].astype(np.uint8)})
    return writer


def finish(writer):
    writer.finish(arrays={"labels": np.arange(20)}, tensors={}, meta={"images": 20})


def test_chunks_make_one_array(store):
    finish(write_chunks(store))
    arrays = store.arrays("encode", KEY)
    np.testing.assert_array_equal(arrays["embedding"], ROWS)
    np.testing.assert_array_equal(arrays["pixels"], ROWS.astype(np.uint8))
    np.testing.assert_array_equal(arrays["labels"], np.arange(20))
    assert sorted(path.name for path in store.folder("encode", KEY).iterdir()) == [
        MARKER, "embedding.npy", "labels.npy", "pixels.npy", "state.safetensors",
    ]  # fmt: skip


@pytest.mark.parametrize(("stop", "rows_before"), [(0, 0), (4, 4), (12, 12), (20, 16)])
def test_a_killed_writer_goes_on_at_its_last_noted_chunk(store, stop, rows_before):
    write_chunks(store, stop=stop)
    assert not store.has("encode", KEY)
    writer = ChunkWriter(store, "encode", KEY, 20)
    assert writer.position == rows_before
    finish(write_chunks(store))
    np.testing.assert_array_equal(store.arrays("encode", KEY)["embedding"], ROWS)


@pytest.mark.parametrize(
    "damage", ["half a chunk more", "last chunk changed", "journal torn", "one file short", "zeros"]
)
def test_what_follows_the_last_whole_chunk_is_written_again(store, damage):
    write_chunks(store, stop=12)
    folder = store.partial("encode", KEY)
    path = folder / "embedding.npy"
    if damage == "half a chunk more":
        with path.open("ab") as file:
            file.write(b"\0" * 24)
    elif damage == "last chunk changed":
        content = bytearray(path.read_bytes())
        content[-3] ^= 7
        path.write_bytes(bytes(content))
    elif damage == "journal torn":
        text = (folder / "journal").read_text()
        (folder / "journal").write_text(text[:-9])
    elif damage == "one file short":
        os.truncate(path, path.stat().st_size - 5)
    else:
        size = path.stat().st_size
        os.truncate(path, size - 48)
        os.truncate(path, size)
    writer = ChunkWriter(store, "encode", KEY, 20)
    assert writer.position in ((12,) if damage == "half a chunk more" else (0, 8))
    finish(write_chunks(store))
    assert Store(store.root).has("encode", KEY)
    np.testing.assert_array_equal(store.arrays("encode", KEY)["embedding"], ROWS)


def test_an_incomplete_entry_cannot_be_finished(store):
    with pytest.raises(ValueError, match="12 of 20 rows"):
        finish(write_chunks(store, stop=12))
    assert not store.has("encode", KEY)


def _hold(root, ready, release):
    with Store(root).lock(KEY):
        ready.set()
        release.wait(20)


def test_a_lock_names_its_owner_and_dies_with_it(store):
    context = multiprocessing.get_context("fork")
    ready, release = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(store.root, ready, release))
    other.start()
    assert ready.wait(20)
    with pytest.raises(Busy, match=rf"process {other.pid} on .*, for \d+ s"), store.lock(KEY):
        pass
    store.forget_owner(KEY)  # who lives is not forgotten
    assert store.owner(KEY).pid == other.pid
    other.kill()  # not asked to let go
    other.join(20)
    store.forget_owner(KEY)
    assert store.owner(KEY) is None
    with store.lock(KEY):
        assert store.owner(KEY).pid == os.getpid()
    assert store.owner(KEY) is None


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "record.json"
    write_atomically(path, "before")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, json.dumps(list(range(1000))))
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_what_goes_on_is_told_how_the_chunks_before_were_made(tmp_path):
    rows = {"embedding": np.zeros((2, 3), np.float32)}
    begun = ChunkWriter(Store(tmp_path), "encode", KEY, 4)
    assert begun.about == {}
    begun.about = {"memory_format": "contiguous"}
    begun.append(rows)
    going_on = ChunkWriter(Store(tmp_path), "encode", KEY, 4)
    assert (going_on.position, going_on.about) == (2, {"memory_format": "contiguous"})
