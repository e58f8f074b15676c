"""Every post-hoc method on odd training sets and images: a finite score, or the refusal that is stated here."""

from typing import Any

import pytest
import torch
from torch import Tensor

import methods
from methods.base import CannotRun, Features, Head
from tests.methods.test_posthoc import CLASSES, HEAD, LABELS, TEST_Z, TRAIN, TRAIN_Z, WIDTH

POST_HOC = [
    name
    for name in methods.names()
    if {"embedding", "logits", "layers"} & set(methods.get(name).reads) and not methods.get(name).trains
]
SMALL: dict[str, dict[str, Any]] = {
    "ddu": {"jitter": 0.1},
    "weiper": {"copies": 5},
    "cfood": {"alpha": 0.5},
    "pca": {"components": 16},
}
# predicts every class, some images of each rightly, by energies above 0
LEVEL = Head(HEAD.weight, HEAD.bias - TRAIN.logits.mean(dim=0) + 9)
MOSTLY = torch.where(torch.arange(len(TRAIN_Z)) % 10 == 0, LABELS, LEVEL(TRAIN_Z).argmax(dim=1))


def whole(z: Tensor, head: Head = LEVEL, labels: Tensor | None = None) -> Features:
    """All that any method reads."""
    f = head(z)
    extras = {"perturbed": 0.9 * z, "gram": z[:, :6], "extremes": z[:, :4], "gradients": z[:, :5]}
    extras |= {"local": f.softmax(dim=1).amax(dim=1, keepdim=True), "negatives": f[:, :3]}
    sizes = {"gram": (2, 4), "gradients": (2, 3)}
    of_layers = {"layers": z, "layer_sizes": (24, WIDTH - 24)}
    return Features(embedding=z, logits=f, head=head, labels=labels, extras=extras, extra_sizes=sizes, **of_layers)


def sets(kind: str) -> tuple[Features, Features]:
    """A training set and images to be scored."""
    head, labels, z, x = LEVEL, MOSTLY, TRAIN_Z.clone(), TEST_Z.clone()
    if kind == "a zero":
        z[7], x[3] = 0, 0
    elif kind == "negative features":
        z, x = z - 0.7, x - 0.7
        x[0], x[1] = -1, torch.linspace(-1, 1, WIDTH)  # no positive entry, and a sum of 0
        head = Head(HEAD.weight, LEVEL.bias + 0.7 * HEAD.weight.sum(dim=1))
    elif kind == "a huge image":
        x[0] = 1e6
    elif kind == "constant logits":
        head = Head(torch.zeros_like(HEAD.weight), torch.full((CLASSES,), 2.0))
    elif kind == "a class that nobody is predicted as":
        head = Head(LEVEL.weight, LEVEL.bias - 1e4 * torch.nn.functional.one_hot(torch.tensor(4), CLASSES))
    elif kind == "energies below 0":
        head = Head(LEVEL.weight, LEVEL.bias - 40)
    elif kind == "one image a class":
        z, labels = z[:CLASSES], torch.arange(CLASSES)
    elif kind == "images all alike":
        z, x = torch.ones_like(z), torch.ones_like(x)
    return whole(z, head, labels), whole(x, head)


NONE_RIGHT = dict.fromkeys(("openmax", "she"), "needs a rightly predicted image of each class; class .* has none")
FLAT = dict.fromkeys(("mahalanobis", "rmds"), "the training features do not vary")
EMPTY = dict.fromkeys(("residual", "vim"), "training images leave nothing outside 32 principal directions")
CLIPPED = dict.fromkeys(("react", "vra"), "90 of the training activations is their smallest")
FEW = dict.fromkeys(("combood", "knn", "layer_knn"), "k is 50 but there are only 10 training images")
REFUSED: dict[str, dict[str, str]] = {
    "a zero": {},
    "negative features": {},
    "a huge image": {},
    "constant logits": {
        **NONE_RIGHT,
        "dice": "no weight contributes more",
        "fdbd": "0 and 1 have the same weights",
        "optfs": "needs embeddings that vary",
        "weiper": "needs embeddings and logits that vary",
    },
    "a class that nobody is predicted as": NONE_RIGHT,
    "energies below 0": dict.fromkeys(("cadref", "nnguide"), "needs energies above 0"),
    "one image a class": {
        **NONE_RIGHT,
        **FLAT,
        **EMPTY,
        **FEW,
        "ddu": "needs more than 1 images of each class; class 0 has 1",
        "pca": "the training images span",
    },
    "images all alike": {
        **NONE_RIGHT,
        **FLAT,
        **EMPTY,
        **CLIPPED,
        "kpca": "the training images span 0 directions",
        "optfs": "needs embeddings that vary",
        "pca": "the training images span",
        "weiper": "needs embeddings and logits that vary",
    },
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_score_is_finite_or_refused_with_a_reason(kind: str) -> None:
    train, x = sets(kind)
    for name in POST_HOC:
        method = methods.create(name, **SMALL.get(name, {}))
        if reason := REFUSED[kind].get(name):
            with pytest.raises(CannotRun, match=reason):
                method.fit(train).score(x)
        else:
            assert bool(method.fit(train).score(x).isfinite().all()), name
