"""Whatever is done to the small files of the store: a miss, told in a line, or what was written; nothing else."""

import json
import os
import shutil
from io import BytesIO

import numpy as np
import pytest
import torch

from benchmark.store import arrays, files
from benchmark.store.chunks import ChunkWriter
from benchmark.store.entries import Store
from benchmark.store.markers import MARKER, crc_of

KEY, OTHER = "ab" + "0" * 62, "ab" + "1" * 62
SCORES = np.arange(8, dtype=np.float32)


@pytest.fixture
def said():
    return []


@pytest.fixture
def store(tmp_path, said):
    store = Store(tmp_path / "cache", say=said.append)
    store.put("score", KEY, arrays={"scores": SCORES}, tensors={}, meta={"seconds": 1.5})
    return store


def again(store):
    """The store as another process sees it, which has verified nothing yet."""
    return Store(store.root, say=store._say)


@pytest.mark.parametrize("name", [MARKER, "scores.npy", "state.safetensors"])
def test_every_flipped_bit_of_an_entry_is_found(store, said, name):
    path = store.folder("score", KEY) / name
    content = path.read_bytes()
    for place in range(0, len(content), 3):
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(bytes(damaged))
        assert not again(store).has("score", KEY), (place, damaged)
    path.write_bytes(content)
    assert again(store).has("score", KEY)
    assert all(line.startswith("note: ") and "\n" not in line for line in said)


def test_an_entry_under_another_key_is_a_miss(store, said):
    shutil.copytree(store.folder("score", KEY), store.folder("score", OTHER))
    assert not store.has("score", OTHER)
    assert "another entry" in said[0]
    shutil.copytree(store.folder("score", KEY), store.folder("fit", KEY))
    assert not store.has("fit", KEY)


def test_a_marker_of_an_older_version_is_a_miss(store, said):
    path = store.folder("score", KEY) / MARKER
    marker = json.loads(path.read_text())
    del marker["checksum"]
    path.write_text(json.dumps(marker))
    assert not again(store).has("score", KEY)
    assert "older version" in said[0]


def test_what_an_older_version_left_is_told_once_with_its_size(tmp_path, said):
    old = tmp_path / "cache" / "score" / "ab" / KEY
    old.mkdir(parents=True)
    (old / "scores.npy").write_bytes(bytes(3 << 20))
    for _ in range(2):
        Store(tmp_path / "cache", say=said.append).welcome()
    assert len(said) == 1
    assert "1 entries (3 MiB) of an older version" in said[0]
    assert "find " in said[0]


@pytest.mark.parametrize("kind", ["fifo", "folder", "link", "deep", "huge"])
@pytest.mark.parametrize("name", [MARKER, "scores.npy"])
def test_what_is_no_file_of_ours_is_a_miss_and_replaced(store, tmp_path, kind, name):
    path = store.folder("score", KEY) / name
    secret = tmp_path / "secret"
    secret.write_bytes(path.read_bytes())
    before = secret.read_bytes()
    path.unlink()
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "link":
        path.symlink_to(secret)
    elif kind == "deep":
        path.write_text("[" * 100_000)
    else:
        path.touch()
        os.truncate(path, 1 << 40)
    other = again(store)
    assert other.has("score", KEY) is (kind == "link" and name == MARKER)  # it is read through a link, never written
    other.put("score", KEY, arrays={"scores": SCORES}, meta={})
    assert again(store).has("score", KEY)
    assert secret.read_bytes() == before


@pytest.mark.parametrize("where", ["score", "score/ab", f"score/ab/{KEY}", f"score/ab/{KEY}.partial", "locks", "work"])
def test_a_file_where_a_folder_belongs_makes_way(tmp_path, where):
    root = tmp_path / "cache"
    (root / where).parent.mkdir(parents=True)
    (root / where).write_text("in the way")
    store = Store(root)
    assert not store.has("score", KEY)
    with store.lock(KEY):
        store.workdir(KEY)
        store.put("score", KEY, arrays={"scores": SCORES}, meta={})
    assert again(store).has("score", KEY)


@pytest.mark.parametrize("kind", ["link", "second name", "fifo", "folder"])
def test_a_lock_is_never_written_through_a_link(store, tmp_path, kind):
    secret = tmp_path / "secret"
    secret.write_text("mine")
    (store.root / "locks").mkdir()
    path = store.root / "locks" / f"{KEY}.lock"
    if kind == "link":
        path.symlink_to(secret)
    elif kind == "second name":
        path.hardlink_to(secret)
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.mkdir()
    with store.lock(KEY):
        pass
    assert secret.read_text() == "mine"


def test_a_partial_entry_that_is_a_link_is_not_written_into(store, tmp_path):
    (tmp_path / "theirs").mkdir()
    store.partial("score", OTHER).symlink_to(tmp_path / "theirs")
    ChunkWriter(store, "score", OTHER, 8).append({"scores": SCORES})
    store.partial("score", OTHER + "0").symlink_to(tmp_path / "theirs")
    store.put("score", OTHER + "0", arrays={"scores": SCORES}, meta={})
    assert list((tmp_path / "theirs").iterdir()) == []


def test_every_flipped_bit_of_a_journal_is_found(store, said):
    rows = np.arange(24, dtype=np.float32).reshape(12, 2)

    def write(stop):
        writer = ChunkWriter(store, "encode", KEY, 12)
        for at in range(writer.position, stop, 4):
            writer.append({"embedding": rows[at : at + 4]})
        return writer

    write(8)
    folder = store.partial("encode", KEY)
    kept = {path.name: path.read_bytes() for path in folder.iterdir()}
    for place in range(0, len(kept["journal"]), 5):
        damaged = bytearray(kept["journal"])
        damaged[place] ^= 1 << place % 8
        for name, content in kept.items():
            (folder / name).write_bytes(content)
        (folder / "journal").write_bytes(bytes(damaged))
        position = ChunkWriter(again(store), "encode", KEY, 12).position
        assert position in (0, 4), place
        assert said.pop().endswith(f"its journal is damaged behind row {position}")
    write(12).finish(arrays={}, tensors={}, meta={})
    np.testing.assert_array_equal(store.arrays("encode", KEY)["embedding"], rows)


def test_a_journal_of_another_entry_is_not_taken(store):
    ChunkWriter(store, "encode", KEY, 16).append({"embedding": SCORES[:, None]})
    store.partial("encode", KEY).rename(store.partial("encode", OTHER))
    assert ChunkWriter(store, "encode", OTHER, 16).position == 0


@pytest.mark.parametrize("dtype", ["object", "structured", "text"])
def test_what_holds_no_numbers_is_a_miss(store, dtype):
    values = {
        "object": np.array([{}, {}], dtype=object),
        "structured": np.zeros(8, dtype=[("a", "f4")]),
        "text": np.array(["a", "b"]),
    }[dtype]
    folder = store.folder("score", KEY)
    np.save(folder / "scores.npy", values, allow_pickle=True)
    marker = files.read_sealed(folder / MARKER)
    path = folder / "scores.npy"
    marker["files"]["scores.npy"] = {"bytes": path.stat().st_size, "crc32": crc_of(path)}
    (folder / MARKER).write_text(files.text(files.sealed(marker)))
    assert not again(store).has("score", KEY)


def test_a_header_that_promises_more_than_there_is_takes_no_memory(tmp_path):
    file = BytesIO()
    arrays.write_header(file, np.zeros(1), 10**15)
    with pytest.raises(ValueError, match="no array"):
        arrays.parse(file.getvalue(), "scores.npy")


def test_leftovers_of_killed_writes_go_and_those_of_live_ones_stay(tmp_path):
    (tmp_path / "records").mkdir()
    left = tmp_path / "records" / ".a.json.123.tmp"
    left.write_text("half")
    with files.replacing(tmp_path / "records" / "b.json") as file:
        file.write(b"whole")
        files.sweep(tmp_path)
    assert [path.name for path in (tmp_path / "records").iterdir()] == ["b.json"]


def test_a_folder_that_is_a_link_to_another_of_ours_is_one_of_its_own_again(tmp_path):
    """Two rows whose scores lie in one folder wrote over each other's in each run."""
    ours, disk = tmp_path / "results", tmp_path / "disk"
    for folder in (ours / "scores" / "b", disk):
        folder.mkdir(parents=True)
    (ours / "scores" / "a").symlink_to("b")
    (ours / "records").symlink_to(disk)  # to a larger disk, which is somebody's wish
    for name in ("scores/a", "scores/b", "records/a"):
        files.write_atomically(ours / name / "x", name, within=ours)
    assert [(ours / name / "x").read_text() for name in ("scores/a", "scores/b")] == ["scores/a", "scores/b"]
    assert (disk / "a" / "x").read_text() == "records/a"


def test_a_write_replaces_a_link_and_not_what_it_points_to(tmp_path):
    secret, path = tmp_path / "secret", tmp_path / "record.json"
    secret.write_text("mine")
    path.symlink_to(secret)
    (tmp_path / f".record.json.{os.getpid()}.tmp").symlink_to(secret)
    files.write_atomically(path, "ours")
    assert (secret.read_text(), path.read_text(), path.is_symlink()) == ("mine", "ours", False)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("I/O error (os error 28)")])
def test_a_full_disk_is_known_whoever_tells(error):
    assert files.is_full(error)
    assert not files.is_full(OSError(13, "Permission denied"))


def test_a_disk_that_is_full_while_torch_writes_is_full(tmp_path):
    """Its own error, which speaks of positions, comes on top of the system's."""

    class Disk(BytesIO):
        def write(self, content):
            if self.tell() + len(content) > 1000:
                raise OSError(28, "No space left on device")
            return super().write(content)

    with pytest.raises(RuntimeError, match="unexpected pos") as caught:
        torch.save({"a": torch.zeros(1000)}, Disk())
    assert files.is_full(caught.value)
