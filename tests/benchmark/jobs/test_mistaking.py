"""The images that a row errs on: which, in which order, and what is near them."""

import base64
import io
import json

import numpy as np
import pytest
import torch
from PIL import Image

from benchmark.jobs import mistaking
from benchmark.metrics import threshold_at_tpr
from methods.base import Features


def test_the_worst_come_first_and_none_is_on_the_right_side():
    scores = np.array([3.0, 1.0, 2.0, 5.0, 4.0])
    assert mistaking.wrong(scores, 2.5, flagged=False, most=4).tolist() == [1, 2]
    assert mistaking.wrong(scores, 2.5, flagged=True, most=2).tolist() == [3, 4]
    assert mistaking.wrong(scores, 3.0, flagged=False, most=9).tolist() == [1, 2, 0]  # a tie is accepted
    assert mistaking.wrong(scores, 5.0, flagged=True, most=9).tolist() == []


def test_vectors_have_length_one():
    features = Features(embedding=torch.tensor([[3.0, 4.0], [0.0, 2.0]]))
    assert mistaking.vectors(features).tolist() == [[pytest.approx(0.6), pytest.approx(0.8)], [0.0, 1.0]]


@pytest.mark.parametrize(("size", "kind", "shown"), [(28, "png", 28), (200, "jpeg", 64)])
def test_pictures_are_small(size, kind, shown):
    pixels = np.random.default_rng(0).integers(0, 255, (size, size, 3), dtype=np.uint8)
    head, content = mistaking._picture(pixels).split(",")
    assert head == f"data:image/{kind};base64"
    image = Image.open(io.BytesIO(base64.b64decode(content)))
    assert image.size == (shown, shown)
    if kind == "png":
        assert np.array_equal(np.asarray(image), pixels)


def test_a_run_leaves_the_mistakes_of_every_cell_and_finds_them_once(trial, drawn, monkeypatch):
    assert trial.run("--methods", "msp", "knn") == 0
    folder = trial.results / "mini+limit=30+limit-train=60"
    for row in ("msp@net", "knn@net"):
        for name in ("halves", "letters"):
            made = json.loads((folder / "mistakes" / row / f"{name}.json").read_text())
            ids, oods = (np.load(folder / "scores" / row / f"{of}.seed0.npy") for of in ("digits", name))
            threshold = threshold_at_tpr(ids)
            assert len(made["missed"]) == min(4, (oods <= threshold).sum())
            assert len(made["flagged"]) == min(4, (ids > threshold).sum())
            shown = [float(one["score"]) for one in made["missed"]]
            assert shown == pytest.approx(np.sort(oods)[: len(shown)], rel=1e-3)
            for one in made["missed"] + made["flagged"]:
                assert len(one["nearest"]) == 2
                assert one["nearest"][0][1] >= one["nearest"][1][1]
    monkeypatch.setattr(mistaking.ShowMistakes, "run", lambda *_: pytest.fail("found again"))
    assert trial.run("--methods", "msp", "knn") == 0
