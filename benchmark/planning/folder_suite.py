"""A folder as a suite: `id/train`, `id/test`, and sets in `near`, `far`, `covariate`: images, parquet or features."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

import methods
from benchmark.planning import suite as suites
from benchmark.planning import yaml_reader
from benchmark.planning.id_images import BadData
from benchmark.planning.parts import EncoderSpec, IDSet, OODSet, RowSpec
from benchmark.planning.suite import Suite, UsageError
from benchmark.records import frames
from benchmark.store.files import write_atomically
from datasets import features, layout, walking
from datasets.arrays import SUFFIXES
from datasets.features import FeatureFile
from datasets.images import decode
from datasets.walking import printable
from methods.encoders.networks.checkpoints import read_head

Group = Literal["near", "far", "covariate"]
MODEL = "tf_efficientnet_b4.aa_in1k"  # of the catalogue's suites
PIXELS = 64  # at most: the side at which statistics of an image's pixels are taken
# Methods of which one row would hide what they can do: (name, title, settings) of each.
_ROWS: dict[str, tuple[tuple[str, str, dict[str, Any]], ...]] = {
    "ash": tuple((f"ash-{variant}", f"ASH-{variant.upper()}", {"variant": variant}) for variant in ("s", "b", "p")),
    "dlsr": (
        ("dlsr-mse", "DLSR (MSE)", {"measure": "mse"}),
        ("dlsr-lr", "DLSR (LR)", {"measure": "lr"}),
        ("dlsr-mfsim", "DLSR (MFsim)", {"measure": "mfsim"}),
    ),
    "mahalanobis": (
        ("mahalanobis", "Mahalanobis", {}),
        ("mahalanobis-layers", "Mahalanobis (DLSR's layers)", {"feature": "layers", "per_class": False}),
    ),
    "knn": (("knn", "kNN", {}), ("knn-layers", "kNN (DLSR's layers)", {"feature": "layers"})),
}


def asked(name: str) -> Suite:
    """What `--id` names: a suite, else the file of one, else a folder.

    UsageError, in one line, where it is none of them; BadData for a folder whose features cannot be right.
    """
    folder = Path(os.path.expanduser(name))
    if name in suites.names() or not os.path.isdir(folder):
        return suites.read(name)
    try:
        return folder_suite(folder)
    except UsageError:
        raise
    except (ValueError, OSError) as error:
        raise BadData(str(error)) from None


def folder_suite(folder: Path, network: tuple[str, EncoderSpec] | None = None) -> Suite:
    """The suite that a folder stands for. `network`: an encoder of the user's, by name, in the place of a public one.

    UsageError where there is no ID set in it; ValueError for features that cannot be right.
    """
    ids, shown = folder / "id", printable(folder)
    if not ids.is_dir():
        raise UsageError(f"--id {shown}: no folder `id` in it: a suite is id/train, id/test, near/<set>, far/<set>")
    name = _name(os.path.basename(os.path.realpath(folder)))
    sets, notes = _ood_sets(folder)
    file = features.of_split(ids, layout.TRAIN)
    encoders, rows = _of_images(ids, network) if file is None else of_features(file)
    try:
        found = Suite(
            name=_results_name(name),
            title=f"{name}: a folder of {'images' if file is None else 'features'}",
            id=IDSet(set=f"{ids.resolve()}", name=name),
            ood=sets,
            encoders=encoders,
            rows=tuple(rows),
            calibrate=True,
        )
    except ValueError as error:
        raise UsageError(f"--id {shown}: {suites.first_fault(error)}") from None
    found._folder, found._notes, found._of_folder = folder.resolve(), notes, True
    return found


def _name(file: str) -> str:
    """The name of a file as one that people read."""
    return " ".join(printable(file).split())[:90] or "folder"


def _results_name(name: str) -> str:
    """What the results of a folder are called: never as those of a suite, and nothing that leads elsewhere."""
    plain = "".join(char if char.isalnum() or char in " ._-" else "_" for char in name)[:80].strip(" .-") or "folder"
    return f"{plain}@folder" if plain in (*suites.names(), *suites.TAKEN) else plain


def _ood_sets(folder: Path) -> tuple[tuple[OODSet, ...], tuple[str, ...]]:
    """The sets in each group's folder, and what was left out there, for people."""
    found: list[tuple[Group, str, Path]] = []
    notes = []
    for group in get_args(Group):
        left_out: Counter[str] = Counter()
        for entry in _entries(folder / group):
            if why := _no_set(entry, folder):
                left_out[why] += 1
                continue
            found.append((group, _name(entry.name if entry.is_dir() else entry.stem), entry))
        del left_out["companion"]
        if left_out:
            kinds = ", ".join(f"{why} ({count:,})" for why, count in sorted(left_out.items()))
            notes.append(f"{group}: left out: {kinds}; a set is a folder, or a file of features")
    stems = Counter(stem for _, stem, _ in found)
    sets = []
    for group, stem, entry in found:
        path = Path(os.path.realpath(entry))
        name = f"{group}/{stem}" if stems[stem] > 1 else stem
        itself = name == (path.name if path.is_dir() else path.stem)
        sets.append(OODSet(set=f"{path}", group=group, name=None if itself else name))
    return tuple(sets), tuple(notes)


def _entries(group: Path) -> Iterator[Path]:
    try:
        yield from sorted(group.iterdir())
    except FileNotFoundError:
        return
    except OSError as error:
        raise UsageError(f"{printable(group)} cannot be read: {error.strerror}") from None


def _no_set(entry: Path, folder: Path) -> str:
    """Why an entry of a group is no set; "" for a set."""
    suffix = entry.suffix.lower()
    if entry.name.startswith(".") and walking.has_images(entry):
        return "hidden folders of images"
    if entry.name.startswith(".") or entry.name.casefold() in walking.EXTRAS or suffix in walking.COMPANIONS:
        return "companion"
    if entry.is_dir():
        here = os.path.realpath(folder)
        leads_back = os.path.commonpath([here, os.path.realpath(entry)]) == os.path.realpath(entry)
        return "links that lead back into it" if leads_back else ""
    if suffix in SUFFIXES and (entry.exists() or not entry.is_symlink()):
        return ""
    if entry.is_symlink() and not entry.exists():
        return "links that lead nowhere"
    return f"{printable(suffix)} files" if suffix else "files without an ending"


def of_features(file: Path) -> tuple[dict[str, EncoderSpec], list[RowSpec]]:
    """One encoder called `features`, and its rows."""
    form = FeatureFile.of(file)
    settings: dict[str, Any] = {key: form.widths[key] for key in ("embedding", "logits") if key in form.widths}
    if form.layer_sizes:
        settings["layers"] = list(form.layer_sizes)
    head = features.head_beside(file)
    if head is not None and "logits" not in settings:
        settings["logits"] = read_head(head)[0].weight.shape[0]
    return {"features": EncoderSpec(kind="features", settings=settings)}, feature_rows("features")


def feature_rows(encoder: str) -> list[RowSpec]:
    """Every row but those of pixels; what the encoder does not offer is skipped by the plan."""
    rows = [row for method in methods.names() if method not in frames.SANITY for row in _rows(method, encoder)]
    rows = [row for row in rows if "pixels" not in _reads(row)]
    return [*rows, *(RowSpec(method=method, encoder=encoder) for method in ("random", "constant"))]


def _of_images(ids: Path, network: tuple[str, EncoderSpec] | None) -> tuple[dict[str, EncoderSpec], list[RowSpec]]:
    """A network with every row that reads features of it, and the pixels with what trains no generator on them."""
    encoders = {"pixels": EncoderSpec(kind="pixels", settings={"resolution": _pixels(ids)})}
    if network is None:  # a public one, with a linear head of its own
        plain, headed = "imagenet", "probe"
        encoders = {
            plain: EncoderSpec(kind="pretrained", settings={"model": MODEL, "resolution": 224}),
            headed: EncoderSpec(kind="probe", settings={"base": plain}),
            **encoders,
        }
    else:
        plain = headed = network[0]
        encoders = {plain: network[1], **encoders}
    rows = []
    for method in methods.names():
        for row in _rows(method, plain):
            reads = _reads(row)
            if method in frames.SANITY or ("pixels" in reads and methods.get(method).random_fit):
                continue
            on = "pixels" if "pixels" in reads else headed if reads & {"logits", "head"} else plain
            rows.append(row.model_copy(update={"encoder": on}))
    rows += [RowSpec(method=method, encoder="pixels") for method in ("random", "constant")]
    return encoders, rows


def _rows(method: str, encoder: str) -> list[RowSpec]:
    if method not in _ROWS:
        return [RowSpec(method=method, encoder=encoder)]
    return [
        RowSpec(method=method, encoder=encoder, name=name, title=title, settings=settings)
        for name, title, settings in _ROWS[method]
    ]


def _reads(row: RowSpec) -> set[str]:
    return set(methods.create(row.method, **row.settings).reads)


def _pixels(ids: Path) -> int:
    """The short side of an image of the ID set, at most 64."""
    try:
        first = walking.listed(ids).images[0]
        height, width, _ = decode(ids / first, first).shape
        return min(PIXELS, int(height), int(width))
    except (ValueError, OSError, IndexError):  # of parquet, or broken, which the plan tells
        return PIXELS


def write(suite: Suite, path: Path) -> None:
    """The suite of a folder as a file, with paths relative to it.

    UsageError where there is such a file already, it ends otherwise, or the suite is that of a file.
    """
    if not suite.of_folder:
        raise UsageError(f"--write-suite {path}: {suite.name} is a suite already; name a folder with --id")
    if path.suffix not in (".yaml", ".yml"):
        raise UsageError(f"--write-suite {path}: a suite's file ends in .yaml")
    if os.path.lexists(path):
        raise UsageError(f"--write-suite {path}: there is such a file already; name another, or remove it")

    def relative(name: str) -> str:
        found = os.path.relpath(name, os.path.realpath(path.parent))
        return found if found.startswith(".") else f"./{found}"

    content = suite.model_dump(exclude_defaults=True, exclude={"name"})
    content["id"]["set"] = relative(suite.id.set)
    content["ood"] = [{**ood, "set": relative(ood["set"])} for ood in content["ood"]]
    for encoder in content["encoders"].values():
        if encoder["kind"] == "network":  # the user's own
            encoder["settings"]["checkpoint"] = relative(encoder["settings"]["checkpoint"])
    head = f"# What the folder {suite.id.name} stands for, as `run_all.py --id {path.name}` runs it.\n"
    options: dict[str, Any] = {"sort_keys": False, "allow_unicode": True, "width": 120, "default_flow_style": None}
    write_atomically(path, head + yaml.dump(content, Dumper=_Dumper, **options))


class _Dumper(yaml.SafeDumper):
    """Writes what `yaml_reader` reads as the same: tuples as lists, and texts in quotes where they need them."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    try:
        plain = yaml_reader.parse(text) == text
    except ValueError:
        plain = False
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if plain else '"')


_Dumper.add_representer(str, _text)
_Dumper.add_representer(tuple, yaml.SafeDumper.represent_list)
