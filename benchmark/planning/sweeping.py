"""Values of a hyper-parameter as rows (`--sweep`), and the set that one of them is chosen on (`--searched`)."""

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmark.jobs.inputs import Selection
from benchmark.planning.choosing import choose_rows
from benchmark.planning.columns import Column
from benchmark.planning.id_images import IDImages
from benchmark.planning.options import Options
from benchmark.planning.parts import RowSpec
from benchmark.planning.suite import Suite, UsageError
from datasets import openood
from datasets.sources import ImageSet, is_path
from datasets.walking import printable

_SWEEP = re.compile(r"(.+)\.(\w+)=(.+)", re.DOTALL)  # knn.k=1,5 or knn@resnet18.k=1,5
_COMMA = re.compile(r",(?![^\[]*\])")  # between values, not inside of a list


@dataclass(frozen=True)
class Sweeps:
    """The rows of all sweeps, and by their labels what records say of them."""

    rows: tuple[RowSpec, ...] = ()
    about: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def sweeps(suite: Suite, tokens: Iterable[str]) -> Sweeps:
    """A row for every value, as `--methods name:k=5` names it, of each row that a token names.

    Each sweep is of one hyper-parameter, the others as the row has them. UsageError for a value that cannot be.
    """
    rows: dict[str, RowSpec] = {}
    about: dict[str, Mapping[str, Any]] = {}
    for token in tokens:
        if (told := _SWEEP.fullmatch(token)) is None:
            raise UsageError(f"--sweep {token}: a sweep is ROW.hyper-parameter=value,value, as in knn.k=1,5,50")
        name, parameter, values = told.groups()
        for base in choose_rows(suite, [name], flag="--sweep"):
            called, _, encoder = base.label.rpartition("@")
            for value in _COMMA.split(values):
                (row,) = choose_rows(suite, [f"{called}:{parameter}={value.strip()}@{encoder}"], flag="--sweep")
                if row.label in rows:
                    raise UsageError(f"--sweep {token}: {parameter}={value.strip()} stands there twice")
                rows[row.label] = row
                about[row.label] = {
                    "of": base.label,
                    "hyperparameter": parameter,
                    "value": row.settings[parameter],
                }
    return Sweeps(tuple(rows.values()), about)


def validation_set(suite: Suite, name: str) -> tuple[str, str]:
    """The set that `--searched` names and its split: "" is the part of one that the suite's protocol has for this."""
    if name:
        return name, "test"
    if suite.protocol is None:
        raise UsageError(f"--searched: {suite.name} follows no protocol with a set for this: --searched SET")
    return openood.validation_set(suite.protocol), "validation"


def validation(
    name: str,
    split: str,
    look_up: Callable[[str, str], ImageSet],
    options: Options,
    known: IDImages,
    columns: Sequence[Column],
) -> Selection:
    """The set that values are chosen on. UsageError where it cannot be, or holds images of the test sets or ID sets.

    Missing where it is absent.
    """
    if is_path(name) and not os.path.exists(os.path.expanduser(name)):
        raise UsageError(f"--searched: there is no folder {printable(name)}")
    try:
        images = look_up(name, split)
        known.forms.check(images)
        others = [(column.images.images, "tested") for column in columns if column.spec.group != "control"]
        others += [(of_id, "tested" if split == "test" else "fitted") for split, of_id in known.sides.items()]
        for other, how in others:
            shared = int((np.isin(images.digests, other.digests) & (images.digests != b"")).sum())
            if shared or images.fingerprint == other.fingerprint:
                raise UsageError(
                    f"--searched {printable(name)}: {shared or 'all':,} of its images are also in {other.title}, on "
                    f"which this run is {how}: choose on a set that shares none"
                )
    except UsageError:
        raise
    except (ValueError, OSError) as error:
        raise UsageError(f"--searched {printable(name)}: {error}") from None
    return Selection(images, options.limit, shard=options.shard)
