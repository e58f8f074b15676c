"""The registry: every file in methods/ counts, a broken one is left out and named, names are unique."""

import sys
import textwrap
import types
from dataclasses import dataclass
from typing import Any

import pytest
import torch

import methods
from methods.base import Features, Method, register, registered


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Any:
    """A folder whose files count as files of methods/, for one test."""
    monkeypatch.setattr(methods, "__path__", [*methods.__path__, str(tmp_path)])
    monkeypatch.setattr(methods, "_imported", set(methods._imported))
    before, modules = dict(registered()), set(sys.modules)
    yield tmp_path
    registry = registered()
    assert isinstance(registry, dict)
    registry.clear()
    registry.update(before)
    for module in set(sys.modules) - modules:
        if module.startswith("methods."):
            del sys.modules[module]
            delattr(methods, module.removeprefix("methods."))


NEW = """
    from dataclasses import dataclass
    from methods.base import Method, register

    @register("{name}")
    @dataclass
    class New(Method):
        title, paper, reads = "Norm", "none", ("embedding",)
        power: float = 2.0

        def score(self, x):
            return -(x.need("embedding") ** self.power).sum(1)
"""


def test_a_new_file_needs_no_other_edit(folder: Any) -> None:
    (folder / "new_norm.py").write_text(textwrap.dedent(NEW.format(name="new_norm")))
    assert "new_norm" in methods.names()
    method = methods.create("new_norm", power=1)
    x = Features(embedding=torch.tensor([[1.0, 2], [3, 4]]))
    assert method.fit(x).score(x).tolist() == [-3, -7]


def test_a_broken_file_is_left_out_and_named(folder: Any) -> None:
    (folder / "broken_new.py").write_text("import a_package_that_is_not_there\n")
    (folder / "twice_new.py").write_text(textwrap.dedent(NEW.format(name="msp")))
    with pytest.warns(UserWarning, match="left out") as caught:
        names = methods.names()
    said = " ".join(str(warning.message) for warning in caught)
    assert "methods/broken_new.py" in said
    assert "a_package_that_is_not_there" in said
    assert "methods/twice_new.py" in said
    assert "taken by methods.msp.MSP" in said
    assert methods.get("msp").__module__ == "methods.msp"
    assert {"msp", "knn", "vim"} <= set(names)


def test_a_name_taken_twice_raises() -> None:
    methods.names()
    other = dataclass(types.new_class("Other", (Method,)))
    with pytest.raises(ValueError, match=r"'msp' is taken by methods\.msp\.MSP"):
        register("msp")(other)


def test_register_without_dataclass_says_what_to_do() -> None:
    with pytest.raises(TypeError, match="@dataclass"):
        register("plain_new")(types.new_class("Plain", (Method,)))
    assert "plain_new" not in methods.names()


def test_unknown_names_offer_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"'mahalanobi'.*did you mean 'mahalanobis'"):
        methods.create("mahalanobi")
    with pytest.raises(ValueError, match=r"dice.*'percentle'.*did you mean 'percentile'"):
        methods.create("dice", percentle=90)
    with pytest.raises(ValueError, match=r"msp has no preset 'paper'; valid: none"):
        methods.create("msp", preset="paper")
