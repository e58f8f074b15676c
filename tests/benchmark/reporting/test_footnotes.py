"""Notes that only some tables carry."""

from benchmark.records.frames import View
from benchmark.reporting import footnotes

VIEW = View("toy", "Toy", "Toys", [("a", "A", "net"), ("b", "B", "net")], [("birds", "Birds", "far")])


def test_a_row_that_scores_all_images_alike_is_told():
    def cell(row, *values, method="x", ood="Birds"):
        return {"row": row, "method": method, "ood": {"title": ood}, "quantiles": {"id": values[:1], "ood": values[1:]}}

    done = [cell("a", 2.0, 2.0), cell("a", 2.0, 2.0, ood="Cars"), cell("b", 2.0, 2.0, 2.5), cell("b", 2.0, 2.5)]
    told = ["A: all images score alike (Birds, Cars): its AUROC of 50 says nothing of it."]
    assert footnotes._alike(done, VIEW) == told
    assert footnotes._alike([cell("a", 0.0, 0.0, method="constant"), {**done[0], "quantiles": None}], VIEW) == []


def test_rows_whose_images_were_resized_otherwise_are_named():
    """A record that does not say how they were is an older one."""
    done = [{"row": "a"}, {"row": "b", "transform": "shrunk as uint8 where they are decoded"}]
    assert footnotes._transforms(done, VIEW) == [
        "Images resized in float: A.",
        "Images shrunk as uint8 where they are decoded: B.",
    ]
    assert footnotes._transforms([{"row": "a"}, {"row": "b", "transform": "resized in float"}], VIEW) == []
