"""The folder of a saved detector: tensors in safetensors files, and `detector.json`, which has the digest of each."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from benchmark.store import files
from datasets.images import file_sha256

FORMAT = 1
ABOUT = "detector.json"
JSON_BYTES = 64 << 20  # of detector.json: two million calibration scores
MOST = 16 << 30  # bytes of all its files
_FILE = r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}\.(safetensors|onnx)$"
_FILES = 20
FileName = Annotated[str, Field(pattern=_FILE)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)


class Part(_Strict):
    """An encoder: its kind, the settings it is built from, its file of weights. `no_head`: why its head is not read.

    `engine`: what it ran on in the table; `graph`: the file that ONNX Runtime runs.
    """

    name: str
    title: str
    kind: str
    settings: dict[str, Any]
    weights: FileName | None
    no_head: str
    engine: Literal["torch", "onnxruntime"] = "torch"
    graph: FileName | None = None


class Link(Part):
    """`of`: the encoder whose network it runs in another way."""

    of: Part | None = None


class FittedMethod(_Strict):
    name: str
    settings: dict[str, Any]
    state: FileName | None


class Calibration(_Strict):
    """`scores`: of the ID calibration images, ascending."""

    scores: Annotated[list[float], Field(min_length=1)]
    network: str


class _File(_Strict):
    bytes: Annotated[int, Field(ge=0, le=MOST)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Saved(_Strict):
    """What is read of `detector.json` to build the detector; the rest of it is for people."""

    format: Literal[1]
    row: str
    match: Annotated[int, Field(ge=1, le=4096)] | None
    encoders: Annotated[list[Link], Field(min_length=1, max_length=8)]
    method: FittedMethod
    calibration: Calibration
    checks: FileName
    made: dict[str, Any]
    files: Annotated[dict[FileName, _File], Field(max_length=_FILES)]

    @property
    def named(self) -> set[str]:
        """The files that something is read from."""
        links = [link for own in self.encoders for link in (own, own.of) if link is not None]
        of_links = (file for link in links for file in (link.weights, link.graph))
        names = {self.checks, self.method.state, *of_links}
        return {name for name in names if name is not None}


def write(folder: Path, about: Mapping[str, Any], make: Callable[[Path], None]) -> None:
    """A saved detector, whole or not there; what was at `folder` is replaced. `make` writes its files into a folder."""
    partial = folder.with_name(f".{folder.name}.partial")
    files.clear(partial)
    files.make_folder(partial)
    try:
        make(partial)
        there = {}
        for path in sorted(partial.iterdir()):
            size, digest = file_sha256(path)
            there[path.name] = {"bytes": size, "sha256": digest}
        content = files.sealed({"format": FORMAT, **about, "files": there})
        files.write_atomically(partial / ABOUT, files.text(content))
        files.clear(folder)
        partial.replace(folder)
    finally:
        files.clear(partial)


def read(folder: Path) -> tuple[Saved, dict[str, Any]]:
    """What `write` made, every file held against its digest: the parts to build it from, and all of detector.json.

    ValueError, in one line, for whatever is not that. No code is run, and nothing outside of the folder is read.
    """
    path = folder / ABOUT
    try:
        if path.is_symlink():
            raise ValueError("it is a link")
        content = files.read_sealed(path, JSON_BYTES)
    except FileNotFoundError:
        raise ValueError(f"{folder} is no saved detector: it holds no {ABOUT}") from None
    except ValueError as error:
        raise ValueError(f"{path} does not verify: {error}; save the detector again") from None
    if content.get("format") != FORMAT:
        raise ValueError(f"{path} is of format {content.get('format')!r:.20}; this version reads {FORMAT}")
    try:
        saved = Saved.model_validate(content)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"])
        raise ValueError(f"{path} does not verify: {where:.80}: {fault['msg']:.80}") from None
    if unknown := saved.named - saved.files.keys():
        raise ValueError(f"{path} does not verify: no digest of {', '.join(sorted(unknown))}")
    for name, file in saved.files.items():
        try:
            if (folder / name).is_symlink():
                raise ValueError("it is a link")
            if file_sha256(folder / name, file.bytes) != (file.bytes, file.sha256):
                raise ValueError("it has changed")
        except FileNotFoundError:
            raise ValueError(f"{folder / name} is not there: the detector is not whole; save it again") from None
        except (OSError, ValueError) as error:
            raise ValueError(f"{folder / name} does not verify: {error}; save the detector again") from None
    return saved, content
