"""One HTML file that needs nothing else: a template, scripts allowed by their hashes, and data as JSON."""

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from benchmark.reporting.cells import SEPARABLE
from benchmark.shown import printable

HERE = Path(__file__).parent


def render(template: str, scripts: Sequence[str], data: dict[str, Any], *, drawing: bool, **more: Any) -> str:
    """The page of a template. data: name -> what its scripts read, as JSON; `more`: what the template alone reads.

    Nothing that comes from outside can run in it: names are escaped by the template, `<` in JSON is written out, and
    only these scripts' hashes are allowed. drawing: with Plotly, which is kept as text until something is drawn.
    """
    sources = [source(f"{name}.js") for name in scripts]
    library = plotly() if drawing else ""
    allowed = " ".join(f"'sha256-{_hash(text)}'" for text in (*sources, *([library] if library else []))) or "'none'"
    policy = f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; "
    return (
        _templates()
        .get_template(template)
        .render(
            policy=f"{policy}base-uri 'none'; form-action 'none'",
            style=source("style.css"),
            scripts=sources,
            library=library,
            data={name: island(value) for name, value in data.items()},
            **clean(more),
        )
    )


def island(value: Any) -> str:
    """JSON that no HTML parser takes for markup."""
    text = json.dumps(clean(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")


def clean(value: Any) -> Any:
    """The same with every word `printable`: nothing that turns the direction of writing, and all of it is text."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict):
        return {printable(name): clean(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [each if type(each) in (int, float) else clean(each) for each in value]
    return value


@cache
def source(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


@cache
def plotly() -> str:
    """Plotly's bundle, as its package brings it."""
    from importlib.resources import files

    return files("plotly").joinpath("package_data/plotly.min.js").read_text(encoding="utf-8")


@cache
def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


@cache
def _templates() -> jinja2.Environment:
    loader = jinja2.FileSystemLoader(HERE)
    templates = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    templates.filters |= {"glued": _glued, "flagged": _flagged}
    return templates


def _glued(words: str) -> str:
    """A name with its mark, which no line break parts from it."""
    return words.replace(f" {SEPARABLE}", f"\u00a0{SEPARABLE}")


def _flagged(words: str) -> Markup:
    """Words in which no line break parts a flag from its hyphens."""
    return Markup(re.sub(r"(?<!\S)--[\w-]+", r'<span class="flag">\g<0></span>', str(escape(words))))
