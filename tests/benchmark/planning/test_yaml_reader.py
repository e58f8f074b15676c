"""YAML says what stands there, or it is refused in one line."""

import json
import math
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark.planning import yaml_reader
from benchmark.planning.yaml_reader import parse


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("true", True),
        ("false", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("0", 0),
        ("-12", -12),
        ("9223372036854775807", 2**63 - 1),
        ("1.50", 1.5),
        ("1e-4", 1e-4),  # a text in YAML 1.1
        (".5", 0.5),
        ("-.inf", -math.inf),
        ("resnet8", "resnet8"),
        ('"no"', "no"),
        ("'010'", "010"),
        ("a b", "a b"),
        ("1.0.2", "1.0.2"),
        ("&a [x, {y: 1}]", ["x", {"y": 1}]),
    ],
)
def test_what_a_word_means(word, value):
    (read,) = parse(f"- {word}\n")
    assert read == value
    assert type(read) is type(value)


def test_nan_is_a_number_that_its_reader_refuses():
    assert math.isnan(parse("k: .nan")["k"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nb: 2\na: 3", "line 3: the key 'a' stands there twice"),
        ("a: 010", "line 1: 010 is a text to some"),
        ("a: 1:30", "line 1: 1:30 is a text to some"),
        ("a: 0x10", "0x10 is a text to some"),
        ("a: 1_000", "1_000 is a text to some"),
        ("a: yes", "yes is a text to some and not to others: quote it"),
        ("- off", "off is a text"),
        ("a: True", "True is a text"),
        ("no: 1", "no is a text"),
        ("1.0: x", "a key is a name: quote 1.0"),
        ("true: x", "a key is a name: quote true"),
        ("? [a]\n: x", "a key is a name"),
        ("a: 2020-01-02", "2020-01-02 is a text"),
        ("title: 2020-13-45", "2020-13-45 is a text"),  # the reader of dates ended in a traceback
        ("a: " + "9" * 5000, "a number of 5,000 characters"),
        ("a: 0." + "9" * 5000, "a number of 5,002 characters"),
        ("a: 1e999", "1e999 is larger than any number"),
        ("a: !!python/object/apply:os.system [x]", "tags are not read"),
        ("a: !!str 010", "tags are not read"),
        ("a: *b", "there is no &b before"),
        ("&a [*a]", "there is no &a before"),
        ("<<: 1", "behind << stands one mapping"),
        ("a: [", "line 2: "),
        ("a: 1\n--- \nb: 1", "line 2: a second document begins"),
        ("a: \x1b[31m", "characters that YAML does not allow"),
        ("[" * 100_000, "line 1: "),
        ("- " * 100_000, "nested deeper than 50"),
        (
            "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)),
            "its aliases unfold to more than 100,000 values",
        ),
    ],
)
def test_what_is_not_plain_is_one_line(text, said):
    with pytest.raises(ValueError) as caught:  # the message is held against `said`, which is no pattern
        parse(text)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


def test_an_alias_and_a_merge_are_what_they_stand_for():
    assert parse("a: &q {x: 1, y: 2}\nb: *q\nc: {<<: *q, y: 3}") == {
        "a": {"x": 1, "y": 2},
        "b": {"x": 1, "y": 2},
        "c": {"x": 1, "y": 3},
    }


@pytest.mark.parametrize("kind", ["fifo", "device", "folder", "large", "binary"])
def test_only_a_regular_file_of_bounded_size_is_read(tmp_path, kind):
    path = tmp_path / "mine.yaml"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    elif kind == "large":
        with path.open("wb") as file:
            file.truncate(yaml_reader.LARGEST_FILE + 1)
    else:
        path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"^[^\n]*mine\.yaml [^\n]*$"):
        yaml_reader.read(path)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False, width=16)
    | st.text("abcno:-_ #é", max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abno: -", max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(VALUES)
def test_json_is_read_as_it_is_meant(value):
    assert parse(json.dumps(value)) == value


@settings(max_examples=300, deadline=None)
@given(st.text("ab01.:-[]{}&*!<>|?,'\"# \n~eno", max_size=60))
def test_whatever_stands_there_is_a_value_or_one_line(text):
    said = ""
    try:
        parse(text)
    except ValueError as error:
        said = str(error)
    assert "\n" not in said
