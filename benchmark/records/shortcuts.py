"""OOD sets that low-level statistics of the pixels give away: there, a high number says little of a detector."""

from collections.abc import Iterable

from benchmark.records.frames import Record
from benchmark.records.paired import LEVEL, above, holm

SEPARABLE = 0.9  # AUROC that the method `lowlevel` must exceed significantly


def separable(records: Iterable[Record]) -> dict[str, float]:
    """OOD set -> AUROC (a fraction) of the method `lowlevel`, for the sets that it separates; of the first seed.

    One test a set, Holm's correction over all that it is measured on.
    """
    found: dict[str, Record] = {}
    for record in records:
        if record["kind"] == "result" and record["method"] == "lowlevel" and record["status"] == "done":
            found.setdefault(record["ood"]["name"], record)
    aurocs = {name: float(record["metrics"]["auroc"]) for name, record in found.items()}
    p_values = [above(aurocs[name], record["intervals"]["auroc"][0], SEPARABLE) for name, record in found.items()]
    return {name: aurocs[name] for name, p in zip(found, holm(p_values), strict=True) if p < LEVEL}
