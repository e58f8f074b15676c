"""What is committed: every record carries its checksum, and has the form that tables read."""

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
        assert safe_name(record["row"]) == record["row"]  # their files keep the names that they have had


def test_there_are_committed_records():
    assert PUBLISHED
