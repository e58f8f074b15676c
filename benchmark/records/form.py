"""The form of a record: what tables and figures read of it must be there, and be what they take it for."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, NonNegativeInt, model_validator

from benchmark.metrics import METRICS


class _Form(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")


class _Images(_Form):
    n: NonNegativeInt
    of: NonNegativeInt
    notes: list[str]


class _Set(_Images):
    name: str
    title: str
    split: str


class _OODSet(_Set):
    group: Literal["near", "far", "covariate", "control", "", "stand-in"]
    stands_in_for: str | None


class _Sweep(_Form):
    of: str
    hyperparameter: str
    value: Any


class _Searched(_Form):
    set: str
    title: str
    n_id: NonNegativeInt
    n_ood: NonNegativeInt
    auroc: FiniteFloat
    chosen: bool
    values: dict[str, FiniteFloat] = {}


class _Spectrum(_Form):
    sets: list[str]
    n_id: NonNegativeInt
    metrics: dict[str, FiniteFloat]
    intervals: dict[str, Annotated[list[FiniteFloat], Field(min_length=2, max_length=2)]]


class _Result(_Form):
    kind: Literal["result"]
    key: str
    status: Literal["done", "failed", "skipped", "interrupted"]
    reason: str
    row: str
    title: str
    method: str
    encoder: str
    encoder_title: str
    hyperparameters: dict[str, Any]
    seed: NonNegativeInt
    resolution: str
    precision: str | None = None
    transform: str | None = None
    id: _Set
    ood: _OODSet
    train: _Images
    footnotes: list[str]
    metrics: dict[str, FiniteFloat] | None
    intervals: dict[str, Annotated[list[FiniteFloat], Field(min_length=2, max_length=2)]] | None
    accuracy: FiniteFloat | None
    knn_accuracy: FiniteFloat | None = None
    bits_per_dimension: list[FiniteFloat] | None = None
    provenance: dict[str, Any] | None
    quantiles: dict[str, list[float]] | None = None
    scores: dict[Literal["id", "ood"], str] | None = None
    depends: dict[str, Any] | None = None
    sweep: _Sweep | None = None
    searched: _Searched | None = None
    full_spectrum: _Spectrum | None = None
    ood_accuracy: FiniteFloat | None = None

    @model_validator(mode="after")
    def _has_its_numbers(self) -> "_Result":
        if self.status == "done":
            for metric in METRICS:
                if not metric.interval:  # which came later
                    continue
                if metric.name not in (self.metrics or {}):
                    raise ValueError(f"no {metric.name}")
                if metric.name not in (self.intervals or {}):
                    raise ValueError(f"no interval of {metric.name}")
        return self


class _Speed(_Form):
    images_per_second: FiniteFloat
    batch: NonNegativeInt
    repeats: NonNegativeInt


class _Speeds(_Form):
    end_to_end: _Speed


class _Timing(_Form):
    kind: Literal["speed"]
    key: str
    status: Literal["done"]
    row: str
    device: str
    speeds: _Speeds
    depends: dict[str, Any] | None = None


class _Accepting(_Form):
    threshold: FiniteFloat
    id: FiniteFloat


class _Table(_Form):
    n: NonNegativeInt
    accepting: dict[str, _Accepting | None]
    absent: dict[str, str]


class _Thresholds(_Form):
    kind: Literal["thresholds"]
    key: str
    status: Literal["done"]
    row: str
    title: str
    encoder_title: str
    seed: NonNegativeInt
    id: _Set
    footnotes: list[str]
    accuracy: FiniteFloat | None
    calibration: str
    thresholds: _Table
    depends: dict[str, Any]
    sweep: _Sweep | None = None
    searched: _Searched | None = None


_FORMS: Mapping[Any, type[_Form]] = {"speed": _Timing, "thresholds": _Thresholds}


def check(record: Mapping[str, Any]) -> None:
    """Raises pydantic's ValidationError for what is no record."""
    _FORMS.get(record.get("kind"), _Result).model_validate(record)
