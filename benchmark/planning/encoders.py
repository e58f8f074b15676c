"""The encoders that a suite names, as a run uses them: with their weights found, or the training that makes them."""

from collections.abc import Iterable, Mapping
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import cast

from benchmark.jobs.inputs import EncoderUse, shifted
from benchmark.planning import classes
from benchmark.planning.id_images import IDImages
from benchmark.planning.options import Options
from benchmark.planning.parts import EncoderSpec
from benchmark.planning.suite import Suite, UsageError
from datasets.features import head_beside
from datasets.images import ImageSet
from methods.base import CannotRun
from methods.encoders.base import BadFile, registered
from methods.encoders.networks.rerun import Rerun

_SEED = "{seed}"  # in the name of a checkpoint: there is one for each seed


class EncoderLookup:
    """Every encoder of a suite; `wanted`: those that rows of this run stand on.

    covariate: sets of covariate-shifted ID images by their name; one whose classes cannot be matched has no labels.
    """

    def __init__(
        self,
        suite: Suite,
        options: Options,
        known: IDImages,
        wanted: set[str],
        *,
        download: bool,
        covariate: Mapping[str, ImageSet],
    ) -> None:
        self.absent: list[tuple[str, str]] = []
        """Wanted encoders whose weights are not there, and how to get them."""
        self.broken: list[tuple[str, str]] = []
        """Wanted encoders whose weights cannot be right, and why."""
        self._suite, self._options, self._id, self._download = suite, options, known, download
        self._covariate = covariate
        self._wanted = {below for name in wanted for below in suite.below(name)}
        self._of_seed: dict[tuple[str, int], EncoderUse] = {}
        self._found: dict[str, EncoderUse | str]
        self._seed, *others = options.seeds or suite.seeds
        self._found = self._find_all(suite.encoders)
        self._others: dict[int, EncoderLookup] = {}
        """The encoders of a file for each seed, as the other seeds have them."""
        of_files = [name for name in suite.encoders if self._of_files(name)]
        for seed in others if of_files else ():
            other = copy(self)
            other._seed = seed
            other._found = other._find_all(of_files)
            self._others[seed] = other

    def __getitem__(self, name: str) -> EncoderUse | str:
        """The encoder as this run uses it, with the first seed that it can be had with, or why it cannot be had."""
        found = [self._found[name], *(other._found[name] for other in self._others.values() if name in other._found)]
        return next((use for use in found if not isinstance(use, str)), found[0])

    def of_seed(self, name: str, seed: int) -> EncoderUse | str:
        """The encoder as the rows of `seed` use it, or why it cannot be had: one for all, so that it stays open."""
        use = self._others.get(seed, self)._found.get(name) or self._found[name]
        return use if isinstance(use, str) or use.of_seeds else self._trained(use, seed)

    def _trained(self, use: EncoderUse, seed: int) -> EncoderUse:
        if not use.random:
            return use
        if seed == 0 and use.shipped is not None:
            return use.shipped
        if (use.name, seed) not in self._of_seed:
            base = None if use.base is None else self._trained(use.base, seed)
            of = None if use.of is None else self._trained(use.of, seed)
            start = self._trained(use.start, seed) if isinstance(use.start, EncoderUse) else use.start
            below = start if isinstance(start, EncoderUse) else base
            of_seed = replace(use, seed=seed, base=base, of=of, start=_file_or_use(start))
            self._of_seed[use.name, seed] = self._in_order(of_seed, of_seed if below is None else below)
        return self._of_seed[use.name, seed]

    def _of_files(self, name: str) -> bool:
        """Whether it, or what it stands on, has a file for each seed."""
        below = self._suite.below(name)
        return any(_SEED in str(self._suite.encoders[link].settings.get("checkpoint")) for link in below)

    def _find_all(self, names: Iterable[str]) -> dict[str, EncoderUse | str]:
        self._found = {}
        for name in sorted(names, key=lambda name: len(self._suite.below(name))):  # what it stands on comes before it
            self._found[name] = self._find(name)
        return self._found

    def _find(self, name: str) -> EncoderUse | str:
        spec = self._suite.encoders[name]
        if _SEED in str(checkpoint := spec.settings.get("checkpoint")):
            of_seed = {**spec.settings, "checkpoint": str(checkpoint).replace(_SEED, str(self._seed))}
            spec = spec.model_copy(update={"settings": of_seed})
        if registered()[spec.kind].names_classes and spec.settings.get("classes") is None:
            named = {**spec.settings, "classes": list(self._id.train.images.classes)}
            spec = spec.model_copy(update={"settings": named})
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
            match=self._id.size if self._options.resolution == "id" else None,
            seed=self._seed if self._of_files(name) else 0,
            of_seeds=self._of_files(name),
        )
        features = self._id.train.images.features
        if use.encoder.reruns:
            return self._rerun(use, base)
        if base is None and use.encoder.of_files != (features is not None):
            kinds = ("images", "features") if use.encoder.of_files else ("features", "images")
            return f"{name} reads {kinds[1]}; {self._id.train.images.title} holds {kinds[0]}"
        if not use.encoder.runs_network:
            use = replace(use, precision="32")
        if use.encoder.learns == "embedding":
            use = replace(use, base=base)
        elif base is not None and not (base.weights or base.trained_here):
            return f"{base.name} is not trained: {name} cannot start from it"
        where, download = self._options.weights, self._download and name in self._wanted
        seeds = self._options.seeds
        try:
            # what the suite ships is used where nobody asks for other trainings, and as that of seed 0
            shipped = use.encoder.find_shipped(self._suite.folder) if not seeds or 0 in seeds else None
            weights = use.encoder.find_weights(where, download=download) if shipped is None or seeds else shipped
            if use.encoder.of_files and features is not None:
                weights = head_beside(features.path)
            start: Path | EncoderUse | None = None
            if weights is None:
                start = use.encoder.find_start(where, download=download)
        except BadFile as error:
            return self._without(name, self.broken, error)
        except ValueError as error:
            raise UsageError(str(error)) from None
        except CannotRun as error:
            if self._suite.of_folder and spec.kind == "pretrained":  # which is nobody's choice
                error = CannotRun(f"{error}; or name a network: --pretrained NAME, --network NAME --checkpoint FILE")
            return self._without(name, self.absent, error)
        trains = bool(use.encoder.learns) and weights is None
        if trains and self._id.lacking:
            return f"{name} is trained on ID training images: {self._id.lacking}"
        if trains and use.encoder.supervised and (self._id.train.labels < 0).any():
            return f"{name} is trained with labels; {self._id.train.images.title} has none"
        below = base
        if start is None and base is not None and use.base is None:
            start = _file_or_use(base)
        use = replace(use, weights=weights, train=self._id.train if trains else None, start=start)
        try:
            use = self._in_order(use, below) if below is not None else self._matched(use)
            if weights is not None:
                found, told = use.encoder.settled(weights)
                use = replace(use, note="; ".join(filter(None, (use.note, told))), settings={**use.settings, **found})
            if seeds and shipped is not None:
                use = replace(use, shipped=self._matched(replace(use, weights=shipped, train=None, start=None)))
        except UsageError:  # the suite's own fault, and no file's
            raise
        except ValueError as error:
            return self._without(name, self.broken, error)
        if use.trained_here and use.encoder.keeps_head and (reason := use.no_head or (base and base.no_head)):
            return f"{name} cannot start from that network: {reason}"
        return use

    def _rerun(self, use: EncoderUse, of: EncoderUse | None) -> EncoderUse | str:
        """An encoder that runs the network of another: its weights, its training and its classes are that one's."""
        assert of is not None  # its settings name it
        try:
            cast(Rerun, use.encoder).prepare(of.encoder)
        except ValueError as error:
            return f"{use.name} cannot stand on {of.name}: {error}"
        if why := of.no_head or of.headless:
            return f"{use.name} runs the head of {of.name}, and {why}"
        use = replace(use, of=of, precision=of.precision, places=of.places, note=of.note)
        return use if of.shipped is None else replace(use, shipped=replace(use, of=of.shipped))

    def _without(self, name: str, where: list[tuple[str, str]], error: Exception) -> str:
        """Why the encoder cannot be had, which is noted where rows of this run want it."""
        if name in self._wanted:
            where.append((f"encoder {name}", str(error)))
        return str(error)

    def _matched(self, use: EncoderUse) -> EncoderUse:
        """With labels in the order of the head that comes in a file; without the head where it is not the ID set's.

        ValueError for a file that does not fit; UsageError where the suite itself names other classes.
        """
        start = use.start if use.encoder.keeps_head else None
        file = use.weights or (start if isinstance(start, Path) else None)
        head = use.encoder.given_classes or (None if file is None else use.encoder.head_in(file))
        given, order, no_head, headless = use.encoder.class_names, None, "", ""
        if file is not None and head is None and "logits" in use.encoder.offers:
            headless = f"{file.name} holds none"
        sides = self._id.sides
        try:
            if head is not None:
                source = "The network" if file is None or use.encoder.given_classes else file.name
                labelled = next((side for side in sides.values() if (side.labels >= 0).any()), self._id.test.images)
                order = classes.of_head(head, source, labelled, given)
            elif given is not None:
                order = classes.Order(given, True)
            places = {} if order is None else {split: classes.places(side, order) for split, side in sides.items()}
        except classes.Differ as error:
            if given is not None:
                raise UsageError(f"encoders.{use.name}.settings.classes: {error}") from None
            no_head, order = f"the classes of its head are not the ID set's ({error})", None
        if order is None:
            order = classes.together(sides["train"], sides["test"])
            if use.train is not None and use.encoder.supervised:
                classes.places(sides["train"], order)  # Differ says what keeps it from being trained
            places = {split: classes.places_or_none(side, order) for split, side in sides.items()}
        places |= {shifted(name): classes.places_or_none(side, order) for name, side in self._covariate.items()}
        known = {split: found for split, found in places.items() if found is not None}
        use = replace(use, places=known, no_head=no_head, headless=headless, note=order.note)
        return self._in_order(use, use)

    def _in_order(self, use: EncoderUse, below: EncoderUse) -> EncoderUse:
        """With the order of classes that the encoder below has, in its training too."""
        use = replace(use, places=below.places)
        return use if use.train is None else replace(use, train=use.view(self._id.train))


def _file_or_use(start: "Path | EncoderUse | None") -> "Path | EncoderUse | None":
    """What a training starts from: a file, where the encoder comes out of one."""
    return (start.weights or start) if isinstance(start, EncoderUse) else start


def _title(spec: EncoderSpec, base: EncoderUse | None) -> str:
    if base is not None:
        return f"{spec.kind} on {base.title}"
    names = (spec.settings.get(setting) for setting in ("model", "architecture", "network"))
    name = str(next(filter(None, names), spec.kind))
    pooling = spec.settings.get("pooling")
    return name if pooling is None else f"{name}, {pooling}"
