"""How long jobs took on this machine, and how much they left on the disk, as its records tell."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmark.records import provenance

Record = Mapping[str, Any]
_SAME = ("cpu", "threads", "gpu")  # of two records: they were made on machines of one speed


@dataclass
class Costs:
    """Seconds an image of passes, fits and scores, by `network` and `row`; of one cell and of one timing; and bytes.

    What several records tell, the newest decides.
    """

    encode: dict[str, float] = field(default_factory=dict)
    features: dict[str, float] = field(default_factory=dict)  # bytes an image
    fit: dict[str, float] = field(default_factory=dict)
    fitted: dict[tuple[str, int], int] = field(default_factory=dict)  # bytes, by row and number of images
    score: dict[str, float] = field(default_factory=dict)
    measure: float | None = None
    timing: float | None = None


def network(depends: Any) -> str:
    """An encoder, by what its records depend on."""
    return json.dumps(depends, sort_keys=True)


def row(method: str, settings: Mapping[str, Any], depends: Any) -> str:
    """A method with its hyper-parameters on an encoder."""
    return json.dumps([method, dict(settings), depends], sort_keys=True)


def of_machine(device: str) -> Callable[[Record], bool]:
    """Whether a record was made on a machine as this one is."""
    here = provenance.machine(device)
    return lambda record: all((record.get("provenance") or {}).get(name) == here[name] for name in _SAME)


def costs(found: Iterable[Record], here: Callable[[Record], bool]) -> Costs:
    """What the records of this machine tell (`here`), and any of bytes."""
    known = Costs()
    dated = (record for record in found if record["status"] == "done" and record.get("provenance"))
    for record in sorted(dated, key=lambda record: str(record["provenance"].get("date", ""))):
        encoder = (record.get("depends") or {}).get("encoder")
        if record["kind"] == "result" and encoder is not None:
            _add(known, record, encoder, here(record))
        elif record["kind"] == "speed" and here(record):
            known.timing = record.get("seconds", known.timing)
            if encoder is not None:  # of a pass alone: no network to open, nothing to wait for
                known.encode[network(encoder)] = 1 / record["speeds"]["end_to_end"]["images_per_second"]
    return known


def _add(known: Costs, record: Record, encoder: Any, here: bool) -> None:
    about = record["provenance"]
    seconds, sizes = about.get("seconds") or {}, about.get("bytes") or {}
    n_id, n_train = record["id"]["n"], record["train"]["n"]
    of_row = row(record["method"], record["hyperparameters"], encoder)
    if "encode_id" in sizes:
        known.features[network(encoder)] = sizes["encode_id"] / n_id
    if "fit" in sizes:
        known.fitted[of_row, n_train] = sizes["fit"]
    if not here:
        return
    if "encode_id" in seconds:
        known.encode.setdefault(network(encoder), seconds["encode_id"] / n_id)
    if "fit" in seconds:
        known.fit[of_row] = seconds["fit"] / n_train
    if "score_id" in seconds:
        known.score[of_row] = (seconds["score_id"] + seconds["score_ood"]) / (n_id + record["ood"]["n"])
    known.measure = seconds.get("measure", known.measure)
