"""What a caller gives as objects, as a suite in memory: its sets by name, and the network as an encoder."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmark.planning import folder_suite
from benchmark.planning import suite as suites
from benchmark.planning.folder_suite import Group
from benchmark.planning.parts import EncoderSpec, IDSet, OODSet
from benchmark.planning.suite import Suite
from benchmark.records.names import safe_name
from datasets import given
from datasets.features import FEATURES, KEYS, FeatureSet
from datasets.given import GivenSet, as_array
from datasets.images import ImageSet
from methods.base import nearest
from methods.encoders.networks import given as networks

Head = str | nn.Linear | tuple[Any, Any] | None  # of a network its layer's name; of features the weights
ID = "ID"


def given_suite(
    network: nn.Module | None,
    known: tuple[Any, Any],
    ood: Mapping[tuple[Group, str], Any],
    place: Path,
    *,
    head: Head = None,
    layers: Sequence[str] | None = None,
) -> Suite:
    """The suite of `known` = (train, test), and of `ood`: the sets by (group, name). Without a network: of features.

    What has to be on the disk goes below `place`. ValueError, in one line, for an ID set or a network that cannot be; a
    fault of an OOD set stays in `Suite.given`.
    """
    names = _names(ood)
    sets: dict[tuple[str, str], ImageSet | ValueError] = {}
    notes: tuple[str, ...] = ()
    id_name = given.name_of(known[0]) or ID
    id_name = ID if id_name in names.values() else id_name
    if network is None:
        if layers is not None or isinstance(head, str):
            raise ValueError("head, layers: they name modules of a network, and there is none: head=(weight, bias)")
        _write_head(head, place / "id")
        for split, data in zip(("train", "test"), known, strict=True):
            sets[ID, split] = _features(id_name, split, data, place / "id" / split)
        encoders, rows = folder_suite.of_features(place / "id" / "train")
    else:
        if head is not None and not isinstance(head, str):
            raise ValueError("head: name the layer of the network (a text); (weight, bias) is for features")
        train, test = (
            given.given(id_name, split, data, _folder(place))
            for split, data in zip(("train", "test"), known, strict=True)
        )
        batch = torch.from_numpy(np.stack(train.read(range(min(networks.IMAGES, len(train))))))
        looked = networks.look(network, batch, head=head, layers=layers)
        encoders = {looked.title: EncoderSpec(kind="module", settings={"given": looked}, title=looked.title)}
        rows = folder_suite.feature_rows(looked.title)
        _tell_apart(train, test)
        sets |= {(ID, "train"): train, (ID, "test"): test}
        notes = (f"{looked.title} read its images as they were given: {test.prepared}",)
    for (group, name), data in ood.items():
        labelled = group == "covariate"
        try:
            if network is None:
                found: ImageSet = _features(name, "test", data, place / group / safe_name(name), labelled=labelled)
            else:
                found = given.given(name, "test", data, _folder(place), labelled=labelled)
                _tell_apart(found, test)
            sets[f"{group}/{name}", "test"] = found
        except (ValueError, OSError) as error:
            sets[f"{group}/{name}", "test"] = ValueError(str(error))
    try:
        suite = Suite(
            name="evaluate",
            title=f"{next(iter(encoders))} on {id_name}",
            id=IDSet(set=ID, name=id_name, size=None if network is None else int(batch.shape[-1])),
            ood=tuple(OODSet(set=f"{g}/{n}", group=g, name=names[g, n]) for g, n in ood),
            encoders=encoders,
            rows=tuple(rows),
            calibrate=True,
        )
    except ValueError as error:
        raise ValueError(suites.first_fault(error)) from None
    suite._given, suite._notes = sets, notes
    return suite


def _names(ood: Mapping[tuple[Group, str], Any]) -> dict[tuple[Group, str], str]:
    """What each set is called: by its name alone where no two groups have it."""
    for _, name in ood:
        if not isinstance(name, str) or not name.strip():
            raise ValueError(f"near, far, covariate: {name!r:.60} names no set: give a dict of sets by their names")
    alone = [name for _, name in ood]
    return {(group, name): name if alone.count(name) == 1 else f"{group}/{name}" for group, name in ood}


def _folder(place: Path) -> Path:
    folder = place / "images"
    folder.mkdir(exist_ok=True)
    return folder


def _tell_apart(images: GivenSet, test: GivenSet) -> None:
    """Note where a set comes in another form, or through another transform, than the ID test set."""
    notes = []
    if images.form != test.form:
        notes.append(f"its images are {images.form}, those of the ID test set {test.form}")
    if images.how != test.how:
        notes.append(f"its transform is not that of the ID test set: {images.how or 'none is known'}")
    images.notes = (*images.notes, *notes)


def _features(name: str, split: str, data: Any, folder: Path, *, labelled: bool = True) -> FeatureSet:
    """Arrays of features, as the files of a set in a folder."""
    where = f"{name} ({split})"
    if isinstance(data, tuple) and len(data) == 2:
        data = {"embedding": data[0], "labels": data[1]}
    elif isinstance(data, Tensor | np.ndarray):
        data = {"embedding": data}
    if not isinstance(data, Mapping):
        raise ValueError(
            f"{where} is a {type(data).__name__}: without a network a set is an array (N, D), (array, labels), or a "
            f"dict of {', '.join(FEATURES)} and labels"
        )
    folder.mkdir(parents=True)
    for key, values in data.items():
        if key not in KEYS:
            raise ValueError(f"{where}: there is no feature {key!r:.60}; {nearest(str(key), KEYS)}")
        if values is not None and (labelled or key != "labels"):
            try:
                np.save(folder / f"{key}.npy", as_array(values), allow_pickle=False)
            except ValueError as error:
                raise ValueError(f"{where}: {key} is no array of numbers: {error}") from None
    return FeatureSet(name, split, folder, title=name)


def _write_head(head: Head, folder: Path) -> None:
    folder.mkdir()
    if head is None:
        return
    if isinstance(head, nn.Linear):
        bias = torch.zeros(head.out_features) if head.bias is None else head.bias
        head = (head.weight, bias)
    if not isinstance(head, tuple | list) or len(head) != 2:
        raise ValueError("head: of features it is (weight (K, D), bias (K,)), or a torch.nn.Linear")
    np.savez(folder / "head.npz", weight=as_array(head[0]), bias=as_array(head[1]))
