"""What every registered method must do. A new file in methods/ is tested here without being named.

`SMALL`, `OTHER` and `BESIDE` hold settings for methods that would be slow, or whose fields have no obvious
second value; a method in none of them runs with its defaults.
"""

import functools
import hashlib
import math
import re
from dataclasses import fields
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor

import methods
from methods.base import CannotRun, Features, Head, Method, Range

SMALL: dict[str, dict[str, Any]] = {
    "dlsr": {"blocks": 2, "width": 32, "epochs": 4, "batch_size": 96, "lr": 3e-3},
    "autoencoder": {"blocks": 2, "width": 32, "epochs": 4, "batch_size": 96, "lr": 3e-3},
    "feature_vae": {"epochs": 4, "batch_size": 96, "lr": 3e-3},
    "pca": {"components": 8},
    "kpca": {"features": 64},
    "nac": {"images": 500},
    "openmax": {"tail": 5},
    "cfood": {"alpha": 0.5},
    "vra": {"lower": 70},
    "glow": {"levels": 2, "steps": 1, "width": 8, "epochs": 2, "batch_size": 32, "lr": 0.01, "warmup_epochs": 0.5},
    "ddpm": {"sampler": "ddim", "steps": 10, "skip": 10, "width": 8, "epochs": 1, "batch_size": 32, "lr": 5e-3},
    "pixelcnn": {"blocks": 1, "filters": 4, "mixtures": 2, "epochs": 1, "batch_size": 32, "lr": 1e-2},
    "vae": {
        "measure": "elbo",
        "samples": 1,
        "steps": 2,
        "nz": 2,
        "width": 2,
        "epochs": 1,
        "batch_size": 32,
        "lr": 1e-2,
    },
}
# A second value for a field, and what must be set beside it for the field to matter.
OTHER: dict[tuple[str, str], Any] = {
    ("vim", "dim"): 5,
    ("adascale", "k2"): 0.2,
    ("adascale", "p_max"): 95.0,
    ("residual", "dim"): 5,
    ("gen", "m"): 3,
    ("nnguide", "share"): 0.1,
    ("relation", "threshold"): 0.95,
    ("vra", "lower"): 60,
    ("vra", "upper"): 95,
    ("kpca", "share"): 0.99,
    ("kpca", "components"): 3,
    ("ddu", "jitter"): 0.1,
    ("cfood", "share"): 0.2,
    ("cfood", "neighbours"): 2,
    ("dlsr", "width"): 24,
    ("dlsr", "hidden"): 24,
    ("dlsr", "ema"): 0.9,
    ("autoencoder", "width"): 24,
    ("autoencoder", "hidden"): 24,
    ("autoencoder", "bottleneck"): 4,
    ("autoencoder", "noise_level"): 10,
    ("glow", "clip"): 0.1,
    ("glow", "warmup_epochs"): 2.0,
    ("glow", "ema"): 0.9,
    ("ddpm", "ema"): 0.9,
    ("pixelcnn", "ema"): 0.9,
    ("vae", "regret_lr"): 0.05,
}
BESIDE: dict[tuple[str, str], dict[str, Any]] = {
    ("dlsr", "lr_sign"): {"measure": "lr"},
    ("kpca", "gamma"): {"kernel": "rff"},
    ("kpca", "features"): {"kernel": "rff"},
    ("vae", "steps"): {"measure": "regret"},
    ("vae", "regret_of"): {"measure": "regret"},
    ("vae", "regret_lr"): {"measure": "regret"},
}
NO_ORDER = ("random", "constant")  # the two that must not tell ID from OOD

CLASSES, PER_CLASS, LAYERS, SIDE = 10, 4, (8, 12, 20), 8
WIDTH = CLASSES * PER_CLASS


def features(count: int, *, ood: bool, seed: int, first: int = 0) -> Features:
    """Two Gaussians, apart in every feature.

    In the embedding, ReLU-like, an ID class is PER_CLASS active features; an OOD image's are weaker and of
    several classes.
    """
    random = np.random.default_rng(seed)
    labels = np.arange(count) % CLASSES
    active = np.zeros((count, WIDTH))
    for image, label in enumerate(labels):
        if ood:
            active[image, [label, 11, 23, 38]] = 1
        else:
            active[image, label * PER_CLASS : (label + 1) * PER_CLASS] = 3
    embedding = np.maximum(active + 0.3 * random.standard_normal(active.shape), 0).astype(np.float32)
    weight = np.kron(np.eye(CLASSES), np.ones(PER_CLASS)).astype(np.float32)
    weight += 0.1 * np.random.default_rng(0).standard_normal(weight.shape).astype(np.float32)
    bias = np.linspace(-0.5, 0.5, CLASSES, dtype=np.float32)
    pattern = np.random.default_rng(2 if ood else 1).standard_normal(sum(LAYERS))
    layers = (pattern + 0.3 * random.standard_normal((count, sum(LAYERS)))).astype(np.float32)
    ramp = np.linspace(40, 160, SIDE)[:, None, None] * np.array([1, 0.8, 0.5])
    noise = random.standard_normal((count, SIDE, SIDE, 3))
    pixels = (128 + 50 * noise if ood else ramp + random.uniform(0, 20, (count, 1, 1, 1)) + 3 * noise).clip(0, 255)
    logits = embedding @ weight.T + bias
    return Features(
        embedding=embedding,
        logits=logits,
        layers=layers,
        layer_sizes=LAYERS,
        pixels=pixels.astype(np.uint8),
        labels=np.full(count, -1) if ood else labels,
        head=Head(weight, bias),
        index=np.arange(first, first + count),
        extras=extras(embedding, logits, layers, ood=ood, seed=seed),
        extra_sizes={"gram": (12, 28), "gradients": LAYERS},
    )


def extras(embedding: Any, logits: Any, layers: Any, *, ood: bool, seed: int) -> dict[str, Any]:
    """As the encoders that run a network otherwise have them."""
    random = np.random.default_rng(seed + 100)
    words = np.random.default_rng(seed + 200).standard_normal((len(layers), 240))
    moved = (0.5 if ood else 0.1) * random.standard_normal(embedding.shape) + embedding
    return {
        "perturbed": moved.astype(np.float32),
        "gram": (2 * layers + 3).astype(np.float32),
        "extremes": (layers[:, :6] + 2).astype(np.float32),
        "local": np.full((len(layers), 1), 0.3 if ood else 0.6, np.float32) + 0.01 * random.random((len(layers), 1)),
        "negatives": (logits.max(1, keepdims=True) + 0.02 * words + (0.02 if ood else -0.02)).astype(np.float32),
        "gradients": (layers * (3 if ood else 1)).astype(np.float32),
    }


TRAIN = features(640, ood=False, seed=0)
TRAIN.labels[::97] = (TRAIN.labels[::97] + 1) % CLASSES  # wrong, as a few labels are
ID = features(60, ood=False, seed=1)
OOD = features(60, ood=True, seed=2, first=60)


def replace(x: Features, **changes: Any) -> Features:
    return Features(**{**{field.name: getattr(x, field.name) for field in fields(x)}, **changes})


def only(x: Features, reads: tuple[str, ...]) -> Features:
    """`x` with no feature that `reads` does not name."""
    names = {"embedding", "logits", "layers", "pixels", "labels", "head"} - set(reads)
    changes: dict[str, Any] = dict.fromkeys(names)
    kept = {name: values for name, values in x.extras.items() if name in reads}
    return replace(x, **changes, layer_sizes=LAYERS if "layers" in reads else (), extras=kept)


def slow(name: str) -> bool:
    """A network on images."""
    return methods.get(name).trains and "pixels" in methods.get(name).reads


def training_set(name: str) -> Features:
    """Few images for what trains a network: enough for all but telling ID from OOD."""
    return TRAIN[: 40 if slow(name) else 120] if methods.get(name).trains else TRAIN


def scored_set(name: str) -> Features:
    return ID[:11] if slow(name) else ID


def fit(name: str, train: Features | None = None, seed: int = 3, **settings: Any) -> Method:
    train = training_set(name) if train is None else train
    return methods.create(name, **{**SMALL.get(name, {}), **settings}).fit(train, seed=seed)


@functools.cache
def fitted(name: str) -> Method:
    return fit(name)


def close(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a.double(), b.double(), rtol=1e-5, atol=1e-6 * float(b.abs().max()))


def digest(x: Features) -> str:
    tensors = [getattr(x, name) for name in ("embedding", "logits", "layers", "pixels", "labels", "index")]
    tensors += x.extras.values()
    assert x.head is not None
    tensors += [x.head.weight, x.head.bias]
    return hashlib.sha256(b"".join(values.numpy().tobytes() for values in tensors)).hexdigest()


BEFORE = digest(TRAIN), digest(ID)  # before any method saw them


@pytest.fixture(params=methods.names())
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_names_its_paper_its_title_presets_that_can_be_and_fields_that_are_there(name: str) -> None:
    cls = methods.get(name)
    assert cls.title
    assert cls.paper
    for preset in cls.presets:
        methods.create(name, preset=preset)
    assert {*cls.score_only, *cls.inert} <= {field.name for field in fields(cls)}


def test_scores_are_finite_floats_one_an_image(name: str) -> None:
    test = scored_set(name)
    scores = fitted(name).score(test)
    assert scores.shape == (len(test),)
    assert scores.dtype in (torch.float32, torch.float64)
    assert scores.device == test.index.device
    assert not scores.requires_grad
    assert bool(scores.isfinite().all())
    assert bool(fitted(name).score(OOD[: len(test)]).isfinite().all())


def test_blocks_do_not_matter(name: str) -> None:
    method, x = fitted(name), ID[:8]
    for rows in (1, 7):  # the last is a short one
        assert close(torch.cat([method.score(block) for block in x.blocks(rows)]), method.score(x)), rows


def test_order_and_company_do_not_matter(name: str) -> None:
    method = fitted(name)
    test = scored_set(name)
    order, scores = torch.randperm(len(test), generator=torch.Generator().manual_seed(0)), method.score(test)
    assert close(method.score(test[order]), scores[order])
    assert close(method.score(test[order[:11]]), scores[order[:11]])


def test_greater_is_more_ood(name: str) -> None:
    method = fit(name, TRAIN[:400]) if methods.get(name).trains else fitted(name)
    known, foreign = method.score(ID), method.score(OOD)
    greater = (foreign[:, None] > known).double() + 0.5 * (foreign[:, None] == known).double()
    if name in NO_ORDER:
        assert abs(float(greater.mean()) - 0.5) < 0.2  # 60 against 60: a coin's standard deviation is .05
    else:
        assert float(greater.mean()) > 0.9


def test_inputs_stay_as_they_are(name: str) -> None:
    fitted(name).score(scored_set(name))
    assert (digest(TRAIN), digest(ID)) == BEFORE


def test_state_round_trip(name: str) -> None:
    method = fitted(name)
    state = method.state()
    assert all(values.device.type == "cpu" for values in state.values())
    stored = load(save(state))  # safetensors takes what is contiguous and does not share memory
    restored = methods.create(name, **SMALL.get(name, {})).load_state(stored)
    assert torch.equal(restored.score(scored_set(name)), method.score(scored_set(name)))
    assert restored.state().keys() == state.keys()


def test_the_seed_matters_where_it_says_so(name: str) -> None:
    other = fit(name, seed=4)
    test = scored_set(name)
    assert torch.equal(other.score(test), fitted(name).score(test)) != methods.get(name).random_fit


def test_a_fit_is_a_function_of_what_it_reads_and_of_the_seed_memory_mapped_or_not(name: str, tmp_path: Any) -> None:
    reads, test = fitted(name).reads, scored_set(name)
    read = only(training_set(name), (*reads, "labels"))

    def mapped(feature: str) -> np.ndarray[Any, Any]:
        np.save(tmp_path / f"{feature}.npy", getattr(read, feature).numpy())
        return np.load(tmp_path / f"{feature}.npy", mmap_mode="c")

    arrays = {"embedding", "logits", "layers", "pixels"} & set(reads)
    train = replace(read, **{feature: mapped(feature) for feature in arrays})
    assert torch.equal(fit(name, train).score(only(test, reads)), fitted(name).score(test))


def test_reads_names_nothing_else(name: str) -> None:
    reads = fitted(name).reads
    for missing in () if methods.get(name).reads_any else reads:
        rest = tuple(feature for feature in reads if feature != missing)
        with pytest.raises(CannotRun, match=missing):
            fit(name, only(TRAIN, rest)).score(only(ID, rest))


@pytest.mark.parametrize("labels", [None, -1], ids=["no labels", "all -1"])
def test_unlabelled_training_set(name: str, labels: int | None) -> None:
    train = training_set(name)
    train = replace(train, labels=None if labels is None else np.full(len(train), labels))
    if "labels" in fitted(name).reads:
        with pytest.raises(CannotRun, match="labels"):
            fit(name, train)
    else:
        assert bool(fit(name, train).score(scored_set(name)).isfinite().all())


def second_value(name: str, field: str, value: Any) -> Any:
    """Another valid value for a hyper-parameter, from `OTHER` or from its type."""
    if (name, field) in OTHER:
        return OTHER[name, field]
    hint = get_type_hints(methods.get(name))[field]
    if get_origin(hint) is Literal:
        return next(choice for choice in get_args(hint) if choice != value)
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value // 2 if value > 1 else value + 1
    if isinstance(value, float):
        return value / 2 if value else 0.5
    raise AssertionError(
        f"no second value for {name}'s {field} ({value!r}): annotate it with Literal or add it to OTHER"
    )


HYPERPARAMETERS = [(name, field.name) for name in methods.names() for field in fields(methods.get(name))]


@pytest.mark.parametrize(("name", "field"), HYPERPARAMETERS, ids=map(".".join, HYPERPARAMETERS))
def test_every_hyperparameter_does_something(name: str, field: str) -> None:
    cls, beside = methods.get(name), BESIDE.get((name, field), {})
    scores: list[Tensor] = []
    for changed in (False, True):
        settings = {**SMALL.get(name, {}), **beside}
        if changed:
            settings[field] = second_value(name, field, getattr(cls(**settings), field))
        if field in cls.score_only:
            method = cls(**settings).load_state(fitted(name).state())
        elif changed or beside:
            method = fit(name, **settings)
        else:
            method = fitted(name)
        scores.append(method.score(scored_set(name)))
    if field in cls.inert:
        assert torch.allclose(scores[0].double(), scores[1].double(), rtol=1e-4)
    else:
        assert not torch.equal(scores[0], scores[1])


def kinds(hint: Any) -> list[Any]:
    """An annotation's alternatives, ranges kept: int | None is two."""
    whole = get_origin(hint) in (Annotated, Literal) or not get_args(hint)
    return [hint] if whole else [kind for choice in get_args(hint) for kind in kinds(choice)]


def test_a_hyperparameter_that_cannot_be_is_refused(name: str) -> None:
    """NaN, infinity, a boolean or a text for a number; a number below what the field says that it may be."""
    hints = get_type_hints(methods.get(name), include_extras=True)
    for field in (field.name for field in fields(methods.get(name))):
        stated = kinds(hints[field])
        assert not {int, float} & set(stated), f"{name}.{field}: say what it may be, with Annotated[.., Range(..)]"
        bad: list[Any] = [math.nan, math.inf, -math.inf, "3", "", [3], {}, 10**400, *([] if bool in stated else [True])]
        ranges = [limit for kind in stated if get_origin(kind) is Annotated for limit in get_args(kind)[1:]]
        assert all(isinstance(limit, Range) for limit in ranges)
        bad += [value for value in (-1, -0.5) if not any(value in limit for limit in ranges)]
        for value in bad:
            said = "taken"
            try:
                methods.create(name, **{field: value})
            except ValueError as error:
                said = str(error)
            assert re.fullmatch(rf".*\b{field} is .*; it must be .+", said), (field, value)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_training_features_that_are_not_finite_are_refused(name: str, value: float) -> None:
    """By one line that names the feature and counts the images: kNN, DICE and KL matching took them for numbers."""
    if type(fitted(name)).fit is Method.fit:
        return  # it learns nothing
    for feature in {"embedding", "logits", "layers"} & set(fitted(name).reads):
        values = getattr(TRAIN, feature).clone()
        values[[3, 70], 1] = value
        with pytest.raises(ValueError, match=f"^{feature} of 2 of 640 training images: NaN or infinity$"):
            fit(name, replace(TRAIN, **{feature: values}))


def test_no_training_images(name: str) -> None:
    if type(fitted(name)).fit is not Method.fit:
        with pytest.raises(CannotRun, match="no training images"):
            fit(name, TRAIN[:0])


def test_score_only_fields_leave_the_fit_alone(name: str) -> None:
    if not methods.get(name).score_only:
        return
    changes = {field: second_value(name, field, getattr(fitted(name), field)) for field in methods.get(name).score_only}
    before, after = fitted(name).state(), fit(name, **changes).state()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_random_tells_two_sets_of_one_size_apart() -> None:
    """By index both would have the same scores, an AUROC of exactly .5: a check that checks nothing."""
    method = fitted("random")
    assert not torch.equal(method.score(replace(OOD, index=ID.index)), method.score(ID))
    assert torch.equal(method.score(replace(ID, index=OOD.index)), method.score(ID))


@pytest.mark.parametrize("feature", methods.get("random").reads)
def test_random_draws_from_whatever_the_encoder_offers(feature: str) -> None:
    assert not methods.create("random").lacking({feature})
    given = only(ID, (feature,))
    method = fit("random", only(TRAIN, (feature,)))
    scores = method.score(given)
    assert len(torch.unique(scores)) == len(ID)
    assert torch.equal(method.score(given[3:9]), scores[3:9])
    assert ((scores > 0) & (scores < 1)).all()


def test_random_reads_something() -> None:
    assert methods.create("random").lacking({"labels"}) == set(methods.get("random").reads)
    assert methods.create("knn").lacking(("logits",)) == {"embedding"}
    assert methods.create("knn", feature="layers").lacking(("logits", "embedding")) == {"layers"}
    with pytest.raises(CannotRun, match="needs pixels; there is only labels"):
        fitted("random").score(only(ID, ("labels",)))
