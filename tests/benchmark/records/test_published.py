"""What is committed: every record carries its checksum, and has the form that tables read."""

import gzip
import re
from pathlib import Path

import pytest

from benchmark.records import records
from benchmark.records.names import safe_name

PUBLISHED = sorted((Path(__file__).parents[3] / "results" / "published").rglob(records.PACKED))


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.parent.name)
def test_every_committed_record_fits_its_checksum(path):
    found, left_out = records.load(path.parent)
    assert found
    assert left_out == []
    for record in found:
        row = record["row"]
        assert row == safe_name(row) or ":" in row  # their files keep the names that they have had


def test_there_are_committed_records():
    assert PUBLISHED


def test_nothing_that_is_committed_knows_the_folders_of_a_machine():
    known = re.compile(r"(?<![\w.:/~-])/(?:home|root|work|tmp|mnt|data|scratch|Users|private|srv|media)/[\w.-]+")
    results = PUBLISHED[0].parents[3]
    for path in results.rglob("*.*"):
        if path.suffix in (".md", ".csv", ".tex", ".gz"):
            content = path.read_bytes()
            text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode()
            assert known.findall(text) == [], path
