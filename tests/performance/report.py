"""Runs every performance script and writes results/SPEED.md: their tables, what they were measured on, and when."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.performance import paired

SCRIPTS = ("whole_table", "encoders", "scoring", "lfdn_training", "neighbours", "loaders", "memory")
SPEED = Path(__file__).parents[2] / "results" / "SPEED.md"


def measure(script: str, arguments: list[str]) -> dict[str, Any]:
    """The last line of a script."""
    command = [sys.executable, "-m", f"tests.performance.{script}", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def page(results: dict[str, dict[str, Any]]) -> str:
    """The report in Markdown."""
    table, first = results["whole_table"], next(iter(results.values()))
    machine = first["machine"]
    where = machine["gpu"] if first["device"].startswith("cuda") else f"{machine['cpu']}, {machine['threads']} threads"
    versions = ", ".join(f"{name} {version}" for name, version in first["versions"].items())
    memory = f"{machine['cores']} cores, {machine['memory_gib']} GiB"
    command = f"python -m tests.performance.report{' --full' if first['full'] else ''}"
    parts = [
        "# Speed",
        f"Written by `{command}` on {first['date'][:10]}, commit {str(machine['commit'])[:9]}: {where}, {memory}. "
        f"{versions}.\nRatios are medians over pairs of runs that followed one another.",
        f"The whole table takes {table['floor_ratio']:.2f} x the bare encoder forward, with "
        f"{table['encoder_passes']:g} encoder pass an image; pytorch-ood takes {table['peer_ratio']:.1f} x as long as "
        f"this project, with {table['peer_encoder_passes']:.1f}. Largest difference of an AUROC between the two: "
        + ", ".join(f"{method} {difference:.4f}" for method, difference in table["auroc_differences"].items())
        + " (Mahalanobis: a singular covariance where there are fewer training images than features).",
    ]
    for name, result in results.items():
        parts += [f"## {result['title']}", f"`python -m tests.performance.{name}`", result["table"]]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    paired.arguments(__doc__)  # the flags are passed on
    results = {script: measure(script, sys.argv[1:]) for script in SCRIPTS}
    SPEED.write_text(page(results), encoding="utf-8")
    print(f"wrote {SPEED}")


if __name__ == "__main__":
    main()
