"""Images, parquet shards and catalogue entries for the tests of datasets/."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from datasets import catalogue


@pytest.fixture
def noise():
    """uint8 (height, width, 3), a function of its seed."""

    def make(seed, height=6, width=5):
        return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)

    return make


@pytest.fixture
def png():
    """The bytes of a PNG with these pixels: lossless, so what is read must be what was written."""

    def encode(pixels, **options):
        buffer = io.BytesIO()
        image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
        image.save(buffer, "PNG", **options)
        return buffer.getvalue()

    return encode


@pytest.fixture
def write_parquet():
    def write(path, images, labels=None, *, column="image", plain=False, label="label", metadata=None, **options):
        path.parent.mkdir(parents=True, exist_ok=True)
        if plain:
            columns = {column: pa.array(images, pa.binary())}
        else:
            kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
            columns = {column: pa.array([{"bytes": data, "path": "x.png"} for data in images], kind)}
        if labels is not None:
            columns[label] = labels if isinstance(labels, pa.Array) else pa.array(labels, pa.int64())
        table = pa.table(columns)
        texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in (metadata or {}).items()}
        pq.write_table(table.replace_schema_metadata(texts), path, **options)
        return path

    return write


@pytest.fixture
def entry(monkeypatch):
    """Adds a data set called `toy` to the catalogue."""

    def add(**fields):
        known = {"title": "Toy", "splits": {"train": 6, "test": 4}, "home": "", "licence": "none", "citation": ""}
        toy = catalogue.Entry("toy", how_to_get="draw them into DATA/toy/test/", **{**known, **fields})
        monkeypatch.setitem(catalogue.CATALOGUE, "toy", toy)
        return toy

    return add


@pytest.fixture
def fill(noise, png):
    """Writes noise images at these paths below a folder; the seed is the place in the list."""

    def write(root, *names):
        for seed, name in enumerate(names):
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png(noise(seed)))
        return root

    return write
