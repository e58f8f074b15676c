"""`--list`: what a run can name."""

from benchmark.listing import listing
from benchmark.planning import suite
from datasets import catalogue
from methods.encoders import registry


def test_every_name_stands_apart_from_what_it_is(tmp_path):
    """Names of suites had grown longer than their column."""
    first = {line.split("  ")[1] for line in listing(tmp_path, tmp_path).splitlines() if line.startswith("  ")}
    assert {*suite.names(), *registry.names(), *catalogue.names()} <= first
