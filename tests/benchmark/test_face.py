"""What a user takes from `benchmark`, and the other package that is called `datasets`, each in a process of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def theirs(tmp_path):
    """A package of another's that is called as ours is."""
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "__init__.py").write_text("def load_dataset(): pass\n")
    return tmp_path


def said(code, *path):
    """What a process prints that runs `code` with these folders first on its path."""
    head = f"import sys; sys.path[:0] = {[str(folder) for folder in path]!r}\n"
    return subprocess.run([sys.executable, "-c", head + code], capture_output=True, text=True, cwd="/").stdout


def test_beside_another_package_of_that_name_one_line_says_the_two_ways_out(theirs):
    code = """
import datasets
for line in ("from benchmark import evaluate", "from benchmark import metrics", "import benchmark.evaluating"):
    try:
        exec(line)
    except ImportError as error:
        print(error)
    print([name for name in sys.modules if name.partition(".")[0] in ("benchmark", "methods")], datasets.load_dataset)
"""
    lines = said(code, theirs, ROOT).splitlines()
    assert len(lines) == 6
    for message, state in zip(lines[::2], lines[1::2], strict=True):
        assert f"the package `datasets` of {theirs / 'datasets'} is imported already" in message
        assert "run_all.py --id FOLDER" in message
        assert "a process of its own" in message
        assert state.startswith("[] <function")


@pytest.mark.parametrize("form", ["a folder without code", "a file", "a module made in memory"])
def test_whatever_is_called_so_is_told(theirs, form):
    (theirs / "datasets" / "__init__.py").unlink()
    where = "another"
    if form == "a file":
        (theirs / "datasets").rmdir()
        (where := theirs / "datasets.py").touch()
    elif form == "a folder without code":
        where = theirs / "datasets"
    made = "sys.modules['datasets'] = type(sys)('datasets')" if where == "another" else "import datasets"
    code = f"""
{made}
sys.path.insert(0, {str(ROOT)!r})
try:
    from benchmark import evaluate
except ImportError as error:
    print(error)
"""
    assert said(code, theirs).startswith(f"the package `datasets` of {where} is imported already")


def test_it_may_come_between(theirs):
    code = f"""
import benchmark
sys.path.insert(0, {str(theirs)!r})
import datasets
try:
    benchmark.evaluate
except ImportError as error:
    print(error)
print("benchmark.evaluating" in sys.modules)
"""
    message, state = said(code, ROOT).splitlines()
    assert "is imported already" in message
    assert state == "False"


def test_where_ours_comes_first_it_says_so():
    code = """
import datasets
from datasets import images
for line in ("from datasets import load_dataset", "datasets.anything", "from benchmark import nothing"):
    try:
        exec(line)
    except (ImportError, AttributeError) as error:
        print(type(error).__name__, error)
print(hasattr(datasets, "anything"), datasets.images is images)
"""
    theirs, other, face, rest = said(code, ROOT).splitlines()
    assert theirs.startswith("ImportError module 'datasets' has no attribute 'load_dataset': this is ood-benchmark's")
    assert "run_all.py --id FOLDER" in theirs
    assert "a process of its own" in theirs
    assert other.startswith("AttributeError module 'datasets' has no attribute 'anything'")
    assert face.startswith("ImportError cannot import name 'nothing'")
    assert rest == "False True"


def test_nothing_heavy_is_imported_before_it_is_used():
    assert said("import benchmark; print('torch' in sys.modules)", ROOT) == "False\n"
