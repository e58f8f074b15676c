"""Sets that are not here, for `--plan`: as many images as their protocol lists, or the catalogue says they have."""

from benchmark.planning.options import Options
from benchmark.planning.suite import Suite
from datasets import catalogue, openood
from datasets.counted import CountedSet
from datasets.sources import ImageSet, Missing, is_path


def images(suite: Suite, name: str, split: str, options: Options, *, download: bool) -> ImageSet:
    """A set that a suite names, or with `options.counted` what stands for one that is absent; Missing for others."""
    try:
        return suite.images(name, split, options.data, download=download)
    except Missing:
        if not options.counted or is_path(name):
            raise
        known = openood.known().get((suite.protocol or "", name, split))
        return CountedSet(catalogue.get(name), split, known.images if known else None)
