"""What settings an encoder refuses when it is created: one line with the setting and what it may be."""

import re
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


@pytest.mark.parametrize("name", registry.names())
def test_a_setting_of_the_wrong_kind_or_out_of_range_is_refused(name: str) -> None:
    """Every setting with a default of one kind, and what is not of that kind or out of any range."""
    for field in fields(registered()[name]):
        for wrong in WRONG.get(type(field.default), ()) if field.init else ():
            said = "taken"
            try:
                registry.create(name, **{**BASE.get(name, {}), field.name: wrong})
            except ValueError as error:
                said = str(error)
            assert re.fullmatch(rf".*\b{field.name} is .*; it must be.*", said), (field.name, wrong)


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
