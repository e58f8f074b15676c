"""OOD sets that low-level statistics of the pixels give away: there, a high number says little of a detector."""

from collections.abc import Iterable

from benchmark.records.frames import Record

SEPARABLE = 0.9  # AUROC of the method `lowlevel`, which the whole of its 95 % interval must exceed


def separable(records: Iterable[Record]) -> dict[str, float]:
    """OOD set -> AUROC (a fraction) of the method `lowlevel`, for the sets that it separates; of the first seed."""
    found: dict[str, float] = {}
    for record in records:
        ours = record["kind"] == "result" and record["method"] == "lowlevel" and record["status"] == "done"
        if ours and record["intervals"]["auroc"][0] > SEPARABLE:
            found.setdefault(record["ood"]["name"], record["metrics"]["auroc"])
    return found
