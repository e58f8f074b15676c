"""Thresholds for use: their rank, what they accept, and when they are absent."""

import numpy as np
import pytest

from benchmark.records import thresholds


def test_a_threshold_is_the_smallest_score_that_accepts_its_share():
    scores = np.random.default_rng(0).permutation(np.arange(1, 101)).astype(np.float32)
    assert [thresholds.threshold(scores, percent) for percent in (90, 95, 99)] == [90, 95, 99]
    # of 30 images 95 % are 28.5: 29 of them; of 40, 38 exactly
    assert thresholds.threshold(np.arange(1, 31.0), 95) == 29
    assert thresholds.threshold(np.arange(1, 41.0), 95) == 38


def test_a_score_at_the_threshold_is_accepted():
    calibration = np.array([1.0] * 5 + [2.0] * 15)
    found = thresholds.table(calibration, np.array([1.0, 2.0, 2.0, 3.0]), np.array([2.0, 3.0, 3.0, 3.0, 3.0]))
    assert found["accepting"]["90"] == {"threshold": 2.0, "id": 0.75, "ood": 0.2}
    assert found["n"] == 20


@pytest.mark.parametrize(("percent", "needed"), [(90, 9), (95, 19), (99, 99)])
def test_few_images_place_no_high_threshold(percent, needed):
    assert percent / 100 <= 1 - 1 / (needed + 1)
    assert thresholds.threshold(np.arange(needed + 0.0), percent) == needed - 1  # the highest of them
    with pytest.raises(ValueError, match=f"{percent} % needs {needed} calibration images; there are {needed - 1}"):
        thresholds.threshold(np.arange(needed - 1.0), percent)


def test_what_is_absent_is_named():
    found = thresholds.table(np.r_[np.zeros(46), np.full(4, np.inf)], np.zeros(3), np.ones(3))
    assert found["accepting"]["90"] == {"threshold": 0.0, "id": 1.0, "ood": 0.0}
    assert found["accepting"]["95"] is found["accepting"]["99"] is None
    assert found["absent"] == {
        "95": "95 %: the score at this rank is inf",
        "99": "99 % needs 99 calibration images; there are 50",
    }
