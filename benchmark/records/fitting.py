"""Which records may stand beside each other: of one ID set, and of one network by an encoder's name, or one a seed."""

from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import Any

Record = dict[str, Any]
Parts = dict[Hashable, Any]


def depends(record: Record) -> dict[str, Any]:
    """What a record depends on; of an older one, as far as its provenance tells."""
    if record.get("depends"):
        return dict(record["depends"])
    about = record.get("provenance") or {}
    data, encoder = about.get("data") or {}, about.get("encoder")
    found = {side: data[side] for side in ("id", "ood") if side in data}
    if encoder:
        kept = ("kind", "settings", "weights", "precision", "match")
        found["encoder"] = {name: encoder[name] for name in kept if name in encoder}
    return found


def parts(record: Record) -> Iterator[tuple[Hashable, Any]]:
    """What other records must agree on with this one, by name: ID images, an encoder, an OOD set."""
    about = depends(record)
    for side in ("id", "train"):
        if about.get(side) is not None:
            yield side, about[side]
    if (encoder := about.get("encoder")) is not None:
        of_seed = encoder.get("of_seed") if isinstance(encoder, Mapping) else None
        yield ("encoder", record.get("encoder"), of_seed), _of_any_seed(encoder)
        yield ("a file for each seed", record.get("encoder")), of_seed is not None
    if about.get("ood") is not None:
        yield ("ood", record["ood"]["name"]), about["ood"]
    for name, images in (about.get("covariate") or {}).items():
        yield ("ood", name), images


def _of_any_seed(encoder: Any) -> Any:
    """What is the same of an encoder that is trained once a seed, or shipped for one of them, at any precision."""
    if not isinstance(encoder, Mapping):
        return encoder
    apart = ("seed", "precision", "transform")  # records of any may stand beside each other: a footnote tells
    kept = {name: value for name, value in encoder.items() if name not in apart and (name, value) != ("weights", None)}
    return {name: _of_any_seed(value) for name, value in kept.items()}


def split(found: Iterable[Record], present: Mapping[Hashable, Any]) -> tuple[list[Record], list[Record]]:
    """The records that fit, and those that do not.

    `present`: what there is now, by the names of `parts`. On what it does not know, the newest record decides. What is
    no number (failed, skipped, interrupted) fits everywhere.
    """
    found = list(found)
    done = [record for record in found if record["status"] == "done"]
    agreed = dict(present)
    for record in sorted(done, key=_date, reverse=True):
        own = dict(parts(record))
        if all(_same(agreed[name], value) for name, value in own.items() if name in agreed):
            agreed |= {name: value for name, value in own.items() if name not in agreed}
    stale = {id(r) for r in done if not all(_same(agreed[n], v) for n, v in parts(r) if n in agreed)}
    return [r for r in found if id(r) not in stale], [r for r in found if id(r) in stale]


def _date(record: Record) -> str:
    return str((record.get("provenance") or {}).get("date", ""))


def _same(one: Any, other: Any) -> bool:
    """Equal in all that both tell: an older record tells less."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return all(_same(one[name], other[name]) for name in one.keys() & other.keys())
    return bool(one == other)
