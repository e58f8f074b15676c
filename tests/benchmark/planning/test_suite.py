"""A suite with a fault is refused in one line that names the thing and the nearest valid one."""

from dataclasses import replace

import pytest
import yaml

from benchmark.planning import choosing, suite
from benchmark.planning.options import Options, results_folder
from benchmark.planning.suite import UsageError
from benchmark.records import reference

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


def test_a_good_suite_is_read_and_named_after_its_file(tmp_path):
    read = suite.read(write(tmp_path, GOOD))
    assert read.name == "mine"
    assert [row.label for row in read.rows] == ["msp@net", "knn@net"]
    assert read.seeds == (0,)


@pytest.mark.parametrize("name", suite.names())
def test_every_suite_of_the_project_is_sound_also_with_quick(name):
    read = suite.read(name)
    assert suite.quickened(read).rows
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


def test_an_unknown_suite_names_the_nearest():
    with pytest.raises(UsageError, match="no suite 'cifar1O'; did you mean 'cifar10'"):
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


@pytest.mark.parametrize(
    ("token", "message"),
    [("knnn", "no method or row 'knnn'; did you mean 'knn'"), ("msp@nett", "did you mean 'net'")],
)
def test_an_unknown_row_names_the_nearest(tmp_path, token, message):
    with pytest.raises(UsageError, match=message):
        labels(tmp_path, token)


def test_another_pretrained_network_brings_its_own_maps():
    there = suite.with_pretrained(suite.read("cifar10"), "tf_efficientnet_lite0")
    assert there.encoders["imagenet"].settings == {"model": "tf_efficientnet_lite0"}
    with pytest.raises(UsageError, match="digits has no pretrained encoder"):
        suite.with_pretrained(suite.read("digits"), "resnet50")


def test_only_a_whole_run_has_the_folder_of_the_suite(tmp_path):
    whole = Options(data=tmp_path, weights=tmp_path, results=tmp_path, cache=tmp_path)
    assert results_folder("digits", whole) == tmp_path / "digits"
    trial = replace(whole, limit=100, quick=True, resolution="id", pretrained="resnet50")
    assert results_folder("digits", trial).name == "digits+pretrained=resnet50+resolution=id+limit=100+quick"
