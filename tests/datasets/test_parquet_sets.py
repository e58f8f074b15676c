import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pytest

from datasets import parquet
from datasets.sources import Missing, find, present


@pytest.mark.parametrize("form", [{}, {"column": "img"}, {"plain": True}, {"label": "fine_label"}])
def test_what_was_written_is_read(tmp_path, noise, png, write_parquet, entry, form):
    entry()
    images = [noise(seed, 4 + seed, 5) for seed in range(4)]
    write_parquet(tmp_path / "toy" / "test-00000-of-00001.parquet", map(png, images), [2, 0, 1, 2], **form)
    found = find("toy", "test", tmp_path)
    assert len(found) == 4
    assert found.labels.tolist() == [2, 0, 1, 2]
    assert found.labels.dtype == np.int64
    assert found.classes == ("0", "1", "2")
    for row, image in zip([3, 0, 0, 2], found.read([3, 0, 0, 2]), strict=True):
        assert image.dtype == np.uint8
        assert np.array_equal(image, images[row])
    assert found.title == "Toy"
    assert found.notes == ()  # 4 images, as the catalogue says


def test_shards_and_row_groups_follow_in_sorted_order(tmp_path, noise, png, write_parquet, entry):
    entry()
    images = [noise(seed) for seed in range(6)]
    for shard in (2, 0, 1):
        rows = range(2 * shard, 2 * shard + 2)
        path = tmp_path / "toy" / f"train-0000{shard}-of-00003.parquet"
        write_parquet(path, [png(images[row]) for row in rows], list(rows), row_group_size=1)
    found = find("toy", "train", tmp_path)
    assert found.labels.tolist() == [0, 1, 2, 3, 4, 5]
    assert np.array_equal(np.stack(found.read(range(6))), np.stack(images))


@pytest.mark.parametrize("folder", ["toy", "toy/data", "toy/cropped"])
def test_where_shards_may_lie(tmp_path, noise, png, write_parquet, entry, folder):
    entry(hub_folder="cropped" if folder == "toy/cropped" else "data")
    assert not present("toy", tmp_path)
    write_parquet(tmp_path / folder / "test-00000-of-00001-770b3b54dcedce11.parquet", [png(noise(0))])
    assert present("toy", tmp_path)
    assert present("toy", tmp_path, "test")
    assert not present("toy", tmp_path, "train")
    assert len(find("toy", "test", tmp_path)) == 1
    with pytest.raises(Missing, match=rf"toy is not here: .*train split.*; draw them into {tmp_path}/toy/test/"):
        find("toy", "train", tmp_path)


def test_a_split_may_have_another_name(tmp_path, noise, png, write_parquet, entry):
    entry(files={"test": ("validation", "test")})
    write_parquet(tmp_path / "toy" / "validation-00000-of-00001.parquet", [png(noise(0))])
    write_parquet(tmp_path / "toy" / "test-00000-of-00001.parquet", [png(noise(1))])
    assert np.array_equal(find("toy", "test", tmp_path).read([0])[0], noise(0))


def test_labels_that_are_not_there(tmp_path, noise, png, write_parquet, entry):
    entry()
    path = tmp_path / "toy" / "test-00000-of-00001.parquet"
    write_parquet(path, [png(noise(0))] * 3)
    found = find("toy", "test", tmp_path)
    assert found.labels.tolist() == [-1, -1, -1]
    assert found.classes == ()
    write_parquet(path, [png(noise(0))] * 3, pa.array([1, None, 0]))
    assert find("toy", "test", tmp_path).labels.tolist() == [1, -1, 0]


def test_what_files_say_of_themselves(tmp_path, noise, png, write_parquet, entry):
    entry(splits={"test": 10_000}, stands_in_for="places365")
    shards = [
        {"classes": ["a", "b"], "subset_of": 2_000, "lossy_rows": [1], "commit": "12345678", "note": "drawn; by hand"},
        {"lossy_rows": [0], "reencoded": "JPEG q90", "reencoded_rows": [0, 1]},
    ]
    for number, metadata in enumerate(shards):
        path = tmp_path / "toy" / f"test-0000{number}-of-00002.parquet"
        write_parquet(path, [png(noise(0))] * 2, [0, 1], metadata=metadata)
    found = find("toy", "test", tmp_path)
    assert found.classes == ("a", "b")
    assert found.metadata["lossy_rows"] == [1, 2]  # rows of the whole split, not of a shard
    assert found.metadata["reencoded_rows"] == [2, 3]
    assert found.metadata["commit"] == "12345678"
    assert found.metadata["rows"] == 4
    assert json.loads(json.dumps(found.metadata)) == found.metadata
    assert found.notes == (
        "stands in for Places365 (is not Places365)",
        "subset: 4 of 2,000",
        "4 images; officially 10,000",
        "re-encoded: JPEG q90 (2 of 4 images)",
        "2 images not exact",
        "drawn",
    )


@pytest.mark.parametrize(
    ("metadata", "notes"),
    [
        ({"subset": {"subset_of": 4, "seed": 0}}, ("subset: 2 of 4",)),
        ({"trimmed": "2 of 9 rows"}, ("trimmed: 2 of 9 rows", "2 images; officially 4")),
        ({}, ("2 images; officially 4",)),
        # nonsense is no reason to fail
        (
            {"subset": "[", "reencoded": "x", "reencoded_rows": "{", "lossy_rows": "7"},
            ("2 images; officially 4", "re-encoded: x (0 of 2 images)"),
        ),
    ],
)
def test_notes(tmp_path, noise, png, write_parquet, entry, metadata, notes):
    entry()
    write_parquet(tmp_path / "toy" / "test-00000-of-00001.parquet", [png(noise(0))] * 2, metadata=metadata)
    assert find("toy", "test", tmp_path).notes == notes


def test_class_names_of_hugging_face(tmp_path, noise, png, write_parquet, entry):
    entry()
    features = {"image": {"_type": "Image"}, "label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}
    metadata = {"huggingface": {"info": {"features": features}}}
    write_parquet(tmp_path / "toy" / "test-00000-of-00001.parquet", [png(noise(0))], [1], metadata=metadata)
    found = find("toy", "test", tmp_path)
    assert found.classes == ("cat", "dog")
    assert "huggingface" not in found.metadata


def test_fingerprint(tmp_path, noise, png, write_parquet, entry):
    entry()
    path = write_parquet(tmp_path / "toy" / "test-00000-of-00001.parquet", [png(noise(0))] * 2, [0, 1])
    before = find("toy", "test", tmp_path).fingerprint
    assert len(before) == 64
    shutil.copytree(tmp_path / "toy", tmp_path / "elsewhere" / "toy")
    assert find("toy", "test", tmp_path / "elsewhere").fingerprint == before
    shutil.copy(path, tmp_path / "toy" / "train-00000-of-00001.parquet")
    assert find("toy", "train", tmp_path).fingerprint != before

    times, content = path.stat(), bytearray(path.read_bytes())
    at = content.index(b"IDAT") + 8
    content[at] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert path.stat().st_size == times.st_size
    assert find("toy", "test", tmp_path).fingerprint != before


def test_memory_is_bounded_and_threads_may_read(tmp_path, noise, png, write_parquet, entry, monkeypatch):
    entry(splits={"test": 40})
    images = [noise(seed, 16, 16) for seed in range(40)]
    encoded = list(map(png, images))
    write_parquet(tmp_path / "toy" / "test-00000-of-00001.parquet", encoded, row_group_size=4)
    monkeypatch.setattr(parquet, "CACHE_BYTES", 3 * sum(map(len, encoded[:4])))
    found = find("toy", "test", tmp_path)
    rows = np.random.default_rng(0).integers(0, 40, (60, 3))
    with ThreadPoolExecutor(8) as pool:
        for wanted, got in zip(rows, pool.map(found.read, rows.tolist()), strict=True):
            assert np.array_equal(np.stack(got), np.stack([images[row] for row in wanted]))
            assert found._cached_bytes <= parquet.CACHE_BYTES
    assert found._cached_bytes == sum(array.nbytes for array in found._cache.values())
    assert 1 <= len(found._cache) <= 3


def damaged(path, start, stop):
    content = bytearray(path.read_bytes())
    content[start:stop] = bytes(value ^ 255 for value in content[start:stop])
    path.write_bytes(content)


def test_broken_files_are_named(tmp_path, noise, png, write_parquet, entry):
    entry()
    path = tmp_path / "toy" / "test-00000-of-00001.parquet"
    for spoil in (
        lambda: path.write_bytes(b"no parquet at all"),
        lambda: path.write_bytes(b""),
        lambda: path.write_bytes(path.read_bytes()[:-20]),
        lambda: damaged(path, 4, 400),
    ):
        write_parquet(path, [png(noise(seed)) for seed in range(4)], [0, 1, 2, 3], compression="zstd")
        spoil()
        with pytest.raises(ValueError, match=rf"{path} is not a sound parquet file: .*; get it again"):
            find("toy", "test", tmp_path).read([0])


def test_files_that_cannot_be_right(tmp_path, noise, png, write_parquet, entry):
    entry()
    path = tmp_path / "toy" / "test-00000-of-00001.parquet"
    image = png(noise(0))
    cases = [
        (lambda: write_parquet(path, [image], column="photo"), "has no column 'image' or 'img'; it has photo"),
        (lambda: write_parquet(path, []), "holds no images"),
        (lambda: write_parquet(path, [None]), r"toy \(test\): image 0 .* has no bytes"),
        (lambda: write_parquet(path, [image, image[:60]]), r"toy \(test\): image 1 \(test-0.* cannot be decoded"),
    ]  # fmt: skip
    for write, message in cases:
        write()
        with pytest.raises(ValueError, match=message):
            find("toy", "test", tmp_path).read([-1 + len(find("toy", "test", tmp_path))])


def test_shards_that_are_absent(tmp_path, noise, png, write_parquet, entry):
    entry()
    for name in ("test-00000-of-00003.parquet", "test-00002-of-00003.parquet"):
        write_parquet(tmp_path / "toy" / name, [png(noise(0))])
    with pytest.raises(ValueError, match=r"2 of the 3 test shards; number 00001 is absent"):
        find("toy", "test", tmp_path)
    write_parquet(tmp_path / "toy" / "test-00000-of-00001.parquet", [png(noise(0))])
    with pytest.raises(ValueError, match="several series"):
        find("toy", "test", tmp_path)


def test_a_folder_of_parquet_files_by_its_path(tmp_path, noise, png, write_parquet):
    folder = tmp_path / "mine"
    write_parquet(folder / "b.parquet", [png(noise(1))], metadata={"note": "my own"})
    write_parquet(folder / "a.parquet", [png(noise(0))])
    found = find(str(folder), "test", None)
    assert (found.name, found.title, found.split) == ("mine", "mine", "test")
    assert found.notes == ("my own",)
    assert np.array_equal(np.stack(found.read([0, 1])), np.stack([noise(0), noise(1)]))
    write_parquet(folder / "test-0.parquet", [png(noise(2))])
    assert np.array_equal(find(str(folder), "test", None).read([0])[0], noise(2))
