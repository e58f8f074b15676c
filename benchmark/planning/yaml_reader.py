"""The one way to read YAML: what stands there and nothing else, or one line that says where it cannot be taken so.

A plain `no`, `010`, `1:30` or `2020-01-01` is a boolean, a number or a date to one reader of YAML and a text to the
next: such words are refused until they are quoted. Anchors, aliases and `<<` are read; tags and keys that stand twice
are not.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from datasets.files import read_regular

LARGEST_FILE = 1 << 24  # bytes: 10^5 rows and more
UNFOLDED = 100_000  # values that aliases may add to those that are written out
DEPTH = 50
_LONGEST = 24  # characters of a number: what a float64 takes to be written whole
_PARSER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the same, but ten times as fast where libyaml is there
_OTHERS = yaml.resolver.Resolver.yaml_implicit_resolvers  # what YAML 1.1 takes for something else than a text

_WORDS = {"": None, "~": None, "null": None, "true": True, "false": False}
_WHOLE = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_NUMBER = re.compile(r"[-+]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]{1,3})?|[-+]?\.inf|\.nan")


def read(path: str | Path) -> Any:
    """The content of a YAML file: dictionaries (keys: names or whole numbers), lists, texts, numbers, booleans, None.

    ValueError, in one line with the path, for what is no regular file, too large, or not plain YAML; OSError where it
    cannot be opened.
    """
    content = read_regular(path, LARGEST_FILE)
    try:
        return parse(content.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not plain YAML: it is no UTF-8 text") from None
    except ValueError as error:
        raise ValueError(f"{path} is not plain YAML: {error}") from None


def parse(text: str) -> Any:
    """The content of one YAML document; ValueError, with the line, where it is not plain."""
    events = yaml.parse(text, _PARSER)
    try:
        return _Document(events).value
    except yaml.MarkedYAMLError as error:
        where = error.problem_mark or error.context_mark
        raise ValueError(f"{f'line {where.line + 1}: ' if where else ''}{error.problem or error.context}") from None
    except yaml.YAMLError:
        raise ValueError("it holds characters that YAML does not allow") from None


class _Document:
    """Builds the values of one document out of the parser's events, never deeper than `DEPTH`."""

    def __init__(self, events: Iterator[Any]) -> None:
        self.value: Any = None
        self._events = events
        self._count = self._unfolded = 0
        self._anchors: dict[str, tuple[Any, int]] = {}  # values, and of how many each consists
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                if self._count:
                    raise _fault(event, "a second document begins")
                self.value = self._build(next(events), 0)

    def _build(self, event: Any, depth: int) -> Any:
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self._anchors:
                raise _fault(event, f"there is no &{event.anchor:.60} before *{event.anchor:.60}")
            value, size = self._anchors[event.anchor]
            self._unfolded += size
            self._count += size
            if self._unfolded > UNFOLDED:
                raise _fault(event, f"its aliases unfold to more than {UNFOLDED:,} values")
            return value
        if event.tag is not None:
            raise _fault(event, f"tags are not read: leave {event.tag!r:.60} out")
        if depth > DEPTH:
            raise _fault(event, f"nested deeper than {DEPTH}")
        before = self._count
        self._count += 1
        if isinstance(event, yaml.MappingStartEvent):
            value = self._mapping(depth)
        elif isinstance(event, yaml.SequenceStartEvent):
            value = [self._build(part, depth + 1) for part in self._until(yaml.SequenceEndEvent)]
        else:
            value = _plain(event) if event.implicit[0] else event.value
        if event.anchor is not None:
            self._anchors[event.anchor] = value, self._count - before
        return value

    def _mapping(self, depth: int) -> dict[str | int, Any]:
        values: dict[str | int, Any] = {}
        merged: dict[str | int, Any] = {}
        for event in self._until(yaml.MappingEndEvent):
            if isinstance(event, yaml.ScalarEvent) and event.value == "<<" and event.implicit[0]:
                parent = self._build(next(self._events), depth + 1)
                if merged or not isinstance(parent, dict):
                    raise _fault(event, "behind << stands one mapping, once")
                merged = parent
                continue
            key = self._build(event, depth + 1)
            if isinstance(key, bool) or not isinstance(key, str | int):
                written = event.value if isinstance(event, yaml.ScalarEvent) and event.value else "it"
                raise _fault(event, f"a key is a name: quote {written:.60}")
            if key in values:
                raise _fault(event, f"the key {key!r:.60} stands there twice")
            values[key] = self._build(next(self._events), depth + 1)
        return {**merged, **values}

    def _until(self, end: type) -> Iterator[Any]:
        for event in self._events:
            if isinstance(event, end):
                return
            yield event


def _plain(event: Any) -> Any:
    """A word without quotes: null, true, false, a decimal number, or a text that no reader takes for anything else."""
    word: str = event.value
    if word in _WORDS:
        return _WORDS[word]
    if len(word) > _LONGEST and _NUMBER.fullmatch(word):
        raise _fault(event, f"a number of {len(word):,} characters")
    if _WHOLE.fullmatch(word):
        return int(word)
    if _NUMBER.fullmatch(word):
        number = float(word.replace(".inf", "inf").replace(".nan", "nan"))
        if number in (float("inf"), float("-inf")) and "inf" not in word:
            raise _fault(event, f"{word:.60} is larger than any number")
        return number
    for _, other in (*_OTHERS.get(word[0], ()), *_OTHERS.get(None, ())):
        if other.match(word):
            raise _fault(
                event, f"{word:.60} is a text to some and not to others: quote it, or write true, false or a decimal"
            )
    return word


def _fault(event: Any, what: str) -> ValueError:
    return ValueError(f"line {event.start_mark.line + 1}: {what}")
