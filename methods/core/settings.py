"""What a hyper-parameter may be: numbers of a range, and a dataclass held against its annotations."""

import difflib
import functools
import sys
from collections.abc import Iterable
from dataclasses import dataclass, fields
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints


def nearest(name: str, valid: Iterable[str]) -> str:
    """The end of an error message: the valid name nearest to `name`, or all of them."""
    valid = sorted(valid)
    close = difflib.get_close_matches(name, valid, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"valid: {', '.join(valid) or 'none'}"


@dataclass(frozen=True)
class Range:
    """The numbers that a setting may be: `Annotated[float, Range(0, 100, "[)")]` has 0 among them, and not 100."""

    low: float = -sys.float_info.max
    high: float = sys.float_info.max
    ends: Literal["[]", "[)", "(]", "()"] = "[]"

    def __contains__(self, number: float) -> bool:
        above = self.low <= number if self.ends[0] == "[" else self.low < number
        return above and (number <= self.high if self.ends[1] == "]" else number < self.high)

    def __str__(self) -> str:
        words = []
        if self.low > -sys.float_info.max:
            words.append(f"{'at least' if self.ends[0] == '[' else 'above'} {self.low:,}")
        if self.high < sys.float_info.max:
            words.append(f"{'at most' if self.ends[1] == ']' else 'below'} {self.high:,}")
        return " and ".join(words)


Count = Annotated[int, Range(1, 10**6)]
Positive = Annotated[float, Range(0, ends="(]")]
NotNegative = Annotated[float, Range(0)]
Share = Annotated[float, Range(0, 1)]
_KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", NoneType: "null"}


def check_settings(of: Any) -> None:
    """Hold the fields of the dataclass `of` against their annotations; ValueError for the first that does not fit.

    int and float are numbers, finite and no booleans, of a `Range` where one is stated; also bool, str, None, Literal,
    `|`, and tuple[X, ...], as which a list passes.
    """
    cls: Any = type(of)
    for name, hint in _hints(cls).items():
        value = getattr(of, name)
        if not _fits(value, hint):
            title = getattr(of, "title", "") or type(of).__name__
            raise ValueError(f"{title}: {name} is {value!r:.60}; it must be {_said(hint)}")


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    hints = get_type_hints(cls, include_extras=True)
    return {field.name: hints[field.name] for field in fields(cls)}


def _fits(value: Any, hint: Any) -> bool:
    kind, choices = get_origin(hint), get_args(hint)
    if kind is Annotated:
        limits = (limit for limit in choices[1:] if isinstance(limit, Range))
        return _fits(value, choices[0]) and all(value in limit for limit in limits)
    if kind in (Union, UnionType):
        return any(_fits(value, choice) for choice in choices)
    if kind is Literal:
        return any(value == choice and type(value) is type(choice) for choice in choices)
    if kind is tuple:
        return isinstance(value, tuple | list) and all(_fits(part, choices[0]) for part in value)
    if hint in (int, float):
        number = isinstance(value, int if hint is int else int | float) and not isinstance(value, bool)
        return number and abs(value) <= (2**63 if hint is int else sys.float_info.max)
    return isinstance(value, hint)


def _said(hint: Any) -> str:
    kind, choices = get_origin(hint), get_args(hint)
    if kind is Annotated:
        return f"{_said(choices[0])}, " + ", ".join(str(limit) for limit in choices[1:] if isinstance(limit, Range))
    if kind in (Union, UnionType):
        return " or ".join(_said(choice) for choice in choices)
    if kind is Literal:
        return " or ".join(map(repr, choices))
    return f"a list, each {_said(choices[0])}" if kind is tuple else _KINDS.get(hint, str(hint))
