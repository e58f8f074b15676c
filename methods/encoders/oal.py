"""OAL: a classifier that is taught, after its training, to have little to say about synthesised outliers.

All arms are settings of one encoder, so that they differ in nothing else.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from methods.base import Count, Features, NotNegative, Positive, Range
from methods.device import tensors
from methods.encoders.base import register
from methods.encoders.classifier import Classifier, split
from methods.encoders.images import preprocessing
from methods.encoders.networks.inference import exactly
from methods.encoders.networks.stages import Stages
from methods.encoders.outliers import batches
from methods.encoders.outliers import latents as latent_files
from methods.encoders.outliers import loss as outlier_loss
from methods.encoders.outliers.sources import Arm, Sources, Space
from methods.encoders.outliers.student import Adapter, Student
from methods.training import loop
from methods.training.recipe import Recipe
from methods.vectors.noise import derive

ADAPTER = "adapter."  # before the names of its tensors


@register("oal")
@dataclass
class OAL(Classifier):
    """The classifier, tuned by CE + 4 KL(p_t, p) + 8 KL(softmax t, softmax s) + weight x L_out: "OAL-feat".

    s, p: embedding and probabilities; t, p_t: those before the tuning, in the place of OAL's ViT teacher (of the
    same space, so without its DT). `distil`: whether the KL terms are there. `outliers`, features o in that space:

    - "none": no L_out. "knn": OAL's boundary outliers, sigma / sqrt(D) from a class (outliers.py)
    - "diffusion": those, noised and denoised by a class-conditional diffusion of s with guidance "away" from the
      class or to two "mixed" ones, where their distance to the k-th neighbour lies between the 95th and 99.9th
      percentile of held-out ID images. "gaussian": random directions with the norms of these
    - "latents": Stable Diffusion's, in the file `latents`. The loss is OAL's own: DT, and .1 CLUB(knn, s) +
      .2 CLUB(latents, s) for L_out

    L_out, and its `weight`: "energy" hinge (.1), m_in and m_out the medians of E = -logsumexp over held-out ID and
    outliers before the tuning; "logistic" on E (2.5); "uniform" cross-entropy (.5). `club` adds .1 CLUB(o, s), 0
    in expectation. Outliers enter behind the convolutions: they train the head, and with backbone "frozen" (for a
    CPU: no augmentation) a residual adapter of two layers before it. The convolutions ("trained") learn from CE,
    KL, CLUB and the ID half of L_out alone.

    base: the suite's classifier, of the same architecture, that the tuning starts from; `checkpoint`: one in a file.
    With neither that classifier is trained first.

    n_out None: 30 a class; as many again are not trained on. `held_out` of the training images (`validation` in their
    place, where there is one) are for percentiles, margins and `selection`, by which to choose settings: their
    accuracy before and after (it may fall by half a point) and the AUROC of E against the outliers not trained on. No
    training may have seen them: a base needs the same `held_out`; what a `checkpoint` saw cannot be known.
    """

    title = "OAL-feat"
    paper = "Gao et al., Enhancing OOD Detection Using Latent Diffusion, https://arxiv.org/abs/2406.16525"

    keeps_head = True
    files = ("latents",)
    beside = (ADAPTER,)

    base: str = ""
    held_out: Annotated[float, Range(0, 1, "()")] = 0.1
    outliers: Arm = "diffusion"
    loss: outlier_loss.Kind = "energy"
    weight: NotNegative | None = None
    distil: bool = True
    club: bool = False
    backbone: Literal["trained", "frozen"] = "trained"
    tune_epochs: Count = 20
    tune_lr: Positive = 0.005
    n_out: Annotated[int, Range(0, 10**6)] | None = None
    k: Count = 300
    sigma: NotNegative = 1.94
    guidance: Literal["away", "mixed"] = "away"
    diffusion_epochs: Count = 150
    diffusion_lr: Positive = 1e-4
    diffusion_blocks: Count = 16
    diffusion_width: Count | None = None
    latents: str | None = None
    latents_sha256: str | None = field(init=False, default=None)  # keys are of content, not of paths

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.base and self.checkpoint is not None) or self.shipped is not None:
            raise ValueError("oal: it starts from `base` or from `checkpoint`, not from both, nor from `shipped`")
        if (self.outliers == "latents") != (self.latents is not None):
            raise ValueError("oal: outliers: latents and `latents`, the file that holds them, go together")
        if self.outliers == "latents" and (self.club or not self.distil or self.weight is not None):
            raise ValueError("oal: outliers: latents has OAL's own loss; leave out weight, distil and club")
        self.latents_sha256 = None if self.latents is None else latent_files.sha256(Path(self.latents))
        self._tuning = Recipe(
            epochs=self.tune_epochs,
            batch_size=self.batch_size,
            optimizer="sgd",
            lr=self.tune_lr,
            weight_decay=self.weight_decay,
            momentum=0.9,
            nesterov=True,
            schedule="cosine",
            drop_last=True,
        )
        self._start: Path | Mapping[str, Tensor] | None = None
        self._adapter: Adapter | None = None
        self.diffusion_losses: list[float] = []
        self.selection: dict[str, float] = {}

    def find_weights(self, directory: Path | None, *, download: bool = False) -> Path | None:
        """None: whatever there is, is tuned."""
        return None

    def find_start(self, directory: Path | None, *, download: bool = False) -> Path | None:
        """The classifier's `checkpoint`; without one, and without a base, the classifier is trained too."""
        return super().find_weights(directory, download=download)

    @classmethod
    def building(cls) -> tuple[str, ...]:
        """The classifier's: what else there is, is for the tuning."""
        return Classifier.building()

    def open(self, weights: Path | None, *, device: str = "cpu", precision: str = "32") -> Self:
        super().open(weights, device=device, precision=precision)
        if weights is not None:
            self._adapt(self._read(weights)[0])
        return self

    def weights(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        state, header = super().weights()
        return {**state, **self._adapter_state()}, header

    def _adapter_state(self) -> dict[str, Tensor]:
        adapter = {} if self._adapter is None else self._adapter.state_dict()
        return {f"{ADAPTER}{name}": value.cpu() for name, value in adapter.items()}

    def _adapt(self, state: Mapping[str, Tensor]) -> None:
        """Have the adapter that a state holds, or none."""
        self._adapter = None
        if adapter := tensors.under(ADAPTER, state):
            self._adapter = Adapter(adapter["mean"], adapter["scale"])
            self._adapter.load_state_dict(adapter)
            self._adapter.eval().to(self._device)

    def start_from(self, weights: Path) -> Self:
        self._start = weights
        return self

    def fit(self, train: Features, *, seed: int = 0, device: str = "cpu", workdir: Path | None = None) -> Self:
        """Train the classifier (unless it starts from one) and the diffusion, then tune; CannotRun without labels.

        ValueError where the base is of another architecture.

        Each training has its folder in `workdir`; one that has ended is not repeated after an interruption.
        """
        train.need("pixels")
        labels = train.need_labels()
        latents = None if self.latents is None else latent_files.read(Path(self.latents)).to(device)
        own, held = train, train.validation
        if held is None:
            fitted, rows = split(len(labels), self.held_out)
            own, held = train[fitted], train[rows]
        stages = Stages(workdir, json.dumps({**asdict(self), "seed": seed, "images": len(labels)}, sort_keys=True))
        self._adapter = None
        self._classify(train, seed, device, stages)
        labels, held_pixels, held_labels = own.labels.to(device), held.need("pixels"), held.need_labels().to(device)
        embedding, held_embedding = self._embed(own.pixels), self._embed(held_pixels)
        space = Space.of(embedding)
        trained_on, kept = self._outliers(space, embedding, labels, held_embedding, seed, stages)
        self.selection = {"accuracy_before": self._accuracy(held_embedding, held_labels)}
        with loop.seeded(derive(seed, 3)):
            self._adapter = Adapter(space.mean, space.scale).to(device) if self.backbone == "frozen" else None
        terms = self._terms(trained_on, latents, held_embedding, seed)
        assert self._network is not None
        if self._adapter is not None:
            reads, teacher = batches.of_embeddings(embedding, self._network.head)
            lie = embedding
        else:
            images = preprocessing.to_train_on(own.need("pixels"), device)
            reads, teacher = batches.of_images(self._augmenting(images, device), self._network)
            lie = images
        student = Student(self._network, self._adapter, terms)

        def batch(rows: Tensor, generator: torch.Generator) -> tuple[Tensor, ...]:
            x = reads(rows, generator)
            drawn = terms["outliers"].draw(len(rows), generator) if "outliers" in terms else ()
            return rows, x, *drawn

        def loss(model: nn.Module, rows: Tensor, x: Tensor, *drawn: Tensor) -> Tensor:
            features = student.features(x)
            logits = student.head(features).float()
            value = functional.cross_entropy(logits, labels[rows])
            if self.distil:
                before, logits_before = teacher(rows, x)
                before = terms["transfer"](before) if "transfer" in terms else before
                value = value + outlier_loss.KD_LOGITS * outlier_loss.distillation(logits_before, logits)
                value = value + outlier_loss.KD_FEATURES * outlier_loss.distillation(before, features)
            return value + terms["outliers"](student, features, logits, *drawn) if "outliers" in terms else value

        self.losses = loop.train(
            student,
            batch,
            loss,
            len(labels),
            self._tuning,
            seed=seed,
            device=device,
            name="oal",
            workdir=stages.folder("tuning"),
            precision=self._precision,
            capture=lie.device.type == torch.device(device).type,
        )
        self._trained = True
        self._place(self._network)
        held_embedding = self._embed(held_pixels)
        self.selection["accuracy_after"] = self._accuracy(held_embedding, held_labels)
        if kept is not None:
            with torch.no_grad():
                self.selection["auroc"] = self._auroc(held_embedding, student.at_outliers(kept))
        stages.clear()
        return self

    def _classify(self, train: Features, seed: int, device: str, stages: Stages) -> None:
        """The network before the tuning: from a file, from the base, from an earlier process, or trained."""
        if isinstance(self._start, Path):
            super().open(self._start, device=self._device, precision=self._precision)
        elif self._start is not None:
            try:
                super().load_state(self._start)
            except RuntimeError:
                raise ValueError(f"oal: the base {self.base} is no {self.architecture}: give both one") from None
        elif (kept := stages.load("classifier")) is not None:
            super().load_state(kept)
        else:
            super().fit(train, seed=seed, device=device, workdir=stages.folder("classifier"))
            stages.save("classifier", super().state())

    def _embed(self, pixels: Tensor) -> Tensor:
        return torch.cat([self.encode(block)["embedding"] for block in torch.split(pixels, 512)])

    def _outliers(
        self, space: Space, embedding: Tensor, labels: Tensor, held: Tensor, seed: int, stages: Stages
    ) -> tuple[Tensor, Tensor] | tuple[None, None]:
        """As many outliers to train on as to choose by, as embeddings (n_out, D)."""
        count = 30 * (int(labels.max()) + 1) if self.n_out is None else self.n_out
        if self.outliers == "none" or count == 0:
            return None, None
        sources = Sources(space(embedding), labels, space(held), k=self.k, sigma=self.sigma, seed=seed, stages=stages)
        found = sources.draw(
            self.outliers,
            2 * count,
            guidance=self.guidance,
            epochs=self.diffusion_epochs,
            lr=self.diffusion_lr,
            width=self.diffusion_width,
            blocks=self.diffusion_blocks,
        )
        self.diffusion_losses = sources.losses
        found = space.back(found)
        return found[:count], found[count:]

    def _terms(self, outliers: Tensor | None, latents: Tensor | None, held: Tensor, seed: int) -> dict[str, Any]:
        """The parts of the loss that are modules."""
        if outliers is None:
            return {}
        with torch.no_grad():
            m_in, m_out = (float(self._energies(z).median()) for z in (held, outliers))
        rates = {"lr": self.tune_lr, "weight_decay": self.weight_decay}
        with loop.seeded(derive(seed, 4)):
            if latents is not None:
                return outlier_loss.published(outliers, latents, **rates)
            weight = outlier_loss.WEIGHTS[self.loss] if self.weight is None else self.weight
            term = outlier_loss.OutlierTerm(self.loss, weight, outliers, club=self.club, m_in=m_in, m_out=m_out)
            return {"outliers": term.at_rates(**rates)}

    def _energies(self, embedding: Tensor) -> Tensor:
        return outlier_loss.energy(self.logits(embedding))

    @torch.no_grad()
    def _accuracy(self, embedding: Tensor, labels: Tensor) -> float:
        return float((self.logits(embedding).argmax(1) == labels).float().mean())

    @torch.no_grad()
    def _auroc(self, known: Tensor, outliers: Tensor) -> float:
        """Of the energy, outliers positive."""
        from sklearn.metrics import roc_auc_score

        scores = torch.cat((self._energies(known), self._energies(outliers))).double().cpu()
        return float(roc_auc_score([0] * len(known) + [1] * len(outliers), scores))

    def features(self, x: Tensor) -> dict[str, Tensor]:
        out = super().features(x)
        if self._adapter is not None:
            with exactly(self._device, "32"):
                out["embedding"] = self._adapter(out["embedding"])
                out["logits"] = self.logits(out["embedding"])
        return out

    def state(self) -> dict[str, Tensor]:
        """Beside the networks: the mean loss of each epoch, and what to choose settings by."""
        state = super().state()
        if state:
            state |= self._adapter_state()
            state |= {"losses": torch.tensor(self.losses), "diffusion_losses": torch.tensor(self.diffusion_losses)}
            state |= {f"selection.{name}": torch.tensor(value) for name, value in self.selection.items()}
        return state

    def load_state(self, state: Mapping[str, Tensor]) -> Self:
        """The reverse of `state`; or the state of a base, a classifier, for `fit` to start from."""
        if "diffusion_losses" not in state:
            self._start = state
            return self
        super().load_state(state)
        self._adapt(state)
        self.losses, self.diffusion_losses = state["losses"].tolist(), state["diffusion_losses"].tolist()
        self.selection = {name: float(value) for name, value in tensors.under("selection.", state).items()}
        return self
