"""A few of the injuries that `runs` and `contents` count: each is found, made again and told, or harmless."""

import pytest

from tests.injuries import contents
from tests.injuries.kinds import FLIP
from tests.injuries.runs import Ground, outcome


@pytest.fixture(scope="module")
def ground(tmp_path_factory):
    return Ground(tmp_path_factory.mktemp("injuries"), rows=("lowlevel", "knn"))


@pytest.mark.parametrize(
    ("group", "kind"),
    [
        ("marker", FLIP),
        ("arrays", "zeros"),
        ("record", "another's copy"),
        ("scores", "a link to another"),
        ("beside", "a folder with a file"),
        ("unfinished", "swapped with another"),
        ("unfinished", "a folder with a file"),
        ("folders", "two entries exchanged"),
        ("folders", "kinds of entries deleted"),
        ("folders", "a file where a folder belongs"),
        ("folders", "a folder that is a link to another"),
    ],
)
def test_an_injury_ends_in_the_same_records(ground, group, kind):
    how, said = outcome(ground, group, kind, "1")
    assert how in ("told", "made again", "harmless"), f"{how}: {said}"


def test_no_damaged_content_is_taken_for_another(ground):
    counts = contents.counted(
        ground.whole.results / "mini+limit=30+limit-train=60", ground.whole.results / ".cache", 997
    )
    assert set(counts) == {"markers", "records", "score files", "journals", "checkpoints"}
    for kind, of_kind in counts.items():
        assert set(of_kind) <= {"found", "harmless"}, (kind, of_kind)
        assert of_kind["found"] > 0
