"""What settings an encoder refuses when it is created: one line with the setting and what it may be."""

from dataclasses import fields
from typing import Any

import pytest

from methods.encoders import registry
from methods.encoders.base import registered

BASE: dict[str, dict[str, Any]] = {"probe": {"base": "net"}}
WRONG: dict[type, tuple[Any, ...]] = {
    int: (True, 1.5, "3", None, [], 10**30, -1),
    float: (True, "3", None, float("nan"), float("inf"), -1.0),
    str: (1, True, []),
    bool: (1, "yes", None),
}


def numbers() -> list[tuple[str, str, Any]]:
    """Every setting with a default of one kind, and what is not of that kind or out of any range."""
    registry.names()
    return [
        (name, field.name, wrong)
        for name, cls in registered().items()
        for field in fields(cls)
        if field.init
        for wrong in WRONG.get(type(field.default), ())
    ]


@pytest.mark.parametrize(("name", "setting", "wrong"), numbers())
def test_a_setting_of_the_wrong_kind_or_out_of_range_is_refused(name: str, setting: str, wrong: Any) -> None:
    with pytest.raises(ValueError, match=rf"{setting} is .*; it must be") as caught:
        registry.create(name, **{**BASE.get(name, {}), setting: wrong})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("classifier", {"held_out": 2}),
        ("classifier", {"held_out": 1.0}),
        ("classifier", {"classes": 1}),
        ("classifier", {"classes": True}),
        ("classifier", {"checkpoint": 3}),
        ("classifier", {"augment": True}),
        ("classifier", {"resolution": 7}),
        ("finetuned", {"classes": ["a", 2]}),
        ("pretrained", {"layers": "blocks"}),
        ("pretrained", {"layers": [1]}),
        ("simclr", {"batch_size": 1}),
        ("simclr", {"warmup_epochs": -1}),
        ("simclr", {"temperature": 0}),
        ("probe", {"base": "net", "iterations": 0}),
        ("oal", {"n_out": -1}),
        ("oal", {"weight": float("nan")}),
    ],
)
def test_the_ranges(name: str, given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="; it must be"):
        registry.create(name, **given)


@pytest.mark.parametrize("classes", [["a"], ["a", "a"], []])
def test_classes_are_two_names_at_least_and_each_once(classes: list[str]) -> None:
    with pytest.raises(ValueError, match="classes are at least 2 names, each of them once"):
        registry.create("classifier", classes=classes)


def test_lists_of_yaml_are_kept_as_tuples() -> None:
    assert registry.create("pretrained", layers=["blocks.0"]) == registry.create("pretrained", layers=("blocks.0",))
