"""Features: what stays with them when they are cut, moved and replaced."""

import torch

from methods.base import Features, Head

VALIDATION = Features(embedding=torch.ones(2, 3), labels=torch.tensor([0, 1]))
TRAIN = Features(embedding=torch.zeros(5, 3), head=Head(torch.eye(3), torch.zeros(3)), validation=VALIDATION)


def test_calibration_images_belong_to_the_whole_set_whatever_rows_are_taken():
    for part in (TRAIN[1:3], TRAIN[[0, 4]], *TRAIN.blocks(2)):
        assert part.validation is VALIDATION
        assert part.head is TRAIN.head
        assert len(part) <= 2
    assert VALIDATION.validation is None


def test_they_move_with_the_set():
    moved = TRAIN.to("meta")
    assert {x.device.type for x in (moved.embedding, moved.validation.embedding, moved.head.weight)} == {"meta"}
    assert moved.validation.labels.device.type == "meta"
    assert TRAIN.validation.embedding.device.type == "cpu"
