"""Whether a set is what its suite reads: images, or features with the columns and the head of the ID training set."""

from benchmark.planning.suite import Suite
from datasets.features import head_beside
from datasets.sources import ImageSet
from methods.encoders import registry
from methods.encoders.features import FeatureReader


class Forms:
    """What every set has to be like, as the suite's encoders and the ID training set have it."""

    def __init__(self, suite: Suite, train: ImageSet) -> None:
        self._features = train.features is not None
        encoders = [registry.create(spec.kind, **spec.settings) for spec in suite.encoders.values()]
        readers = [encoder for encoder in encoders if isinstance(encoder, FeatureReader)]
        head = None if train.features is None else head_beside(train.features.path)
        self._readers = [reader.open(head) for reader in readers] if self._features else []

    def check(self, images: ImageSet) -> None:
        """ValueError, in one line, for a set that no encoder of the suite could read as it reads the ID set.

        Of features the first block is held against what the encoder offers, and against the head.
        """
        features = images.features
        if (features is not None) != self._features:
            kinds = ("images", "features") if self._features else ("features", "images")
            raise ValueError(f"{images.name} ({images.split}) holds {kinds[0]}, the ID training set {kinds[1]}")
        if features is None:
            return
        blocks = features.blocks()
        block = next(blocks)
        blocks.close()
        for reader in self._readers:
            try:
                reader.given(block)
                reader.check_head(block, features.rounding)
            except ValueError as error:
                raise ValueError(f"{features.path}: {error}") from None
