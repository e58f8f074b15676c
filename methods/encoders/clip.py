"""CLIP: images and class names in one space, and the cosines between them in the place of logits."""

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from methods.base import CannotRun, Head, Positive, Share, nearest
from methods.device.files import read_regular
from methods.encoders.base import Encoder, HeadClasses, Images, register
from methods.encoders.images import preprocessing
from methods.encoders.networks import checkpoints
from methods.encoders.networks.inference import Placed

WORDS = 512  # texts that go through the network at a time
WORDS_BYTES = 1 << 26  # of their file: some five million
NEGATIVES = "ood_negatives"  # in a detector's file, which holds what was chosen in the place of all words


@register("clip")
@dataclass
class CLIP(Encoder):
    """`embedding` (N, D): z / |z|; `logits`: its cosines with each class's text; the head holds the texts' embeddings.

    model: a name of open_clip (the extra `clip`). checkpoint: the stem of a file in the weights folder with the whole
    model under open_clip's names. classes: names as they stand in a prompt, in the order of the outputs; None = those
    of the ID set. templates: a prompt each, "{}" is the name; a class's text is the mean of its unit embeddings, again
    of length 1.
    local: `local` (N, 1) as well, the largest softmax(cos / local_tau) over patches and classes, a patch being what the
    last block's attention makes of its value alone, projected as the class token is; of vision transformers.
    words: a file with one word a line; then `negatives` (N, M) as well, the cosines with the `kept` share of the words
    that are farthest from the classes, by the 95th percentile of a word's cosines to them; `word_template` is their
    prompt, that of the classes beside them is `templates`. Images: short side to the model's size, bicubic, the centre.
    """

    title = "CLIP"
    paper = (
        "Radford et al., Learning Transferable Visual Models From Natural Language Supervision, ICML 2021, "
        "https://arxiv.org/abs/2103.00020"
    )
    names_classes: ClassVar[bool] = True
    files: ClassVar[tuple[str, ...]] = ("words",)

    model: str = "ViT-B-16"
    checkpoint: str = "clip"
    classes: tuple[str, ...] | None = None
    templates: tuple[str, ...] = ("a photo of a {}",)
    local: bool = False
    local_tau: Positive = 1.0
    words: str | None = None
    words_sha256: str | None = field(init=False, default=None)  # keys are of content, not of paths
    kept: Share = 0.15
    word_template: str = "the nice {}"

    def __post_init__(self) -> None:
        super().__post_init__()
        if ":" in self.model:  # open_clip's ways to other files, and to the network
            raise ValueError(f"clip: {self.model!r} is not the name of a model of open_clip")
        if self.classes is not None and not 1 < len(self.classes) == len(set(self.classes)):
            raise ValueError("clip: classes are at least 2 names, each of them once")
        if not self.templates or any("{}" not in one for one in (*self.templates, self.word_template)):
            raise ValueError("clip: every template holds {}, the place of the name")
        self._words = () if self.words is None else _read_words(Path(self.words))
        if self._words:
            self.words_sha256 = hashlib.sha256("\n".join(self._words).encode()).hexdigest()
        self._placed: Placed[nn.Module] | None = None
        self._negatives: Tensor | None = None

    @property
    def offers(self) -> tuple[str, ...]:
        more = (
            *(("local",) if self.local else ()),
            *(("negatives",) if self.words or self._negatives is not None else ()),
        )
        return ("embedding", "logits", *more)

    @property
    def _vision(self) -> Mapping[str, Any]:
        config = _open_clip().get_model_config(self.model)
        if config is None:
            raise ValueError(
                f"open_clip has no model {self.model!r}; {nearest(self.model, _open_clip().list_models())}"
            )
        return config["vision_cfg"]  # type: ignore[no-any-return]

    @property
    def resolution(self) -> int:
        return int(self._vision["image_size"])

    @property
    def shrinking(self) -> preprocessing.Shrinking:
        return preprocessing.Shrinking(self.resolution, "bicubic", crop=True)

    @property
    def class_names(self) -> tuple[str, ...] | None:
        return self.classes

    @property
    def given_classes(self) -> HeadClasses | None:
        return None if self.classes is None else HeadClasses(len(self.classes), self.classes)

    @property
    def head(self) -> Head | None:
        return None if self._placed is None else self._head.to("cpu")

    def find_weights(self, directory: Path | None, *, download: bool = False) -> Path | None:
        assert self.resolution  # ValueError for a model that open_clip has not
        return checkpoints.need(directory, self.checkpoint)

    def open(self, weights: Path | None, *, device: str = "cpu", precision: str = "32") -> Self:
        if weights is None or self.classes is None:
            raise ValueError(f"clip: {self.model} needs a file of weights and the names of the classes")
        package = _open_clip()
        network = _built(self.model).eval()
        state, _ = checkpoints.read(weights, network)
        negatives = state.pop(NEGATIVES, None)
        checkpoints.load(network, state, name=self.model, path=weights)
        mean, std = network.visual.image_mean, network.visual.image_std
        self._mean, self._std = mean or package.OPENAI_DATASET_MEAN, std or package.OPENAI_DATASET_STD
        self._device = device
        tokenizer = package.get_tokenizer(self.model)

        def texts(prompts: list[str]) -> Tensor:
            with torch.inference_mode():
                parts = [network.encode_text(tokenizer(prompts[i : i + WORDS])) for i in range(0, len(prompts), WORDS)]
                return normalize(torch.cat(parts).float(), dim=1)

        named = [name.replace("_", " ") for name in self.classes]
        of_templates = [texts([one.format(name) for name in named]) for one in self.templates]
        positive = normalize(torch.stack(of_templates).mean(dim=0), dim=1)
        self._head = Head(positive, torch.zeros(len(positive))).to(device)
        if self._words:
            of_words = texts([self.word_template.format(word) for word in self._words])
            negatives = chosen(of_words, positive, self.kept)
        self._negatives = None if negatives is None else negatives.to(device)
        self._placed = Placed(network.visual, self.model, device=device, exactness=precision)
        self._file = weights
        return self

    def weights(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        """Read once more: of the network here the texts' half is gone."""
        state, _ = checkpoints.read(self._file, _built(self.model))
        return {**state, **({} if self._negatives is None else {NEGATIVES: self._negatives})}, {}

    @classmethod
    def building(cls) -> tuple[str, ...]:
        return tuple(name for name in super().building() if name not in ("words", "words_sha256", "kept"))

    def encode(self, images: Images) -> dict[str, Tensor]:
        if self._placed is None:
            raise RuntimeError("open the encoder before encode")
        return self.encode_pixels(preprocessing.prepared(images, self.shrinking, self._device))

    def encode_pixels(self, pixels: Tensor) -> dict[str, Tensor]:
        if self._placed is None:
            raise RuntimeError("open the encoder before encode")
        visual: Any = self._placed.network
        values: list[Tensor] = []
        hook = visual.transformer.resblocks[-1].register_forward_pre_hook(_values(values)) if self.local else None
        try:
            with self._placed.running():
                x = self._placed.fed(preprocessing.normalise(pixels, self._mean, self._std))
                z = normalize(visual(x).float(), dim=1)
                parts = [_projected(visual, value) for value in values]
        finally:
            if hook is not None:
                hook.remove()
        found = {"embedding": z, "logits": self._head(z)}
        for part in parts:  # one, where patches are asked for
            confidence = (self._head(part).double() / self.local_tau).softmax(dim=2)
            found["local"] = confidence.amax((1, 2))[:, None].float()
        if self._negatives is not None:
            found["negatives"] = z @ self._negatives.T
        return found


def chosen(words: Tensor, classes: Tensor, share: float) -> Tensor:
    """The share of the words (M, D) that are farthest from the classes (K, D), in the order given; one at least."""
    near = torch.quantile((words @ classes.T).double(), 0.95, dim=1)
    rows = near.argsort(stable=True)[: max(1, int(share * len(words)))]
    return words[rows.sort().values]


def _read_words(path: Path) -> tuple[str, ...]:
    try:
        lines = read_regular(path.expanduser(), WORDS_BYTES).decode("utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise ValueError(f"clip: words {path} cannot be read: {error}") from None
    if not (found := tuple(dict.fromkeys(filter(None, map(str.strip, lines))))):
        raise ValueError(f"clip: words {path} holds no words")
    return found


def _values(found: list[Tensor]) -> Any:
    """A hook on a block: what its attention would give each token if it looked at itself alone."""

    def keep(block: Any, inputs: tuple[Tensor, ...]) -> None:
        width = inputs[0].shape[-1]
        attention = block.attn
        weight, bias = attention.in_proj_weight[-width:], attention.in_proj_bias[-width:]
        tokens = inputs[0] if attention.batch_first else inputs[0].transpose(0, 1)
        found.append(attention.out_proj(nn.functional.linear(block.ln_1(tokens), weight, bias)))

    return keep


def _projected(visual: Any, tokens: Tensor) -> Tensor:
    """Patches, without the class token, in the space of texts: (N, L, D) of length 1."""
    patches = visual.ln_post(tokens[:, 1:])
    return normalize((patches if visual.proj is None else patches @ visual.proj).float(), dim=2)


def _built(model: str) -> Any:
    """The model with random weights, in whose place come a file's: open_clip's warning of them would mislead."""

    def nothing(record: logging.LogRecord) -> bool:
        return False

    logging.root.addFilter(nothing)
    try:
        return _open_clip().create_model(model, load_weights=False)
    finally:
        logging.root.removeFilter(nothing)


def _open_clip() -> Any:
    try:
        import open_clip  # type: ignore[import-untyped]
    except ImportError:
        raise CannotRun("the encoder clip needs open_clip: pip install 'ood-benchmark[clip]'") from None
    return open_clip
