"""The encoders that a suite names, as a run uses them: with their weights found, or the training that makes them."""

from dataclasses import replace
from pathlib import Path

from benchmark.jobs.inputs import EncoderUse, Selection
from benchmark.planning.options import Options
from benchmark.planning.suite import EncoderSpec, Suite, UsageError
from methods.base import CannotRun


class EncoderLookup:
    """Every encoder of a suite; `wanted`: those that rows of this run stand on."""

    def __init__(
        self, suite: Suite, options: Options, train: Selection, size: int, wanted: set[str], *, download: bool
    ) -> None:
        self.absent: list[tuple[str, str]] = []
        """Wanted encoders whose weights are not there, and how to get them."""
        self._suite, self._options, self._train, self._size, self._download = suite, options, train, size, download
        self._wanted = wanted | {str(suite.encoders[name].settings.get("base")) for name in wanted}
        self._of_seed: dict[tuple[str, int], EncoderUse] = {}
        self._found: dict[str, EncoderUse | str] = {}
        # an encoder that stands on another comes after it
        for name in sorted(suite.encoders, key=lambda name: "base" in suite.encoders[name].settings):
            self._found[name] = self._find(name)

    def __getitem__(self, name: str) -> EncoderUse | str:
        """The encoder as this run uses it, or why it cannot be had."""
        return self._found[name]

    def of_seed(self, use: EncoderUse, seed: int) -> EncoderUse:
        """The encoder as the rows of `seed` use it: one object for all of them, so that it stays open."""
        if not use.random:
            return use
        if (use.name, seed) not in self._of_seed:
            base = None if use.base is None else self.of_seed(use.base, seed)
            start = use.start
            if isinstance(start, EncoderUse):
                start = self.of_seed(start, seed)
                start = start.weights or start
            of_seed = replace(use, seed=seed, base=base, start=start)
            if seed == 0 and use.shipped is not None:
                of_seed = replace(of_seed, weights=use.shipped, train=None)
            self._of_seed[use.name, seed] = of_seed
        return self._of_seed[use.name, seed]

    def _find(self, name: str) -> EncoderUse | str:
        spec = self._suite.encoders[name]
        stands_on = spec.settings.get("base")
        base = self._found[stands_on] if stands_on is not None else None
        if isinstance(base, str):
            return base
        use = EncoderUse(
            name,
            spec.kind,
            spec.settings,
            title=spec.title or _title(spec, base),
            precision=self._options.precision,
            match=self._size if self._options.resolution == "id" else None,
        )
        if use.encoder.learns == "embedding":
            use = replace(use, base=base)
        elif base is not None and not (base.weights or base.trained_here):
            return f"{base.name} is not trained: {name} cannot start from it"
        where, download = self._options.weights, self._download and name in self._wanted
        seeds = self._options.seeds
        try:
            # what the suite ships is used where nobody asks for other trainings, and as that of seed 0
            shipped = use.encoder.find_shipped(self._suite.folder) if not seeds or 0 in seeds else None
            weights = use.encoder.find_weights(where, download=download)
            if not seeds:
                weights, shipped = shipped or weights, None
            start: Path | EncoderUse | None = None
            if weights is None:
                start = use.encoder.find_start(where, download=download)
        except ValueError as error:
            raise UsageError(str(error)) from None
        except CannotRun as error:
            if name in self._wanted:
                self.absent.append((f"encoder {name}", str(error)))
            return str(error)
        trains = bool(use.encoder.learns) and weights is None
        if trains and use.encoder.supervised and (self._train.labels < 0).any():
            return f"{name} is trained with labels; {self._train.images.title} has none"
        if start is None and base is not None and use.base is None:
            start = base.weights or base
        return replace(use, weights=weights, shipped=shipped, train=self._train if trains else None, start=start)


def _title(spec: EncoderSpec, base: EncoderUse | None) -> str:
    if base is not None:
        return f"{spec.kind} on {base.title}"
    name = str(spec.settings.get("model") or spec.settings.get("architecture") or spec.kind)
    pooling = spec.settings.get("pooling")
    return name if pooling is None else f"{name}, {pooling}"
