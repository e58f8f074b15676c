"""The images that rows err on, as far as a page may hold them: out of files that a run has left, each image once."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmark.records.frames import Record
from benchmark.records.names import mistakes_path
from benchmark.store import files
from datasets import catalogue

_PREFIXES = ("data:image/png;base64,", "data:image/jpeg;base64,")


class Images:
    """The images of a page. every: False leaves out those that may not be passed on, and the sets are counted."""

    def __init__(self, folder: Path, *, every: bool) -> None:
        self.folder, self.every = folder, every
        self.uris: dict[str, int] = {}  # each with its place in the page
        self.kept: dict[str, None] = {}  # titles of the sets that are in the page and may not be passed on
        self.left_out: dict[str, None] = {}

    def of(self, record: Record) -> dict[str, Any] | None:
        """The mistakes of a record's cell; None where there are none at hand, or those are of another record."""
        try:
            made = files.read_sealed(mistakes_path(self.folder, record["row"], record["ood"]["name"]))
            if made["measure"] != record["key"]:
                return None
            with_train = self._may_show(record, "train")
            sides = (("missed", "ood"), ("flagged", "id"))
            return {
                name: [self._one(one, with_train) for one in made[name]] if self._may_show(record, side) else None
                for name, side in sides
            }
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _one(self, one: Mapping[str, Any], with_train: bool) -> dict[str, Any]:
        image = self._place(one["image"])
        nearest = [[self._place(uri), cosine] for uri, cosine in one["nearest"]] if with_train else []
        return {"score": one["score"], "image": image, "nearest": nearest}

    def _place(self, uri: str) -> int:
        if not uri.startswith(_PREFIXES):
            raise ValueError("no image")
        return self.uris.setdefault(uri, len(self.uris))

    def _may_show(self, record: Record, side: str) -> bool:
        if shareable(record, side):
            return True
        (self.kept if self.every else self.left_out)[record[side].get("title", side)] = None
        return self.every

    @property
    def notes(self) -> list[str]:
        """What a reader must know before the page is passed on."""
        kept, out = ", ".join(self.kept), ", ".join(self.left_out)
        told = f"This page holds images of {kept}, whose licences may not let them be passed on: --no-images leaves"
        return [
            *([f"{told} them out."] if kept else []),
            *([f"Images of {out} were left out of this page (--no-images)."] if out else []),
        ]


def shareable(record: Record, side: str) -> bool:
    """Whether images of a record's set may be passed on: those of a catalogue entry that says so, whole and by name."""
    about = record[side]
    if about.get("group") == "control":  # the ID set itself, altered
        return shareable(record, "id")
    try:
        entry = catalogue.get(about["name"])
    except KeyError:
        return False
    except ValueError:
        return False
    return entry.shareable and entry.title == about.get("title") and entry.splits.get(about.get("split")) == about["of"]
