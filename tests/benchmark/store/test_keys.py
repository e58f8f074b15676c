"""Keys come from content: whatever changes a result changes its key, and nothing else does."""

import sys

import pytest

from benchmark.store import keys


def test_digest_does_not_depend_on_order_but_on_every_value():
    assert keys.digest(a=1, b=[2, "x"]) == keys.digest(b=[2, "x"], a=1)
    others = [keys.digest(a=1, b=[2, "y"]), keys.digest(a=1.5, b=[2, "x"]), keys.digest(a=None, b=[2, "x"])]
    assert len({keys.digest(a=1, b=[2, "x"]), *others}) == 4


def test_what_is_no_json_is_refused_rather_than_hashed_by_its_address():
    with pytest.raises(TypeError):
        keys.digest(a=object())


@pytest.fixture
def room(tmp_path, monkeypatch):
    """A package of four modules: one imports another, which imports a third."""
    package = tmp_path / "some_room"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "method.py").write_text("import os\nfrom some_room.network import build\n")
    (package / "network.py").write_text("from some_room import layers\ndef build():\n    pass\n")
    (package / "layers.py").write_text("WIDTH = 3\n")
    (package / "stranger.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    yield package
    for name in [name for name in sys.modules if name.startswith("some_room")]:
        del sys.modules[name]


def hash_of(module):
    keys.source.cache_clear()
    keys._read.cache_clear()
    return keys.source(module)


@pytest.mark.parametrize(
    ("edited", "changes"), [("method", True), ("network", True), ("layers", True), ("stranger", False)]
)
def test_an_edit_changes_the_hash_of_what_stands_on_it_alone(room, edited, changes):
    before = hash_of("some_room.method")
    with (room / f"{edited}.py").open("a") as file:
        file.write("# edited\n")
    assert (hash_of("some_room.method") != before) is changes


def test_two_methods_of_the_project_differ_and_share_their_base():
    assert keys.source("methods.msp") != keys.source("methods.ebo")


@pytest.mark.parametrize(
    "where",
    [
        "def load():\n    {}",
        "class Layer:\n    def load(self):\n        {}",
        "if True:\n    pass\nelse:\n    {}",
        "try:\n    pass\nexcept ValueError:\n    {}",
        "try:\n    pass\nfinally:\n    {}",
        "match 1:\n    case _:\n        {}",
        "async def load():\n    with open('x') as file:\n        {}",
    ],
)
@pytest.mark.parametrize("statement", ["import some_room.stranger", "from some_room import (\n stranger)"])
def test_an_import_counts_wherever_a_statement_may_stand(room, where, statement):
    (room / "layers.py").write_text(where.format(statement))
    before = hash_of("some_room.method")
    (room / "stranger.py").write_text("# edited")
    assert hash_of("some_room.method") != before
