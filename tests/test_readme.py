"""What the README shows works as shown."""

import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image

import methods
import run_all
from benchmark import arguments, quoted
from methods import base
from tests.benchmark.conftest import undrawn

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
RECIPES = README.split("## Four recipes\n")[1].split("\n## ")[0].split("\n**")[1:]
NETWORK, FEATURES, DETECTOR, METHOD = RECIPES
SMALL = ("--limit", "30", "--no-speed", "--device", "cpu")


def commands(text):
    """The command lines of a text, in its blocks or within a sentence, without their comments."""
    return [shlex.split(line, comments=True)[2:] for line in re.findall(r"python run_all\.py [^`\n]*", text)]


def code(recipe):
    (block,) = re.findall(r"```python\n(.*?)```", recipe, re.DOTALL)
    return block


def run(command, tmp_path, *more):
    """A command as the README has it, small; what follows wins over what it says."""
    assert run_all.main([*command, "--results", str(tmp_path / "results"), *SMALL, *more]) == 0


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """A folder of photographs of two classes, and the weights of a network that was made for them."""
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    for name, n in {"id/train/cat": 30, "id/train/dog": 30, "id/test/cat": 8, "id/test/dog": 8, "near/fox": 9,
                    "far/sea": 9, "id/calibration/cat": 10, "id/calibration/dog": 10}.items():  # fmt: skip
        folder = tmp_path / "photos" / name
        folder.mkdir(parents=True)
        for number in range(n):
            pixels = generator.integers(0, 255, (40, 48, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
    torch.manual_seed(0)
    torch.save(timm.create_model("resnet18", num_classes=2).state_dict(), tmp_path / "my.pth")


@pytest.fixture
def tables_alone():
    """What a run writes but figures, pictures and page: those the recipe of the folder of photographs has."""
    with undrawn():
        yield


@pytest.fixture
def margin(tmp_path, monkeypatch):
    """The README's method in a file of its own; forgotten after the test."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "margin.py").write_text(code(METHOD), encoding="utf-8")
    methods.names()  # the others are registered for good before the registry is put aside
    monkeypatch.setattr(base, "_METHODS", dict(base._METHODS))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("methods.margin"):
            del sys.modules[name]


def test_a_recipe_has_at_most_ten_lines():
    for recipe in RECIPES:
        blocks = re.findall(r"```\w+\n(.*?)```", recipe, re.DOTALL)
        assert sum(bool(line.strip()) for block in blocks for line in block.splitlines()) <= 10, recipe


def test_a_network_of_ones_own(photos, tables_alone, tmp_path, capsys):
    first, second = commands(NETWORK)
    rows = ("--methods", "msp", "mahalanobis", "--size", "32", "--crop", "1")
    run(first, tmp_path, *rows)
    assert "read as timm's resnet18" in capsys.readouterr().err
    run(second, tmp_path, *rows)
    table = capsys.readouterr().out
    assert "fox" in table
    assert "sea" in table
    assert (tmp_path / "results" / "photos+limit=30" / "table.md").is_file()


def test_a_module_from_python(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))

    def images(n, shift=0.0):
        x = torch.randn(n, 3, 4, 4) + shift
        return x, network(x).argmax(dim=1)

    given = {"network": network, "train": images(400), "test": images(30), "others": images(30, 2.0)[0]}
    exec(code(NETWORK), given)
    assert set(given["result"].frame["set"]) == {"others"}
    assert (tmp_path / "results" / "mine" / "report.html").is_file()
    assert list(given["detector"](given["others"])) == ["score", "p_value", "accepted"]


def test_features_alone(tmp_path, tables_alone, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    weight, bias = generator.normal(size=(3, 8)).astype("f"), np.zeros(3, "f")

    def features_of(name):
        labels = np.arange(90) % 3
        embedding = (2 * np.eye(3, 8)[labels] + generator.normal(size=(90, 8)) + 3 * ("far" in name)).astype("f")
        return embedding, embedding @ weight.T + bias, labels

    exec(code(FEATURES), {"features_of": features_of, "weight": weight, "bias": bias})
    (command,) = commands(FEATURES)
    run(command, tmp_path, "--methods", "msp", "mahalanobis")
    table = capsys.readouterr().out
    assert "other" in table
    assert "noise" in table


def test_a_folder_of_photographs_and_its_saved_detector(photos, tmp_path, capsys):
    first, second = commands(DETECTOR)
    size = ["--size", "32", "--crop", "1", "--no-speed", "--device", "cpu", "--results", str(tmp_path / "results")]
    assert run_all.main([*first, *size]) == 0
    new = tmp_path / "new"
    new.mkdir()
    Image.new("RGB", (50, 40), "red").save(new / "red.png")
    (new / "none.jpg").write_text("no image")
    capsys.readouterr()
    assert ">" in second  # into a file, which the shell does
    assert run_all.main([*second[: second.index(">")], "--device", "cpu"]) == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert header == "file,score,p_value,accepted,note"
    found = {line.split(",")[0].rpartition("/")[2]: line.split(",") for line in lines}
    assert 0 < float(found["red.png"][2]) <= 1
    assert found["red.png"][3] in ("true", "false")
    assert found["none.jpg"][1:4] == ["", "", ""]


def test_a_method_of_ones_own(margin, tables_alone, tmp_path, capsys):
    first, second = commands(METHOD)
    run(first, tmp_path, "--quick")
    assert "Logit margin" in capsys.readouterr().out
    run(second, tmp_path, "--quick")
    table = capsys.readouterr().out
    for k in (2, 3, 5):
        assert f"Logit margin (k={k})" in table


def test_its_score_is_what_the_recipe_says(margin):
    methods.load(Path("margin.py"))
    features = base.Features(logits=[[3.0, 1.0, 0.5], [2.0, 1.5, -1.0]])
    assert methods.create("margin").score(features).tolist() == [-2.0, -0.5]
    assert methods.create("margin", k=3).score(features).tolist() == [-2.5, -3.0]


def test_the_flags_in_the_pages_exist(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for file in ("my.pth", "five.pth"):
        (tmp_path / file).touch()
    pages = [
        README,
        *((ROOT / "results" / page).read_text("utf-8") for page in ("README.md", "RUNNING.md", "CLUSTER.md", "OWN.md")),
    ]
    shown = [command for page in pages for command in commands(page)]
    assert len(shown) >= 8
    for command in shown:
        command = command[: command.index(">")] if ">" in command else command
        arguments.parser().parse_args([word for word in command if word not in ("…", "...")])


def test_the_code_of_the_way_from_a_folder_to_a_service_can_be_read():
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "results" / "OWN.md").read_text("utf-8"), re.DOTALL)
    assert len(blocks) == 3  # folder, network, service, of which the last runs in test_graph.py
    for block in blocks:
        compile(block, "OWN.md", "exec")


def test_every_file_that_the_readme_names_is_there():
    (table,) = re.findall(r"## What is where\n(.*?)\nMIT", README, re.DOTALL)
    for line in table.splitlines():
        names = re.findall(r"`([^`]+)`", line.split("|")[1]) if line.count("|") > 2 else []
        folder = ""
        for name in names:
            if "/" in name:
                folder = name.rpartition("/")[0]
                assert (ROOT / name).exists(), name
            else:
                assert (ROOT / folder / name).exists(), name


@pytest.mark.parametrize("page", quoted.PAGES, ids=lambda page: page.name)
def test_the_tables_are_those_of_the_committed_records(page):
    """If this fails: `python -m benchmark.publishing`."""
    text = page.read_text(encoding="utf-8")
    assert "<!-- table: " in text
    assert quoted.filled(text) == text


def test_a_figure_of_a_table_is_rounded_once():
    (row,) = (line for line in quoted.dlsr.dlsr().splitlines() if line.startswith("| DLSR (MFsim) "))
    cells = quoted.dlsr._cells(quoted.dlsr.SHORT)
    auroc, fpr95 = cells["dlsr-mfsim@imagenet", "cifar100"]
    assert row.split(" | ")[1] == f"{auroc:.1f} / {fpr95:.1f}"
    counted = [name for (name, _) in cells if name == "dlsr-mfsim@imagenet"]
    assert len(counted) - 2 == 11  # the two controls are in no average
    average = sum(auroc for (name, ood), (auroc, _) in cells.items() if name == "dlsr-mfsim@imagenet"
                  and ood not in ("blurred", "enlarged")) / 11  # fmt: skip
    assert row.split(" | ")[6].startswith(f"{average:.1f} / ")


def test_every_page_that_the_readme_links_to_is_there():
    for page in (ROOT / "README.md", *(ROOT / "results").glob("*.md")):
        for link in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert link.startswith("http") or (page.parent / link).exists(), f"{page.name}: {link}"
