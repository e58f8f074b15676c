"""The flags of the command line, and what cannot stand together: long, as they are many. Nothing heavy is imported."""

import argparse
import os
import re
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parents[1]
ENGINES = ("torch", "onnxruntime", "auto")
EXAMPLES = """
examples:
  python run_all.py                                  the embedded suite `digits`: nothing to download
  python run_all.py --id cifar10 --limit 100 --quick a trial, in its own results folder
  python run_all.py --id cifar10 --methods dlsr knn@densenet --ood svhn my/photos
  python run_all.py --paper table3                   Table 3 of the DLSR paper: ours, published, difference
  python run_all.py --list                           suites, methods, encoders and data sets

status: 0 when everything that could run was measured, 1 for a failure or where nothing was measured (with --strict
also for what was absent or skipped), 2 for usage.
"""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {' '.join(message.split()):.300}\n")


def _whole(text: str, low: int, high: int) -> int:
    """A number as it is written in decimal, from `low` to `high`."""
    if not re.fullmatch(r"[0-9]{1,19}", text) or not low <= int(text) <= high:
        raise argparse.ArgumentTypeError(f"{text!r:.30} is no whole number from {low:,} to {high:,}")
    return int(text)


def _count(text: str) -> int:
    return _whole(text, 1, 10**9)


def _batch_size(text: str) -> int | None:
    return None if text == "auto" else _count(text)


def _engine(text: str) -> str:
    if text not in ENGINES:
        raise argparse.ArgumentTypeError(f"{text!r:.30}: valid are {', '.join(ENGINES)}")
    return text


def _seed(text: str) -> int:
    return _whole(text, 0, 2**63 - 1)


def _name(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("an empty name")
    return text


def _folder(text: str) -> Path:
    """A folder that is there, or could be made."""
    path = Path(_name(text)).expanduser().absolute()  # so that no word of a message can be taken for it
    for each in (path, *path.parents):
        if os.path.lexists(each):
            if not each.is_dir():
                raise argparse.ArgumentTypeError(f"{each} is no folder")
            break
    return path


def _file(text: str) -> Path:
    path = Path(_name(text)).expanduser().absolute()
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"{path} is no file")
    return path


def _path(text: str) -> Path:
    return Path(_name(text)).expanduser()


def network(given: argparse.Namespace) -> dict[str, Any] | None:
    """The settings of the user's own network, where flags name one."""
    settings = {name: getattr(given, name) for name in ("network", "checkpoint", "mean", "std", "size", "crop")}
    settings = {name: value for name, value in settings.items() if value is not None}
    return {**settings, "checkpoint": f"{given.checkpoint}"} if settings else None


def parser() -> argparse.ArgumentParser:
    """The flags."""
    parse = _Parser(
        prog="run_all.py",
        description="Run OOD detectors on one ID set and its OOD sets: one encoder pass, one table.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = parse.add_argument_group("what to run")
    what.add_argument(
        "--id",
        type=_name,
        metavar="NAME|FILE.yaml|DIR",
        help="the suite: one ID set with its OOD sets, encoders and rows (default: digits); or a folder with id/train, "
        "id/test, near/<set>, far/<set>, covariate/<set> (shifted ID), each of images, or of features (.npz, "
        ".safetensors, a folder of .npy)",
    )
    what.add_argument(
        "--methods",
        nargs="+",
        type=_name,
        default=[],
        metavar="ROW",
        help="only these: rows of the suite, registered methods, method@encoder, or method:k=5 for other settings",
    )
    what.add_argument(
        "--ood",
        nargs="+",
        type=_name,
        default=[],
        metavar="SET",
        help="only these: names of the catalogue, or folders of images or of parquet files",
    )
    what.add_argument(
        "--seeds",
        nargs="+",
        type=_seed,
        default=[],
        metavar="N",
        help="seeds of the rows that draw (default: the suite's)",
    )
    what.add_argument(
        "--sweep",
        action="append",
        type=_name,
        default=[],
        metavar="ROW.k=1,5,50",
        help="values of a hyper-parameter as rows beside the others, only shown; may stand there several times",
    )
    what.add_argument(
        "--searched",
        nargs="?",
        const="",
        metavar="SET",
        help="rows with hyper-parameters that are chosen from their published grids (with --sweep: from its values) on "
        "this set, which shares no image with a test set (default: the one of OpenOOD's protocol); marked `searched`",
    )
    what.add_argument(
        "--pretrained",
        type=_name,
        metavar="TIMM_NAME",
        help="another model of timm or torchvision in the place of the suite's pretrained encoder",
    )
    own = parse.add_argument_group("a network of your own, in the place of the suite's encoders")
    own.add_argument(
        "--network", type=_name, metavar="NAME", help="an architecture of timm or torchvision, with --checkpoint"
    )
    own.add_argument(
        "--checkpoint", type=_file, metavar="FILE", help="its weights, in any form that training code writes"
    )
    own.add_argument("--mean", nargs=3, type=float, metavar=("R", "G", "B"), help="of pixels from 0 to 1")
    own.add_argument("--std", nargs=3, type=float, metavar=("R", "G", "B"))
    own.add_argument("--size", type=_count, metavar="N", help="height and width, in pixels, of what it reads")
    own.add_argument(
        "--crop", type=float, metavar="SHARE", help="of the image that is kept (timm's crop_pct), 1: all of it"
    )
    what.add_argument(
        "--plugin",
        action="append",
        type=Path,
        default=[],
        metavar="FILE.py",
        help="a Python file with methods of your own; may stand there several times",
    )
    what.add_argument(
        "--resolution",
        choices=("native", "id"),
        default="native",
        help="images from their own size, or all brought to the ID set's size first",
    )
    what.add_argument(
        "--precision",
        choices=("auto", "32", "tf32", "bf16"),
        default="auto",
        help="of encoders' passes and of trainings (default: auto, which is tf32 on a GPU that has it, else 32)",
    )
    trial = parse.add_argument_group("trials (results go to a folder of their own)")
    trial.add_argument("--limit", type=_count, metavar="N", help="at most N test images of each set")
    trial.add_argument(
        "--limit-train", type=_count, metavar="M", help="at most M training images, balanced over classes"
    )
    trial.add_argument("--quick", action="store_true", help="the suite's short trainings on few images")
    where = parse.add_argument_group("where")
    where.add_argument(
        "--data",
        type=_folder,
        default=os.environ.get("OOD_DATA", ROOT / "data"),
        metavar="DIR",
        help="data sets (default: $OOD_DATA, or data/)",
    )
    where.add_argument(
        "--weights",
        type=_folder,
        default=os.environ.get("OOD_WEIGHTS", ROOT / "weights"),
        metavar="DIR",
        help="networks (default: $OOD_WEIGHTS, or weights/)",
    )
    where.add_argument(
        "--results",
        type=_folder,
        default=ROOT / "results",
        metavar="DIR",
        help="records, tables, figures (default: results/)",
    )
    where.add_argument(
        "--cache",
        type=_folder,
        metavar="DIR",
        help="features, fits and scores (default: .cache in the results folder)",
    )
    _home(parse)
    how = parse.add_argument_group("how")
    how.add_argument("--device", default="auto", metavar="auto|cpu|cuda[:i]", help="default: auto")
    how.add_argument(
        "--batch-size",
        type=_batch_size,
        metavar="auto|N",
        help="images a batch (default: auto, by the size of the images and the device); changes no score",
    )
    how.add_argument(
        "--shard",
        type=_count,
        default=20_000,
        metavar="N",
        help="a pass over more images than N is cut into jobs of at most N (default: 20,000)",
    )
    how.add_argument(
        "--engine",
        type=_engine,
        default=os.environ.get("OOD_ENGINE"),
        metavar="torch|onnxruntime|auto",
        help="what runs encoders' networks on the CPU (default: $OOD_ENGINE, or the suite's, or auto: ONNX Runtime "
        "where it is installed, faster, and the images are so many that they pay for the export)",
    )
    how.add_argument(
        "--cluster",
        type=_name,
        metavar="local[:N]|auto",
        help="on Ray: this machine's GPUs (on the CPU N workers, default one a core), or the cluster that runs here",
    )
    how.add_argument(
        "--share-gpu",
        type=_count,
        metavar="N",
        help="with --cluster: N small encoders on one GPU at once (default: 1)",
    )
    how.add_argument("--pdf", action="store_true", help="figures as PDF as well")
    how.add_argument("--open", action="store_true", help="open the page, report.html, in the browser afterwards")
    how.add_argument("--no-images", action="store_true", help="in the page only images that may be passed on")
    how.add_argument("--no-speed", action="store_true", help="do not measure images per second")
    how.add_argument("--debug", action="store_true", help="show the traceback of what fails")
    how.add_argument("--strict", action="store_true", help="absent sets and skipped rows are failures")
    look = parse.add_argument_group("the table in the terminal (table.md has all rows and columns)")
    look.add_argument(
        "--sort",
        choices=("suite", "average"),
        default="suite",
        help="rows as the suite has them (default), or the best on average first",
    )
    look.add_argument(
        "--columns",
        nargs="+",
        type=_name,
        default=[],
        metavar="NAME",
        help="only these: near, far, a set, average, accuracy, speed, or all (default: what fits)",
    )
    look.add_argument(
        "--all-rows", action="store_true", help="also the rows that check harness and sets (random, constant, lowlevel)"
    )
    look.add_argument("--json", action="store_true", help="the numbers as JSON on stdout, in the place of the table")
    instead = parse.add_argument_group("instead of running")
    instead.add_argument(
        "--list", action="store_true", help="suites, methods, encoders, data sets and which are present"
    )
    instead.add_argument("--plan", action="store_true", help="the jobs, what is done, and what the rest would take")
    instead.add_argument(
        "--write-suite",
        type=Path,
        metavar="FILE.yaml",
        help="the suite that the folder of --id stands for, to edit",
    )
    instead.add_argument(
        "--paper",
        type=_name,
        metavar="VIEW|all",
        help="a table or figure of a paper, from what the suites have measured with the same flags; runs nothing",
    )
    instead.add_argument(
        "--redraw",
        action="store_true",
        help="tables, figures and page again, from what is measured; where --results holds committed records, the "
        "pages of all of them, or that of --id",
    )
    return parse


def _home(parse: argparse.ArgumentParser) -> None:
    """The flags of detectors that are taken home."""
    home = parse.add_argument_group("a detector to take home")
    home.add_argument(
        "--save",
        nargs="+",
        type=_name,
        default=[],
        metavar="ROW",
        help="save the detectors of these rows, fitted without the calibration images, below the results",
    )
    home.add_argument("--onnx", action="store_true", help="with --save: as an ONNX file as well")
    home.add_argument(
        "--detector", type=_path, metavar="DIR", help="a saved detector; with --score, and nothing is run beside"
    )
    home.add_argument(
        "--score", nargs="+", type=_path, default=[], metavar="PATH", help="images, folders of them, or features: CSV"
    )
    home.add_argument(
        "--accept", metavar="PERCENT", help="of the ID calibration images that would be accepted (default: 95)"
    )


def _detector_fault(given: argparse.Namespace) -> str:
    """What cannot be among the flags of detectors; "" where nothing is."""
    if bool(given.detector) != bool(given.score):
        return "--detector DIR and --score PATH ... go together"
    if given.accept and not given.detector:
        return "--accept is for --detector DIR --score PATH ..."
    if given.onnx and not given.save:
        return "--onnx is for --save ROW ..."
    looking = [name for name in ("list", "plan", "redraw", "paper", "write_suite") if getattr(given, name)]
    if given.save and (looking or given.detector):
        return f"--save beside --{(looking or ['detector'])[0].replace('_', '-')}, which runs no suite"
    if given.detector and (given.id or looking):
        return f"--detector beside --{(['id'] if given.id else looking)[0].replace('_', '-')}: leave one of them out"
    return ""


def parsed(arguments: list[str] | None = None) -> argparse.Namespace:
    """The flags as they were given; what cannot be ends the process with status 2 and one line."""
    parse = parser()
    given = parse.parse_args(arguments)
    if given.paper and given.id:
        parse.error("--id beside --paper: a view names the suites that it shows; leave one of them out")
    own = network(given)
    if own is not None and not (given.network and given.checkpoint):
        parse.error("a network of your own is --network NAME with --checkpoint FILE")
    if own is not None and (given.pretrained or given.paper):
        parse.error(f"--network beside --{'pretrained' if given.pretrained else 'paper'}: leave one of them out")
    without = next((name for name in ("list", "plan", "write_suite", "paper") if getattr(given, name)), None)
    if given.json and without:
        parse.error(f"--json beside --{without.replace('_', '-')}: there are no numbers of a run to print")
    if given.share_gpu and not given.cluster:
        parse.error("--share-gpu without --cluster: one process uses one GPU")
    if fault := _detector_fault(given):
        parse.error(fault)
    if len(set(given.seeds)) < len(given.seeds):
        parse.error("--seeds: a seed stands there twice")
    return given
