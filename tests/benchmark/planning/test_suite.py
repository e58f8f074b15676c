"""A suite with a fault is refused in one line that names the thing and the nearest valid one."""

import copy
import math
from dataclasses import replace

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark.jobs.encoding import encodes
from benchmark.planning import changing, choosing, parts, planner, suite
from benchmark.planning.options import Options, results_folder
from benchmark.planning.suite import UsageError
from benchmark.records import reference
from benchmark.records.names import folder_parts

GOOD = {
    "title": "A trial",
    "id": {"set": "digits"},
    "ood": [{"set": "letters"}, {"set": "halves", "group": "near"}],
    "encoders": {
        "net": {"kind": "classifier", "settings": {"architecture": "resnet8"}},
        "pixels": {"kind": "pixels", "settings": {"resolution": 32}},
    },
    "rows": [{"method": "msp", "encoder": "net"}, {"method": "knn", "encoder": "net", "settings": {"k": 5}}],
}


def write(tmp_path, content):
    path = tmp_path / "mine.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return str(path)


def changed(**parts):
    return {**GOOD, **parts}


def row(method="knn", **settings):
    return changed(rows=[{"method": method, "encoder": "net", "settings": settings}])


def test_a_good_suite_is_read_and_named_after_its_file(tmp_path):
    read = suite.read(write(tmp_path, GOOD))
    assert read.name == "mine"
    assert [row.label for row in read.rows] == ["msp@net", "knn@net"]
    assert read.seeds == (0,)


@pytest.mark.parametrize("name", suite.names())
def test_every_suite_of_the_project_is_sound_also_with_quick(name):
    read = suite.read(name)
    assert changing.quickened(read).rows
    assert read.name == name


@pytest.mark.parametrize("name", suite.names())
def test_what_a_row_is_called_in_the_published_tables_is_there(name):
    read = suite.read(name)
    where = read.published
    there = {method for method, _, _ in reference.published(where.tables, where.id)} if where else set()
    assert {row.published for row in read.rows} - {None} <= there


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (changed(rowz=[]), r"unknown key 'rowz'; did you mean 'rows'"),
        (changed(ood=[{"set": "letters", "grup": "near"}]), r"unknown key 'ood.0.grup'; did you mean 'group'"),
        (changed(rows=[{"method": "mspp", "encoder": "net"}]), r"row mspp@net: no method 'mspp'; did you mean 'msp'"),
        (changed(rows=[{"method": "msp", "encoder": "nett"}]), r"no encoder 'nett'; did you mean 'net'"),
        (changed(rows=[{"method": "knn", "encoder": "net", "settings": {"kk": 1}}]), r"no hyper-parameter 'kk'"),
        (changed(rows=[{"method": "msp", "encoder": "net"}] * 2), r"two rows are called 'msp@net'"),
        (changed(ood=[{"set": "lettres"}]), r"ood.0: .*did you mean 'letters'"),
        (changed(ood=[{"set": "letters", "group": "close"}]), r"ood.0.group: "),
        (changed(ood=[]), r"ood: "),
        (
            changed(encoders={"net": {"kind": "clasifier"}}),
            r"encoders.net: no encoder 'clasifier'; did you mean 'class",
        ),
        (changed(encoders={"net": {"kind": "pixels", "settings": {"size": 3}}}), r"encoders.net: .*no setting 'size'"),
        (changed(encoders={"net": {"kind": "probe", "settings": {"base": "b4"}}}), r"no encoder 'b4' to stand on"),
        ({"title": "x"}, r"Field required"),
        # a setting that cannot be: row, setting and range
        (row(k=math.nan), r"row knn@net: kNN: k is nan; it must be a whole number, at least 1 and at most 1,000,000$"),
        (row(k=True), r"row knn@net: kNN: k is True; it must be a whole number"),
        (row(k="5"), r"row knn@net: kNN: k is '5'; it must be a whole number"),
        (row("dlsr", blocks=0), r"row dlsr@net: DLSR: blocks is 0; it must be a whole number, at least 1"),
        (row("dlsr", epochs=-1), r"row dlsr@net: DLSR: epochs is -1; it must be a whole number, at least 1"),
        (row("dlsr", lr=math.inf), r"row dlsr@net: DLSR: lr is inf; it must be a number, above 0"),
        (row("dlsr", lr=True), r"row dlsr@net: DLSR: lr is True; it must be a number, above 0"),
        (changed(rows=[{"method": "knn", "encoder": "net", "quick": {"k": 0}}]), r"row knn@net: kNN: k is 0; "),
        # a number, a boolean or a text in another's place
        (changed(id={"set": "digits", "size": True}), r"id.size: .*valid integer, not True"),
        (changed(id={"set": "digits", "size": 10**9}), r"id.size: .*less than or equal to 16384, not 1000000000"),
        (changed(id={"set": "digits", "size": 0}), r"id.size: "),
        (changed(title=1.0), r"title: 1.0 is no text: quote it"),
        (changed(title=None), r"title: 'null' is no text|title: null is no text"),
        (changed(quick={"limit_train": 10**10}), r"quick.limit_train: "),
        (changed(seeds=[]), r"seeds: "),
        (changed(seeds=[0, 0]), r"seeds: the seed 0 stands there twice"),
        (changed(seeds=[-1]), r"seeds: a seed is a whole number from 0 to 2\^63 - 1, not -1"),
        (changed(seeds=[2**63]), r"seeds: a seed is a whole number from 0"),
        (changed(seeds=[True]), r"seeds.0: .*not True"),
        (changed(metrics=["auroc", "fpr"]), r"metrics: no metric 'fpr'; did you mean 'fpr95'"),
        (changed(metrics=["auroc", "auroc"]), r"metrics: the metric 'auroc' stands there twice"),
        (changed(metrics=["fpr95_ood"]), r"metrics: the first has its interval beside it, so it is auroc or fpr95"),
        # what would be measured twice, or written elsewhere
        (changed(ood=[{"set": "letters"}, {"set": "letters"}]), r"ood: the set 'letters' stands there twice"),
        (changed(ood=[{"set": "./a"}, {"set": "../" + "b/../" * 3 + "x"}, {"set": "a/"}]), r"/a' stands there twice"),
        (changed(ood=[{"set": "digits"}]), r"ood: the set 'digits' is the ID set itself"),
        *(
            (changed(name=name), r"name: .* cannot name a folder of results")
            for name in ("../../x", "a/b", "..", ".x", "", "a+quick", "papers", "x\x1b[31m", "x" * 200)
        ),
        ("- a\n- b\n", r"a suite is a mapping"),
        ("title: [", r"is not plain YAML"),
        ("title: !!python/object/apply:os.system ['touch /tmp/owned']\n", r"is not plain YAML"),
    ],
)
def test_a_fault_is_told_in_one_line(tmp_path, content, message):
    with pytest.raises(UsageError, match=message) as caught:
        suite.read(write(tmp_path, content))
    assert "\n" not in str(caught.value)
    assert "mine.yaml" in str(caught.value)


def test_a_grid_names_what_the_method_or_the_encoder_has(tmp_path):
    rows = [{"method": "msp", "encoder": "net", "grid": {"temperature": [1, 10], "epochs": [1]}}]
    assert suite.read(write(tmp_path, changed(rows=rows))).rows[0].grid == {"temperature": [1, 10], "epochs": [1]}
    for grid, message in (
        ({"temprature": [1]}, "row msp@net: grid: neither msp nor classifier has 'temprature'; did you mean"),
        ({"temperature": [1, -1]}, "row msp@net: grid: .*temperature"),
    ):
        with pytest.raises(UsageError, match=message):
            suite.read(write(tmp_path, changed(rows=[{**rows[0], "grid": grid}])))


def test_openoods_published_numbers_are_of_the_ood_positive_side():
    with_both = {}
    for table in sorted(reference.REFERENCE.glob("openood*.csv")):
        with_both[table.name] = {line.split(",")[4] for line in table.read_text().splitlines()[1:]}
    assert not [name for name, metrics in with_both.items() if "FPR95" in metrics]


def test_the_metrics_of_a_table_are_the_suites(tmp_path):
    shown = suite.read(write(tmp_path, changed(metrics=["auroc", "fpr95_ood"])))
    assert shown.metrics == ("auroc", "fpr95_ood")
    assert suite.read(write(tmp_path, GOOD)).metrics == ("auroc", "fpr95")


def test_an_unknown_suite_names_the_nearest():
    with pytest.raises(UsageError, match=r"no suite 'cifar1O', and no folder .*; did you mean 'cifar10'"):
        suite.read("cifar1O")
    with pytest.raises(UsageError, match="there is no file"):
        suite.read("nowhere/mine.yaml")


def test_a_folder_of_images_is_meant_from_where_the_suite_lies(tmp_path):
    read = suite.read(write(tmp_path, changed(ood=[{"set": "./photos"}])))
    assert read.ood[0].set == str(tmp_path / "photos")


def labels(tmp_path, *tokens):
    return [row.label for row in choosing.choose_rows(suite.read(write(tmp_path, GOOD)), list(tokens))]


def test_methods_names_rows_then_methods_then_methods_on_an_encoder(tmp_path):
    assert labels(tmp_path, "knn") == ["knn@net"]
    assert labels(tmp_path, "knn@net", "msp") == ["knn@net", "msp@net"]
    assert labels(tmp_path, "ebo") == ["ebo@net"]  # no row of the suite: wherever it can stand
    assert labels(tmp_path, "lowlevel") == ["lowlevel@pixels"]
    assert labels(tmp_path, "ebo@net") == ["ebo@net"]
    assert len(labels(tmp_path, "constant")) == 1


def test_the_hyperparameters_of_a_chosen_row_are_the_suites(tmp_path):
    (row,) = choosing.choose_rows(suite.read(write(tmp_path, GOOD)), ["knn"])
    assert row.settings == {"k": 5}


def test_a_hyperparameter_on_the_command_line_is_a_row_beside_the_suites(tmp_path):
    there = suite.read(write(tmp_path, GOOD))
    (row,) = choosing.choose_rows(there, ["knn:k=7"])
    assert (row.label, row.settings, row.published) == ("knn:k=7@net", {"k": 7}, None)
    assert labels(tmp_path, "knn", "knn:k=7@net", "knn:k=7") == ["knn@net", "knn:k=7@net"]
    (row,) = choosing.choose_rows(there, ["ebo:temperature=2.5@net"])
    assert row.settings == {"temperature": 2.5}


@pytest.mark.parametrize(
    ("token", "message"),
    [
        ("knn:kk=5", "knn has no hyper-parameter 'kk'; did you mean 'k'"),
        ("knn:k=0", "k is 0"),
        ("knn:k=yes", "k: .*quote it"),
        ("knn:k=05", "k: "),
        ("knn:k", "'k' is no hyper-parameter=value, as in knn:k=5"),
        ("knn:", "'' is no hyper-parameter=value"),
        ("knn:k=5,k=6", "k stands there twice"),
        ("knn:k=[1", "k: "),
        ("knnn:k=5", "did you mean 'knn'"),
        ("knn:k=5@nett", "did you mean 'net'"),
    ],
)
def test_a_hyperparameter_that_cannot_be_is_one_line(tmp_path, token, message):
    with pytest.raises(UsageError, match=message) as caught:
        labels(tmp_path, token)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("token", "message"),
    [("knnn", "no method or row 'knnn'; did you mean 'knn'"), ("msp@nett", "did you mean 'net'")],
)
def test_an_unknown_row_names_the_nearest(tmp_path, token, message):
    with pytest.raises(UsageError, match=message):
        labels(tmp_path, token)


def test_another_pretrained_network_brings_its_own_maps():
    there = changing.with_pretrained(suite.read("cifar10"), "tf_efficientnet_lite0")
    assert there.encoders["imagenet"].settings == {"model": "tf_efficientnet_lite0", "resolution": 224}
    with pytest.raises(UsageError, match="digits has no pretrained encoder"):
        changing.with_pretrained(suite.read("digits"), "resnet50")


def test_only_a_whole_run_has_the_folder_of_the_suite(tmp_path):
    whole = Options(data=tmp_path, weights=tmp_path, results=tmp_path, cache=tmp_path)
    assert results_folder("digits", whole) == tmp_path / "digits"
    trial = replace(whole, limit=100, quick=True, resolution="id", pretrained="resnet50")
    assert results_folder("digits", trial).name == "digits+pretrained=resnet50+resolution=id+limit=100+quick"
    flags = ["pretrained=resnet50", "resolution=id", "limit=100", "quick"]
    assert folder_parts(results_folder("digits", trial)) == ("digits", flags)
    assert folder_parts(results_folder("a+b=c", trial))[1] == flags  # the suite's own + and = are none


NUMBERS = [True, -1, 0, 10**19, 1.5, math.nan, math.inf]
TEXTS = ["", "a/b", "../x", "digits", "\x1b", "x" * 300]
JUNK = st.sampled_from([None, *NUMBERS, *TEXTS, [], [[]], {}, {"a": {}}])


def leaves(value, path=()):
    """The path of everything in nested dictionaries and lists."""
    yield path
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        yield from leaves(part, (*path, key))


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([path for path in leaves({**GOOD, "name": "x", "seeds": [0]}) if path]), JUNK)
def test_whatever_is_wrong_is_one_line(tmp_path_factory, path, junk):
    content = copy.deepcopy({**GOOD, "name": "x", "seeds": [0]})
    part = content
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = junk
    said = ""
    try:
        suite.read(write(tmp_path_factory.getbasetemp(), content))
    except UsageError as error:
        said = str(error)
    assert "\n" not in said


def test_a_plan_looks_at_each_row_once_and_encodes_once_for_all(tmp_path, monkeypatch):
    """2,000 rows took 16 s: each was compared with all others, and made the keys of all passes anew."""
    made = []
    monkeypatch.setattr(planner, "encodes", lambda use, images: made.append(use.name) or encodes(use, images))
    monkeypatch.setattr(parts.RowSpec, "__eq__", None)
    options = Options(data=None, weights=tmp_path, results=tmp_path, cache=tmp_path)
    for count in (1, 50):
        made.clear()
        rows = [{"name": f"r{k}", "method": "knn", "encoder": "net", "settings": {"k": k + 1}} for k in range(count)]
        planned = planner.make(suite.read(write(tmp_path, changed(rows=rows))), options, download=False)
        assert len(planned.rows) == count
        assert made == ["net"] * 4  # train, test and two OOD sets


def test_files_that_encoders_read_are_meant_from_where_the_suite_lies(tmp_path):
    """And not from the folder that the command happens to be given in."""
    (tmp_path / "words.txt").write_text("stone\nriver\n")
    encoders = {
        "words": {"kind": "clip", "settings": {"words": "./words.txt"}},
        "weights": {"kind": "network", "settings": {"network": "resnet18", "checkpoint": "./net.pth"}},
        "named": {"kind": "network", "settings": {"network": "resnet18", "checkpoint": "net"}},
        "latents": {"kind": "oal", "settings": {"outliers": "latents", "latents": "./latents.pt"}},
    }
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(changed(encoders=encoders, rows=[{"method": "mcm", "encoder": "words"}])))
    found = {name: spec.settings for name, spec in suite.read(str(path)).encoders.items()}
    assert found["words"]["words"] == str(tmp_path / "words.txt")
    assert found["weights"]["checkpoint"] == str(tmp_path / "net.pth")
    assert found["named"]["checkpoint"] == "net"  # in the weights folder
    assert found["latents"]["latents"] == str(tmp_path / "latents.pt")
