"""The command line: parse, hand over, exit status. Heavy imports happen after the arguments are understood."""

import argparse
import gc
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmark.planning.options import Options

HERE = Path(__file__).resolve().parent
if sys.path[0] != str(HERE):  # started as `ood-benchmark`, from any folder
    sys.path.insert(0, str(HERE))


def main(arguments: list[str] | None = None) -> int:
    from benchmark.arguments import parsed
    from benchmark.shown import printed

    command = sys.argv
    alone = arguments is None  # the process is this command's; else a notebook's, and records say with what
    if not alone:
        sys.argv = ["run_all.py", *(arguments or ())]
    try:
        with printed():
            given = parsed(arguments)
            try:
                status = _status(given, alone)
                sys.stdout.flush()
            except OSError as error:  # what is shown cannot be written
                print(f"error: {error}", file=sys.stderr)
                status = 1
            return status
    finally:
        sys.argv = command
        if alone:
            gc.freeze()  # with torch the interpreter's last search for garbage takes half a second


def _status(given: argparse.Namespace, alone: bool) -> int:
    if alone:
        gc.disable()  # what is imported is no garbage
    # before torch is imported: a thread that waits spins for microseconds, then sleeps, and does not keep the core from
    # whoever shares the machine; to sleep at once ("passive") halves the speed of small networks
    os.environ.setdefault("GOMP_SPINCOUNT", "5000")
    # between batches a block of encoded images took some 1 to 6 ms with pyarrow's own allocator, else mostly 1
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    if not sys.stderr.isatty():  # a log file wants a line now and then, not ten a second
        os.environ.setdefault("TQDM_MININTERVAL", "10")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a scheduler's stop is a Ctrl-C
    try:
        for file in given.plugin:
            import methods

            methods.load(file)
    except ValueError as error:
        print(f"error: --plugin: {error}", file=sys.stderr)
        return 2
    if given.list:
        from benchmark.listing import listing

        print(listing(given.data, given.weights))
        return 0
    from benchmark.arguments import network
    from benchmark.planning.id_images import BadData
    from benchmark.planning.options import Options, device_of, resolved
    from benchmark.planning.suite import UsageError
    from benchmark.running.runner import DiskFull
    from benchmark.running.session import ClusterError
    from benchmark.store.files import is_full
    from datasets.sources import Missing

    if alone:
        gc.freeze()
        gc.enable()
    try:
        device = device_of(given.device)
        if given.detector:
            from benchmark.detecting import score

            accept = given.accept or "95"
            return score(given.detector, given.score, accept, device=device, strict=given.strict)
        asked = None if given.precision == "auto" else given.precision
        options = Options(
            data=given.data,
            weights=given.weights,
            results=given.results,
            cache=given.cache or given.results / ".cache",
            device=device,
            batch_size=given.batch_size,
            shard=given.shard,
            asked=asked,
            precision=resolved(asked, device, runs=not (given.redraw or given.paper), every=given.cluster is not None),
            pretrained=given.pretrained,
            network=network(given),
            limit=given.limit,
            limit_train=given.limit_train,
            quick=given.quick,
            resolution=given.resolution,
            speed=not given.no_speed,
            pdf=given.pdf,
            methods=tuple(given.methods),
            ood=tuple(given.ood),
            seeds=tuple(given.seeds),
            sweeps=tuple(given.sweep),
            searched=given.searched,
        )
        return _run(given, options)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (Missing, BadData, DiskFull, ClusterError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            "interrupted: what was finished is kept; the same command goes on from here, --redraw shows what there is",
            file=sys.stderr,
        )
        return 130
    except OSError as error:  # a folder that cannot be written, a disk that is full
        full = "no space left; free some, or choose another --results or --cache: " if is_full(error) else ""
        print(f"error: {full}{error}", file=sys.stderr)
        return 1


def _run(given: argparse.Namespace, options: "Options") -> int:
    import torch

    from benchmark import commands
    from benchmark.planning import folder_suite
    from benchmark.planning.changing import changed
    from benchmark.planning.options import results_folder
    from benchmark.running import where

    if given.paper:
        from benchmark.papers import views

        print(views.show(given.paper, options))
        commands.open_page(given, results_folder("papers", options) / "report.html")
        return 0
    suite = folder_suite.asked(given.id or "digits")
    if given.write_suite:
        folder_suite.write(changed(suite, replace(options, quick=False))[0], given.write_suite)
        print(f"wrote {given.write_suite}: run_all.py --id {given.write_suite}", file=sys.stderr)
        return 0
    place = None
    if given.cluster is not None:
        place = where.place(given.cluster, options.device, given.share_gpu)
        torch.set_num_threads(place.threads)  # speeds are planned, and recorded, for so many
    if given.plan:
        return commands.plan(suite, options)
    if given.redraw:
        return commands.redraw(given, suite, options)
    return commands.measure(given, suite, options, place)


if __name__ == "__main__":
    sys.exit(main())
