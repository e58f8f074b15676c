"""Sentences, tables and pictures of a Markdown page, from plain words."""

from collections.abc import Iterable, Sequence

from benchmark.reporting.markup import md as escaped

Lines = list[str]

__all__ = ["Lines", "count", "escaped", "items", "p_value", "picture", "table"]


def items(sentences: Iterable[str]) -> Lines:
    return [f"- {escaped(sentence if sentence.endswith('.') else f'{sentence}.')}" for sentence in sentences]


def table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> Lines:
    """With words to the left in the first column, and figures to the right in all others."""
    every = [head, [":---", *["---:"] * (len(head) - 1)], *lines]
    return ["", *(f"| {' | '.join(map(escaped, line))} |" for line in every)]


def picture(title: str, path: str) -> Lines:
    return ["", f"![{title}]({path})"]


def p_value(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def count(n: int, what: str) -> str:
    return f"{n:,} {what}{'' if n == 1 else 's'}"
