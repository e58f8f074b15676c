"""Notes that only some tables carry."""

from benchmark.records.frames import View
from benchmark.reporting import footnotes

VIEW = View("toy", "Toy", "Toys", [("a", "A", "net"), ("b", "B", "net")], [("birds", "Birds", "far")])


def test_rows_whose_images_were_resized_otherwise_are_named():
    """A record that does not say how they were is an older one."""
    done = [{"row": "a"}, {"row": "b", "transform": "shrunk as uint8 where they are decoded"}]
    assert footnotes._transforms(done, VIEW) == [
        "Images resized in float: A.",
        "Images shrunk as uint8 where they are decoded: B.",
    ]
    assert footnotes._transforms([{"row": "a"}, {"row": "b", "transform": "resized in float"}], VIEW) == []
