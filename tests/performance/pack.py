"""A small part of data and weights, to travel to a machine with a GPU that has none: for `quarter.sh`.

    python -m tests.performance.pack DATA WEIGHTS OUT

OUT/data: of CIFAR-10 the first training images, and of each set the first test images, in shards
of the same form; OUT/weights: the files of the stems that --stems names. The sum of bytes is said.
"""

import argparse
import shutil
from pathlib import Path

import pyarrow.parquet as pq

ID = "cifar10"
FAR = ("mnist", "fashion_mnist", "kmnist", "isun", "textures", "miniplaces", "miniplaces_scenes_resize")


def shorten(source: Path, split: str, count: int, target: Path) -> None:
    """The first `count` images of a split, in as many shards as they come from."""
    kept = []
    for shard in sorted(source.glob(f"{split}-*.parquet")):
        kept.append(pq.read_table(shard).slice(0, count))
        count -= len(kept[-1])
        if not count:
            break
    target.mkdir(parents=True, exist_ok=True)
    for number, table in enumerate(kept):
        pq.write_table(table, target / f"{split}-{number:05}-of-{len(kept):05}.parquet")


def main() -> None:
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("data", "weights", "out"):
        parse.add_argument(name, type=Path)
    parse.add_argument("--train", type=int, default=10_000, help="training images (default: 10,000)")
    parse.add_argument("--test", type=int, default=1_000, help="test images of each set (default: 1,000)")
    parse.add_argument("--stems", nargs="*", default=["tf_efficientnet_lite0"], help="of weights")
    given = parse.parse_args()
    shorten(given.data / ID, "train", given.train, given.out / "data" / ID)
    for name in (ID, "cifar100", *FAR):
        shorten(given.data / name, "test", given.test, given.out / "data" / name)
    (given.out / "weights").mkdir(exist_ok=True)
    for stem in given.stems:
        shutil.copyfile(given.weights / f"{stem}.safetensors", given.out / "weights" / f"{stem}.safetensors")
    size = sum(path.stat().st_size for path in given.out.rglob("*") if path.is_file())
    print(f"{size / 2**20:.1f} MiB in {given.out}")


if __name__ == "__main__":
    main()
