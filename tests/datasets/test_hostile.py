"""Files that unpack to gigabytes or never end, small as they are: bounded in time and memory, told in one line.

All are read by one process of its own, whose peak is looked at.
"""

import json
import os
import resource
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from datasets.loading import batches
from datasets.sources import find
from methods.encoders.images import preprocessing
from tests.apart import Apart


def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def measured(read, path):
    """What is read or said, and by how many MiB the process grew meanwhile."""
    peak, stop = [resident()], threading.Event()
    before = peak[0]

    def watch():
        while not stop.wait(0.002):
            peak[0] = max(peak[0], resident())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        said = read(path)
    except ValueError as error:
        said = str(error)
    stop.set()
    thread.join()
    return said, (peak[0] - before) / 2**20


def decoded(path):
    images = find(path, "test", None)
    count = 0
    for batch in batches(images, np.arange(len(images)), 64, workers=4):
        count += len(batch.images)
        del batch
    return count


def resized(path):
    images = find(path, "test", None)
    read = batches(images, np.arange(len(images)), 64)
    return [len(preprocessing.to_size(batch.images, 32, "cpu")) for batch in read]


def digested(path):
    return len(find(path, "test", None).digests)


def read_all():
    found = {}
    for name, read in (("large", decoded), ("long", resized), ("zstd", decoded), ("repeated", digested),
                       ("nulls", decoded), ("labels", decoded), ("/", decoded)):  # fmt: skip
        started = time.perf_counter()
        said, peak = measured(read, name if name == "/" else f"./{name}")
        found[name] = [said, peak, time.perf_counter() - started]
    print(json.dumps(found))


def write(path: Path, image: pa.Array, **options) -> None:
    path.parent.mkdir()
    pq.write_table(pa.table({"image": image}), path, compression="zstd", **options)


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> dict[str, tuple[object, float, float]]:
    """By input: what was said of it, MiB above what the process had, seconds."""
    here = tmp_path_factory.mktemp("hostile")
    for folder in ("large", "long"):
        (here / folder).mkdir()
    Image.new("1", (7_990, 8_000)).save(here / "large" / "0.png")  # 8 kB
    for number in range(1, 3):  # what follows a PNG's end makes each another file
        (here / "large" / f"{number}.png").write_bytes((here / "large" / "0.png").read_bytes() + bytes(number))
    Image.new("1", (10_000_000, 1)).save(here / "long" / "wide.png")
    Image.new("1", (1, 10_000_000)).save(here / "long" / "tall.png")
    for number in range(3):
        Image.fromarray(np.full((1, 100_000), number, dtype=np.uint8)).save(here / "long" / f"{number}.png")
    write(here / "zstd" / "a.parquet", pa.array([bytes(48 << 20)]))
    once = pa.DictionaryArray.from_arrays(pa.array([0] * 60), pa.array([bytes(10 << 20)]))
    write(here / "repeated" / "a.parquet", once, dictionary_pagesize_limit=64 << 20, store_schema=False)
    write(here / "nulls" / "a.parquet", pa.nulls(2_000_000, pa.binary()))
    (here / "labels").mkdir()
    table = pa.table({"image": pa.array([b"x"]), "label": pa.array([10**9])})
    pq.write_table(table, here / "labels" / "a.parquet")

    def work():
        os.chdir(here)
        read_all()

    status, out, err = Apart(work, here).wait(200)
    assert status == 0, err
    return json.loads(out)


def test_large_images_are_decoded_within_their_memory(found):
    """Of 64 megapixels, 192 MB each as pixels: six took 3.2 GB."""
    said, peak, _ = found["large"]
    assert said == 3
    assert peak < 512


def test_long_images_are_resized_by_their_middle(found):
    """10,000,000 x 1 asked for 122 GB, ten of 100,000 x 1 took 3 s each."""
    said, peak, _ = found["long"]
    assert sum(said) == 5
    assert peak < 512


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("zstd", "'image' unpacks from"),
        ("nulls", "says that it has 2,000,000 images in"),
        ("labels", "cannot be decoded"),
        ("/", "name "),  # "is no set of images" after 100,000 files, or where there are shards: which folder to name
    ],
)
def test_what_unpacks_to_too_much_or_never_ends_is_refused(found, name, message):
    said, peak, seconds = found[name]
    assert message in said
    assert "\n" not in said
    assert peak < 256
    assert seconds < 60


def test_one_image_in_every_row_is_read_once(found):
    """Of 10 MiB, 60 times: 600 MB if the row group were read whole."""
    said, peak, _ = found["repeated"]
    assert said == 1
    assert peak < 200
