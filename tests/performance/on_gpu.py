"""Everything that is measured on a GPU, in one command: python -m tests.performance.on_gpu

In parts, the most important first, each in a process of its own with a limit of time: what fails or takes too long
stops no other. A part's result is kept as JSON (--keep) as soon as it is there, and a call goes on where the last one
stopped; sections of results/SPEED.md are written from it. --dry-run says what each part takes; --device cpu takes tiny
sizes and shows that all of it runs; its sections go to a file beside the JSON. The section "On a GPU" holds against
what was measured before; it says which parts were rehearsed.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.performance import paired, report

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Part:
    """One thing that is measured, by the function of `gpu_parts` of that name; `limit` in seconds."""

    name: str
    limit: int
    about: str


NETWORKS = (  # side of the images and batch
    ("resnet18", 32, 1024),
    ("tf_efficientnet_b4", 224, 128),
    ("vit_base_patch16_224", 224, 128),
    ("resnet50", 224, 128),
    ("densenet_bc_100_12", 32, 512),
    ("tf_efficientnet_lite0", 224, 256),
)
PARTS = (
    *(Part(f"encoder_{name}", 60, f"{name} by precision, beside plain timm") for name, _, _ in NETWORKS[:2]),
    Part("table", 90, "nine methods beyond the bare forward pass; pytorch-ood in a process of its own"),
    *(Part(f"encoder_{name}", 60, f"{name} by precision, beside plain timm") for name, _, _ in NETWORKS[2:]),
    Part("training", 60, "LFDN's training by precision: the loop, and its captured step"),
    Part("search", 40, "exact neighbours on the device, beside the CPU"),
    Part("end_to_end", 60, "EfficientNet-B4 from PNG files to scores"),
    Part("loading", 40, "the stages of loading"),
    Part("auroc", 120, "AUROC by row, TF32 against strict float32"),
    Part("table_whole", 240, "the table beyond the bare forward pass, all images that there are"),
)
REHEARSAL = 600  # seconds of a part where nothing is measured: whatever else the machine does
NAMES = [part.name for part in PARTS]


def kept(folder: Path, part: Part, device: str) -> Path:
    """Where a part's result is."""
    return folder / device.partition(":")[0] / f"{part.name}.json"


def results(folder: Path, device: str) -> dict[str, dict[str, Any]]:
    """What was kept of each part on such a device."""
    paths = {part.name: kept(folder, part, device) for part in PARTS}
    return {name: json.loads(path.read_text(encoding="utf-8")) for name, path in paths.items() if path.exists()}


def carry_out(part: Part, device: str, data: Path | None) -> dict[str, Any]:
    """The part's last line. RuntimeError, in one line, where it fails or takes longer than its limit."""
    tiny, limit = ("tiny", REHEARSAL) if device == "cpu" else ("whole", part.limit)
    command = [sys.executable, "-m", "tests.performance.gpu_parts", part.name, device, tiny]
    status, said, wrong = ended([*command, *([str(data)] if data else [])], limit)
    if status:
        raise RuntimeError((wrong.strip().splitlines() or [f"status {status}"])[-1])
    result: dict[str, Any] = json.loads(said.splitlines()[-1])
    return result


def ended(command: list[str], limit: float) -> tuple[int, str, str]:
    """Status, output and errors. RuntimeError at the limit: the process ends then, with all that it started."""
    how: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=ROOT, start_new_session=True, **how) as process:
        try:
            said, wrong = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"not done after {limit} s") from None
        finally:
            with contextlib.suppress(ProcessLookupError):  # nobody of its group is left
                os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, said, wrong


def main() -> None:
    parse = paired.parser(__doc__)
    parse.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(NAMES)} (default: all)")
    parse.add_argument("--keep", type=Path, default=ROOT / "results" / "on_gpu", help="where results are kept as JSON")
    parse.add_argument("--dry-run", action="store_true", help="say what each part takes, and measure nothing")
    given = parse.parse_args()
    if unknown := set(given.parts) - set(NAMES):
        parse.error(f"no part {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    device = "cuda" if given.device == "auto" else given.device
    parts = [part for part in PARTS if not given.parts or part.name in given.parts]
    failed = []
    for part in parts:
        path = kept(given.keep, part, device)
        there = path.exists()
        if given.dry_run:
            print(f"{part.name}: {part.about}; at most {part.limit} s{'; there already' if there else ''}")
        elif not there:
            try:
                result = carry_out(part, device, given.data)
            except RuntimeError as error:
                failed.append(part.name)
                print(f"{part.name}: {error}")
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(result) + "\n", encoding="utf-8")
            scratch = given.keep / "SPEED.md"  # of a rehearsal, whose numbers say nothing
            report.add(f"on_gpu {part.name}", result, scratch if device == "cpu" else report.SPEED)
            print(f"{part.name}\n\n{result['table']}\n")
    if not given.dry_run:
        report.overview(results(given.keep, "cuda"), results(given.keep, "cpu"), report.SPEED)
    if given.dry_run:
        print(f"in all at most {sum(part.limit for part in parts)} s on {device}")
    if failed:
        sys.exit(f"not measured: {', '.join(failed)}; the same command goes on with these")


if __name__ == "__main__":
    main()
