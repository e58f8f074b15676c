"""Sets that cannot be read or cannot be right: one line each, the others run; images in two sets are told."""

import os
import shutil

import numpy as np
import pytest
from PIL import Image

from benchmark.jobs.worker import Worker
from benchmark.planning import id_images, planner, suite
from benchmark.planning.options import Options
from benchmark.planning.suite import UsageError
from benchmark.running.estimating import describe
from benchmark.store.entries import Store

SUITE = """
title: Mine
id: {set: ./mine}
ood: [{set: ./far, stand_in: ./near}]
encoders: {pixels: {kind: pixels, settings: {resolution: 8}}}
rows: [{method: lowlevel, encoder: pixels}]
"""


@pytest.fixture
def fill(tmp_path):
    """Images of noise below a folder; the seed is the place in the list, from `first` on."""

    def write(folder, *names, first=0):
        for seed, name in enumerate(names, start=first):
            path = tmp_path / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)
        return tmp_path / folder

    return write


@pytest.fixture
def made(tmp_path, fill):
    """Makes the plan of an ID set of four training and four test images, with these OOD sets beside."""
    fill("mine", *(f"{split}/{name}.png" for split in ("train", "test") for name in ("a/1", "a/2", "b/1", "b/2")))
    (tmp_path / "suite.yaml").write_text(SUITE)

    def make(*ood):
        options = Options(
            data=tmp_path, weights=tmp_path, results=tmp_path, cache=tmp_path, device="cpu", batch_size=8, ood=ood
        )
        return planner.make(suite.read(str(tmp_path / "suite.yaml")), options, download=False)

    return make


def test_a_stand_in_is_looked_for_where_the_suite_lies(made, fill, monkeypatch):
    fill("near", "1.png", first=90)
    monkeypatch.chdir("/")
    planned = made()
    assert [(column.name, column.stands_in_for is not None) for column in planned.columns] == [("near", True)]
    assert planned.absent[0][1].endswith("far is not here: there is no such folder")


def test_a_stand_in_that_is_not_there_is_named(made):
    ((title, why),) = made().absent
    assert title.endswith("far")
    assert why.count("there is no such folder") == 2
    assert "nor is its stand-in" in why


def test_one_folder_is_one_set_however_it_is_named(made, fill, tmp_path):
    near = fill("near", "1.png", first=90)
    (tmp_path / "link").symlink_to(near)
    planned = made(str(near), f"{near}/", str(tmp_path / "link"), str(tmp_path / "mine" / ".." / "near"))
    assert sum(column.stands_in_for is None for column in planned.columns) == 1


def test_a_broken_set_is_left_out_alone(made, fill, tmp_path):
    (fill("near", "1.png") / "1.png").write_bytes(b"no image")  # the stand-in
    good, first = fill("good", "1.png", first=80), fill("first", "1.png", "2.png", first=70)
    (first / "1.png").write_bytes(b"no image")
    empty = tmp_path / "empty"
    empty.mkdir()
    os.mkfifo(empty / "test-00000-of-00001.parquet")
    planned = made(*map(str, (good, first, empty, tmp_path / "near")))
    assert [column.name for column in planned.columns] == ["good"]
    why = dict(planned.broken)
    assert "1.png cannot be decoded" in why[str(first)]
    assert "is a fifo, not a regular file" in why[str(empty)]
    assert "1.png cannot be decoded" in why[str(tmp_path / "near")]
    assert not any("\n" in line for line in why.values())
    told = describe(planned, Worker(Store(tmp_path / "cache"), device="cpu"))  # what `--plan` shows
    assert [line.split(":")[0] for line in told.splitlines() if line.startswith("broken")] == [
        f"broken   {name}" for name in why
    ]


def test_an_id_set_that_cannot_be_right_is_one_line(made, fill, tmp_path):
    (tmp_path / "mine" / "train" / "c").mkdir()
    with pytest.raises(
        id_images.BadData, match=r"mine \(train\): its class c holds no images; fill or remove the folder"
    ):
        made()
    (tmp_path / "mine" / "train" / "c").rmdir()
    (tmp_path / "mine" / "test" / "a" / "1.png").write_bytes(b"no image")
    with pytest.raises(id_images.BadData, match=r"mine \(test\): a/1.png cannot be decoded"):
        made()


def test_id_images_without_a_label_are_left_out_and_told(made, fill, tmp_path):
    fill("mine", "train/stray.png", first=60)
    planned = made()
    about = planned.rows[0].about["train"]
    assert (about["n"], about["of"]) == (4, 4)
    assert "1 of its 5 images without a label: left out" in about["notes"]


def test_images_in_two_sets_stay_and_are_told(made, fill, tmp_path):
    far = fill("far", *(f"{number}.png" for number in range(3)), first=50)
    shutil.copy(tmp_path / "mine" / "test" / "a" / "1.png", far / "x.png")
    shutil.copy(tmp_path / "mine" / "train" / "a" / "1.png", far / "y.png")
    shutil.copy(tmp_path / "mine" / "train" / "b" / "1.png", tmp_path / "mine" / "test" / "b" / "9.png")
    (column,), row = made().columns, made().rows[0]
    assert column.about["n"] == 5
    assert column.about["notes"] == [
        "1 of its 5 images are also in the ID test set",
        "1 of its 5 images are also in the ID training set",
    ]
    assert "1 of its 5 images are also in the ID training set" in row.about["id"]["notes"]


@pytest.mark.parametrize("name", ["", "no such folder/", "/nowhere"])
def test_a_folder_that_is_not_there_is_a_wrong_use(made, name):
    with pytest.raises(UsageError, match="--ood"):
        made(name)


def test_planning_leaves_nothing_in_the_data(made, fill, tmp_path):
    fill("far", "1.png", first=40)
    before = sorted(tmp_path.rglob("*"))
    made("svhn")
    assert sorted(tmp_path.rglob("*")) == before
