"""Runs the performance scripts, all or those that are named, and puts their tables into results/SPEED.md.

Each section says what it was measured on and when; sections of other scripts, sizes and devices stay.
"""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.performance import gpu_before, paired

SCRIPTS = (
    "whole_table",
    "changes",
    "encoders",
    "scoring",
    "lfdn_training",
    "neighbours",
    "loaders",
    "stages",
    "memory",
    "startup",
    "many_cells",
    "shares",
)
ON_GPU = "on_gpu"  # has a section a part, and is not among the scripts that are run where there is no GPU
SPEED = Path(__file__).parents[2] / "results" / "SPEED.md"
HEAD = """# Speed

Written by `tests/performance/report.py`; each section names the script that measured it. Ratios are medians over pairs
of runs that followed one another, so that what else a machine does hits both; the seconds themselves are those of one
machine on one day."""
_SECTION = re.compile(r"^## [^\n]*\n\n`python -m tests\.performance\.(on_gpu \w+|\w+)( --full)?[^`]*` on (cpu|cuda)")
Sections = dict[tuple[str, bool, str], str]  # by script, whether whole, and device


def measure(script: str, arguments: list[str]) -> dict[str, Any]:
    """The last line of a script."""
    command = [sys.executable, "-m", f"tests.performance.{script}", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def section(script: str, result: dict[str, Any]) -> str:
    """A script's table in Markdown, below what it was measured on."""
    machine = result["machine"]
    device = result["device"].partition(":")[0]
    where = f"{machine['cpu']}, {machine['threads']} threads, {machine['cores']} cores, {machine['memory_gib']} GiB"
    if device == "cuda":
        where = f"{machine['gpu']}; {where}"
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    full = ["--full"] if result["full"] else []
    command = " ".join([f"python -m tests.performance.{script}", *full, *result.get("methods", [])])
    commit = re.sub(r"^(.{9})[0-9a-f]*", r"\1", str(machine["commit"]))  # a plus behind it: with changes
    about = f"`{command}` on {device}, {result['date'][:10]}, commit {commit}: {where}. {versions}."
    parts = [f"## {result['title']}{', whole' if result['full'] else ''}", about, result["table"]]
    if script == "whole_table" and "beyond_seconds" not in result:
        parts.append(_whole_table(result))
    return "\n\n".join(parts)


def _whole_table(result: dict[str, Any]) -> str:
    differences = ", ".join(f"{method} {value:.4f}" for method, value in result["auroc_differences"].items())
    return (
        f"The whole table takes {result['floor_ratio']:.2f} x the bare encoder forward, with "
        f"{result['encoder_passes']:g} encoder pass an image, every post-hoc method {result['floor_ratio_all']:.2f} x, "
        f"those that search for neighbours {result['floor_ratio_neighbours']:.2f} x; "
        f"pytorch-ood takes {result['peer_ratio']:.1f} x as long "
        f"as this project, with {result['peer_encoder_passes']:.1f}; beside a table that were nothing but its one pass "
        f"it would be {result['peer_ratio'] * result['floor_ratio']:.1f} x, so that no more is to be had here. "
        f"Largest difference of an AUROC between the two: {differences}."
    )


def read(text: str) -> Sections:
    """The sections of a page that `page` made."""
    found = {}
    for part in re.split(r"\n\n(?=## )", text.strip()):
        if match := _SECTION.match(part):
            found[match[1], match[2] is not None, match[3]] = part
    return found


def page(sections: Sections) -> str:
    """The report in Markdown."""
    order = sorted(sections, key=lambda name: ((*SCRIPTS, ON_GPU).index(name[0].split()[0]), *name))
    return "\n\n".join([HEAD, *(sections[name] for name in order)]) + "\n"


def add(script: str, result: dict[str, Any], path: Path) -> None:
    """Put one result in its place in the page at `path`."""
    sections = read(path.read_text(encoding="utf-8")) if path.exists() else {}
    sections[script, result["full"], result["device"].partition(":")[0]] = section(script, result)
    path.write_text(page(sections), encoding="utf-8")


def overview(results: dict[str, dict[str, Any]], rehearsed: dict[str, dict[str, Any]], path: Path) -> None:
    """Put what was measured on a GPU before and now into the page at `path`: "unmeasured" of parts without a result."""
    rows = []
    for figure in gpu_before.FIGURES:
        now = figure.now(results[figure.part]) if figure.part in results else None
        rows.append((figure.what, figure.before, "unmeasured" if now is None else now))
    dates = {result["date"][:10] for result in rehearsed.values()}
    shown = (
        f"Rehearsed on a CPU with tiny sizes ({', '.join(sorted(dates))}): {', '.join(rehearsed)} ran to their ends "
        "and wrote their sections; that says nothing of a GPU's speed."
        if rehearsed
        else "No part was rehearsed on a CPU."
    )
    about = f"`python -m tests.performance.{ON_GPU}` on cuda; before: {gpu_before.MACHINE}."
    part = "\n\n".join(["## On a GPU", about, paired.table(("what", "before", "now"), rows), shown])
    sections = read(path.read_text(encoding="utf-8")) if path.exists() else {}
    sections[ON_GPU, False, "cuda"] = part
    path.write_text(page(sections), encoding="utf-8")


def main() -> None:
    parse = paired.parser(__doc__)
    parse.add_argument("scripts", nargs="*", metavar="SCRIPT", help=f"of {', '.join(SCRIPTS)} (default: all)")
    given = parse.parse_args()
    if unknown := set(given.scripts) - set(SCRIPTS):
        parse.error(f"no script {', '.join(sorted(unknown))}; there are {', '.join(SCRIPTS)}")
    flags = [argument for argument in sys.argv[1:] if argument not in given.scripts]
    for script in given.scripts or SCRIPTS:
        add(script, measure(script, flags), SPEED)
        print(f"{script}: in {SPEED}")


if __name__ == "__main__":
    main()
