"""What `--list` shows: suites, methods, encoders, data sets, and which of them are present."""

from pathlib import Path

import methods
from benchmark.papers import reading
from benchmark.papers.lacking import lacking
from benchmark.planning import suite, yaml_reader
from datasets import catalogue
from datasets.sources import present
from methods.encoders import registry
from methods.encoders.base import registered

WIDTH = 26  # of the column of names


def listing(data: Path, weights: Path) -> str:
    """Everything that a run can name, as text."""
    lines = ["SUITES (--id)"]
    for name in suite.names():
        content = yaml_reader.read(suite.SUITES / f"{name}.yaml")
        lines.append(f"  {name:{WIDTH}}{content['title']}")
    lines += ["", "VIEWS OF PAPERS (--paper)"]
    for name in reading.names():
        view = reading.read(name)
        absent = lacking(view, data, weights)
        state = f"lacks {', '.join(absent)}" if absent else "complete: all that it needs is here"
        lines += [f"  {name:{WIDTH}}{view.title}", f"  {'':{WIDTH}}{state}"]
    lines += ["", "METHODS (--methods)"]
    for name in methods.names():
        method = methods.get(name)
        reads = (" or " if method.reads_any else ", ").join(method.reads) or "nothing"
        lines.append(f"  {name:{WIDTH}}{method.title}; reads {reads}")
        if method.paper:
            lines.append(f"  {'':{WIDTH}}{method.paper}")
    lines += ["", "ENCODERS (in suites)"]
    for name in registry.names():
        lines.append(f"  {name:{WIDTH}}{registered()[name].title}")
    files = sorted(path.name for path in weights.glob("*.safetensors")) if weights.is_dir() else []
    lines.append(f"  {'':{WIDTH}}weights in {weights}: {', '.join(files) or 'none'}")
    lines += ["", f"DATA SETS (--ood; in {data})"]
    for name in catalogue.names():
        there = present(name, data)
        lines.append(f"  {name:{WIDTH}}{'present' if there else 'absent':9}{catalogue.get(name).title}")
    return "\n".join(lines)
