import json
import os
import re
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datasets import parquet
from datasets.catalogue import get
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
    images = [png(noise(seed)) for seed in range(3)]
    write_parquet(path, images)
    found = find("toy", "test", tmp_path)
    assert found.labels.tolist() == [-1, -1, -1]
    assert found.classes == ()
    write_parquet(path, images, pa.array([1, None, 0]))
    assert find("toy", "test", tmp_path).labels.tolist() == [1, -1, 0]


def test_what_files_say_of_themselves(tmp_path, noise, png, write_parquet, entry):
    entry(splits={"test": 10_000}, stands_in_for="places365")
    shards = [
        {"classes": ["a", "b"], "subset_of": 2_000, "lossy_rows": [1], "commit": "12345678", "note": "drawn; by hand"},
        {"lossy_rows": [0], "reencoded": "JPEG q90", "reencoded_rows": [0, 1]},
    ]
    for number, metadata in enumerate(shards):
        path = tmp_path / "toy" / f"test-0000{number}-of-00002.parquet"
        write_parquet(path, [png(noise(2 * number)), png(noise(2 * number + 1))], [0, 1], metadata=metadata)
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
    write_parquet(tmp_path / "toy" / "test-00000-of-00001.parquet", [png(noise(0)), png(noise(1))], metadata=metadata)
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
            with found._lock:  # another thread may be about to forget what it had too much
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


PATHS = ["/etc/passwd", "/etc/hostname"]
NO_IMAGES = [pa.array([{"bytes": path} for path in PATHS]), pa.array(PATHS), pa.array([b"x", b"y"], pa.binary(1))]


@pytest.mark.parametrize("column", NO_IMAGES)
def test_a_text_in_the_place_of_an_image_is_never_opened(tmp_path, column):
    pq.write_table(pa.table({"image": column}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"the column 'image(.bytes)?' holds .*, not encoded images"):
        find(str(tmp_path), "test", None)


@pytest.mark.parametrize(
    ("labels", "expected", "classes"),
    [
        (pa.array(["dog", "cat", None, "dog"]), [1, 0, -1, 1], ("cat", "dog")),
        (pa.array(["dog", "cat", "", "dog"]).dictionary_encode(), [1, 0, -1, 1], ("cat", "dog")),
        (pa.array([3, 1, None, 3]).dictionary_encode(), [3, 1, -1, 3], ("0", "1", "2", "3")),
        (pa.array([1.0, 0.0, None, float("nan")]), [1, 0, -1, -1], ("0", "1")),
        (pa.array([True, False, None, True]), [1, 0, -1, 1], ("0", "1")),
        (pa.array([1, 0, 1, 0], pa.uint8()), [1, 0, 1, 0], ("0", "1")),
    ],
)
@pytest.mark.parametrize("label", ["label", "labels", "class"])
def test_kinds_of_labels(tmp_path, noise, png, write_parquet, labels, expected, classes, label):
    write_parquet(tmp_path / "a.parquet", [png(noise(seed)) for seed in range(4)], labels, label=label)
    found = find(str(tmp_path), "test", None)
    assert (found.labels.tolist(), found.classes, found.fault) == (expected, classes, "")
    assert found.named == ("cat" in classes)


@pytest.mark.parametrize(
    ("labels", "why"),
    [
        (pa.array([0.5, 1.0]), "they are fractions, not whole numbers"),
        (pa.array([1e300, 1.0]), "they are fractions, not whole numbers"),
        (pa.array([{"id": 1}, {"id": 2}]), r"they are struct<id: int64>, not whole numbers or texts"),
        (pa.array([[1], [2]]), r"they are list<.*>, not whole numbers or texts"),
        (pa.array([b"cat", b"dog"]), "they are binary, not whole numbers or texts"),
        (pa.array([-2, 0]), "a label is -2; labels start at 0, and -1 is none"),
        (pa.array([10**9, 0]), "a label is 1,000,000,000; labels are below 100,000"),
        (pa.array([2**64 - 1, 0], pa.uint64()), "Integer value 18446744073709551615 not in range"),
    ],
)
def test_labels_that_cannot_be_used_are_none_and_it_is_told(tmp_path, noise, png, write_parquet, labels, why):
    write_parquet(tmp_path / "a.parquet", [png(noise(0)), png(noise(1))], labels)
    found = find(str(tmp_path), "test", None)
    assert found.labels.tolist() == [-1, -1]
    assert found.classes == ()
    assert re.search(why, found.fault)
    assert found.notes == (f"its labels are not used: {found.fault}",)


def test_labels_above_their_names_cannot_be_used(tmp_path, noise, png, write_parquet):
    write_parquet(tmp_path / "a.parquet", [png(noise(0))], [2], metadata={"classes": ["a", "b"]})
    assert find(str(tmp_path), "test", None).fault == "a label is 2, but there are only 2 class names"


def test_texts_follow_the_order_of_the_names_and_shards_have_one(tmp_path, noise, png, write_parquet):
    for shard, labels in enumerate((["dog", "cat"], ["eel", "dog"])):
        images = [png(noise(2 * shard)), png(noise(2 * shard + 1))]
        metadata = {"classes": ["eel", "dog", "cat"]} if shard == 0 else None
        write_parquet(tmp_path / f"{shard}.parquet", images, pa.array(labels), metadata=metadata)
    found = find(str(tmp_path), "test", None)
    assert (found.classes, found.labels.tolist()) == (("eel", "dog", "cat"), [1, 2, 0, 1])


def test_of_two_class_labels_the_names_are_those_of_the_column_that_is_read(tmp_path, noise, png, write_parquet):
    coarse, fine = {"_type": "ClassLabel", "names": ["x"]}, {"_type": "ClassLabel", "names": ["cat", "dog"]}
    metadata = {"huggingface": {"info": {"features": {"coarse_label": coarse, "fine_label": fine}}}}
    write_parquet(tmp_path / "a.parquet", [png(noise(0))], [1], label="fine_label", metadata=metadata)
    assert find(str(tmp_path), "test", None).classes == ("cat", "dog")
    metadata = {"huggingface": {"info": {"features": {"species": fine}}}}  # the one column of classes
    write_parquet(tmp_path / "a.parquet", [png(noise(0))], [1], label="species", metadata=metadata)
    found = find(str(tmp_path), "test", None)
    assert (found.classes, found.labels.tolist()) == (("cat", "dog"), [1])


def test_a_set_of_the_catalogue_has_its_own_order_of_classes(tmp_path, noise, png, write_parquet):
    image, path = png(noise(0)), tmp_path / "fashion_mnist" / "test-00000-of-00001.parquet"
    clothes = get("fashion_mnist").class_names
    for metadata in (None, {"classes": [name.replace("/", " / ").upper() for name in clothes]}):
        write_parquet(path, [image], [9], metadata=metadata)
        found = find("fashion_mnist", "test", tmp_path)
        assert found.classes == clothes
        assert found.named
    write_parquet(path, [image], [9], metadata={"classes": clothes[::-1]})  # names in another order are names
    assert find("fashion_mnist", "test", tmp_path).classes[9] == "T-shirt/top"
    english = ["crane"] * 1000
    write_parquet(tmp_path / "imagenet" / "val-0.parquet", [image], [0], metadata={"classes": english})
    assert find("imagenet", "test", tmp_path).classes[:2] == ("n01440764", "n01443537")


def forged(path, rows, said, *, everywhere):
    """A file of `rows` rows whose footer says another number: only of the file, or of row groups and pages as well."""
    pq.write_table(pa.table({"image": pa.array([b"x"] * rows, pa.binary())}), path)
    data = path.read_bytes()
    size = int.from_bytes(data[-8:-4], "little")
    footer, number = bytearray(data[-8 - size : -8]), bytes([0x16, 2 * rows])  # an i64 of Thrift, zigzag
    for match in list(re.finditer(re.escape(number), footer))[: None if everywhere else 1]:
        footer[match.start() + 1] = 2 * said
    path.write_bytes(data[: -8 - size] + footer + data[-8:])


@pytest.mark.parametrize("everywhere", [False, True])
def test_a_footer_that_says_another_number_of_rows_is_refused(tmp_path, everywhere):
    forged(tmp_path / "a.parquet", 37, 16, everywhere=everywhere)
    with pytest.raises(ValueError, match=r"a.parquet says that it has 16 rows, and has 37.*; get it again"):
        find(str(tmp_path), "test", None)


def test_a_footer_that_contradicts_itself_does_not_end_the_process(tmp_path):
    """pyarrow's `row_group(0).column(0)` calls std::terminate on it: its levels are not those of its statistics."""
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"image": pa.array([b"x"] * 3, pa.binary())}), path)
    optional, required = b"\x25\x02\x18\x05image", b"\x25\x00\x18\x05image"
    data = path.read_bytes()
    assert data.count(optional) == 1
    path.write_bytes(data.replace(optional, required))
    with pytest.raises(ValueError, match=r"a.parquet is not a sound parquet file: .*; get it again"):
        find(str(tmp_path), "test", None)


@pytest.mark.parametrize("said", [b"\x00" * 4, b"\xff" * 4])
def test_a_footer_of_another_size_is_refused(tmp_path, said):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"image": pa.array([b"x"] * 3, pa.binary())}), path)
    path.write_bytes(path.read_bytes()[:-8] + said + b"PAR1")
    with pytest.raises(ValueError, match=r"a.parquet is not a sound parquet file: .*; get it again"):
        find(str(tmp_path), "test", None)


def test_a_page_that_is_not_as_its_checksum_says_is_refused(tmp_path):
    path, values = tmp_path / "a.parquet", [b"first", b"second", b"first"] * 8
    pq.write_table(pa.table({"image": pa.array(values, pa.binary())}), path, write_page_checksum=True)
    data = bytearray(path.read_bytes())
    data[data.index(b"first") + 1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"a.parquet is not a sound parquet file: .*; get it again"):
        find(str(tmp_path), "test", None)


def test_a_place_beyond_the_dictionary_is_refused(tmp_path):
    path, values = tmp_path / "a.parquet", [b"first", b"second", b"third"] * 8
    pq.write_table(pa.table({"image": pa.array(values, pa.binary())}), path, compression="none")
    chunk = pq.ParquetFile(path).metadata.row_group(0).column(0)
    end = chunk.dictionary_page_offset + chunk.total_compressed_size
    data = bytearray(path.read_bytes())
    data[end - 6 : end] = b"\xff" * 6  # 24 places of two bits: the fourth of three
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"a.parquet is not a sound parquet file: .*; get it again"):
        find(str(tmp_path), "test", None)


def test_large_row_groups_are_read_in_blocks(tmp_path, noise, png, write_parquet, monkeypatch):
    monkeypatch.setattr(parquet, "BLOCK_BYTES", 700)
    images = [png(noise(seed)) for seed in range(40)]
    mixed = {"dictionary_pagesize_limit": 300, "write_batch_size": 3}  # a dictionary of the first, the others plain
    for options in ({}, mixed, {"use_dictionary": False}, {"compression": "zstd", "data_page_version": "2.0"}):
        write_parquet(tmp_path / "a.parquet", images, row_group_size=25, **options)
        found = find(str(tmp_path), "test", None)
        assert all(group.block < 7 for group in found._groups)
        for rows in (range(40), [39, 0, 24, 25, 3, 38], range(40)[::-1]):
            assert all(np.array_equal(image, noise(row)) for row, image in zip(rows, found.read(rows), strict=True))
        assert len(set(found.digests.tolist())) == 40


def test_one_page_that_is_too_large_is_refused_by_name(tmp_path, noise, png, write_parquet, monkeypatch):
    """pyarrow reads a page whole: 300 images of 1 MiB, which it writes as one page, took 828 MiB."""
    monkeypatch.setattr(parquet, "PAGE_BYTES", 4_000)
    images = [png(noise(seed)) for seed in range(40)]
    write_parquet(tmp_path / "a.parquet", images, row_group_size=10)
    assert len(find(str(tmp_path), "test", None)) == 40
    write_parquet(tmp_path / "a.parquet", images)
    message = r"'image.bytes' has a page of 0 MiB, more than 0; write the file with smaller row groups"
    with pytest.raises(ValueError, match=message):
        find(str(tmp_path), "test", None)
