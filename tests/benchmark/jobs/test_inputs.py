"""Which images a training set gives to fit on and to calibrate on, and what that does to keys."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from benchmark.jobs.encoding import encodes
from benchmark.jobs.fitting import FitMethod
from benchmark.jobs.inputs import WITHOUT, EncoderUse, Selection, calibrated, encode_key
from benchmark.store import keys
from datasets.sources import find
from methods.base import hold_out

DIGITS = find("digits", "train", None)
PIXELS = EncoderUse("pixels", "pixels", {"resolution": 8}, title="Pixels")


def test_the_hold_out_is_apart_and_together_they_are_the_set():
    train = calibrated(Selection(DIGITS, balanced=True))
    assert train.calibration is not None
    fitted, held = hold_out(1000)
    np.testing.assert_array_equal(train.rows, fitted)
    np.testing.assert_array_equal(train.calibration.rows, held)
    assert len(held) == 50


@pytest.mark.parametrize(("limit", "calibration"), [(1, 1), (2, 1), (60, 3), (500, 25), (1000, 50), (4000, 50)])
def test_a_limit_counts_both_parts_and_moves_no_image_between_them(limit, calibration):
    whole, train = (calibrated(Selection(DIGITS, n, balanced=True)) for n in (None, limit))
    assert len(train.calibration.rows) == calibration
    assert len(train.rows) == max(1, min(limit, 1000) - calibration)
    assert set(train.rows) <= set(whole.rows)
    assert set(train.calibration.rows) <= set(whole.calibration.rows)


def test_the_calibration_images_of_a_smaller_limit_are_among_those_of_a_greater():
    parts = [set(calibrated(Selection(DIGITS, n, balanced=True)).calibration.rows) for n in (100, 300, 700)]
    assert parts[0] < parts[1] < parts[2]


def test_the_largest_hold_out_is_2500_images():
    assert len(hold_out(50_000)[1]) == len(hold_out(1_000_000)[1]) == 2500


def test_without_calibration_keys_are_what_they_were():
    train = Selection(DIGITS, 60, balanced=True)
    assert train.identity == {"data": DIGITS.fingerprint, "limit": 60, "balanced": True}
    encode = keys.digest(what="encode", encoder=PIXELS.identity, images=train.identity, base=None)
    assert encode_key(PIXELS, train) == encode
    assert FitMethod("lowlevel", {}, 0, encodes(PIXELS, train)).key == keys.digest(
        what="fit method",
        method="lowlevel",
        settings={},
        seed=None,
        train=[encode],
        source=keys.source("methods.lowlevel"),
    )
    net = EncoderUse("net", "classifier", {"architecture": "resnet8"}, title="Net", train=train, seed=1)
    assert net.training_key == keys.digest(
        what="train encoder", encoder=net._untrained, train=train.identity, base=None, start=None, seed=1
    )


def test_a_key_covers_the_calibration_images_of_a_fit_and_of_a_training():
    train = calibrated(Selection(DIGITS, 60, balanced=True))
    other = replace(train, calibration=replace(train.calibration, limit=40))
    assert encode_key(PIXELS, train) == encode_key(PIXELS, other)
    assert encode_key(PIXELS, train) != encode_key(PIXELS, Selection(DIGITS, 60, balanced=True))
    fits = [FitMethod("lowlevel", {}, 0, encodes(PIXELS, images)) for images in (train, other)]
    assert fits[0].key != fits[1].key
    assert [len(fit.needs) for fit in fits] == [2, 2]
    nets = [EncoderUse("net", "classifier", {}, title="Net", train=images) for images in (train, other)]
    assert nets[0].training_key != nets[1].training_key


@pytest.mark.parametrize(
    ("header", "known"),
    [
        ({}, True),
        ({"trained_on": "Digits"}, True),
        ({"trained_on": "digits and more"}, True),
        ({"trained_on": "CIFAR-10"}, False),
        ({"trained_on": "ImageNet-1k"}, False),
        ({"trained_on": "digits", "without": WITHOUT}, False),
    ],
)
def test_a_network_from_a_file_may_know_the_calibration_images_unless_its_header_says_otherwise(
    tmp_path, header, known
):
    save_file({"weight": torch.zeros(1)}, tmp_path / "net.safetensors", header)
    held = calibrated(Selection(DIGITS)).calibration
    net = EncoderUse("net", "classifier", {}, title="Net", weights=tmp_path / "net.safetensors")
    tuned = EncoderUse("tuned", "oal", {}, title="Tuned", train=Selection(DIGITS), start=net.weights)
    probe = EncoderUse("probe", "probe", {"base": "net"}, title="Probe", base=net, train=Selection(DIGITS))
    public = EncoderUse("timm", "pretrained", {"model": "resnet18"}, title="Timm", weights=net.weights)
    assert net.may_know(held) is tuned.may_know(held) is probe.may_know(held) is known
    assert public.may_know(held) is (known and bool(header))  # a public network says nothing, and is of ImageNet
    assert not PIXELS.may_know(held)
    assert not EncoderUse("here", "classifier", {}, title="Here", train=Selection(DIGITS)).may_know(held)
