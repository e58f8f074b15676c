"""Features: what stays with them when they are cut, moved and replaced."""

from dataclasses import dataclass

import pytest
import torch

from methods import base
from methods.base import Features, Head, Method

VALIDATION = Features(embedding=torch.ones(2, 3), labels=torch.tensor([0, 1]))
TRAIN = Features(embedding=torch.zeros(5, 3), head=Head(torch.eye(3), torch.zeros(3)), validation=VALIDATION)


def test_calibration_images_belong_to_the_whole_set_whatever_rows_are_taken():
    for part in (TRAIN[1:3], TRAIN[[0, 4]], *TRAIN.blocks(2)):
        assert part.validation is VALIDATION
        assert part.head is TRAIN.head
        assert len(part) <= 2
    assert VALIDATION.validation is None


def test_who_gives_no_index_has_one_where_the_features_are():
    assert Features(embedding=torch.zeros((3, 2), device="meta")).index.device.type == "meta"


def test_they_move_with_the_set():
    moved = TRAIN.to("meta")
    assert {x.device.type for x in (moved.embedding, moved.validation.embedding, moved.head.weight)} == {"meta"}
    assert moved.validation.labels.device.type == "meta"
    assert TRAIN.validation.embedding.device.type == "cpu"


@dataclass
class Where(Method):
    """Its score is the image's index, and says that it was on the device of the fit."""

    fitted = ("nothing",)
    nothing = torch.zeros(1)

    def fit(self, train, *, seed=0, device="cpu", workdir=None):
        return self

    def score(self, x):
        assert x.index.device.type == "cpu"
        assert len(x) <= 3
        return x.index.double()


@pytest.mark.parametrize("restored", [False, True])
def test_features_of_another_device_go_to_the_fit_in_blocks_and_their_scores_come_back(monkeypatch, restored):
    # "meta" stands for another device. Nothing can be brought back from it, so that the index is given anew.
    monkeypatch.setattr(base, "MOVED", 3)
    method = Where().load_state(Where().state()) if restored else Where().fit(TRAIN)
    moved = []
    monkeypatch.setattr(
        Features, "to", lambda x, device: moved.append((len(x), str(device))) or Features(index=[7] * len(x))
    )
    monkeypatch.setattr(base, "as_tensor", lambda values, dtype: torch.as_tensor(values, dtype=dtype))
    scores = method.score(Features(index=torch.arange(5, device="meta")))
    assert moved == [(3, "cpu"), (2, "cpu")]
    assert (scores.device.type, scores.shape) == ("meta", (5,))
    moved.clear()
    assert method.score(Features(index=torch.arange(3))).tolist() == [0, 1, 2]
    assert not moved
