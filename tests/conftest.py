"""For every test: one thread (small tensors lose time on more), no network, and nobody's own data or weights.

No test pulls the plug: what is written need not reach the disk, and stays in memory where there is room.
"""

import functools
import gc
import os
import shutil
import signal
import sys
from concurrent.futures import Future
from pathlib import Path

import pytest

from benchmark.reporting.drawers import Drawers

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
for name in ("OOD_DATA", "OOD_WEIGHTS"):
    os.environ.pop(name, None)
os.fsync = lambda file: None
MEMORY = Path("/dev/shm")
if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > 4 << 30:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))

# Files of five seconds and more of CPU, behind two that train in forks (tests/apart.py): torch refuses that where their
# process has traced a graph, or taken gradients as ODIN does. The third and the fourth wait more than they compute.
LONG = (
    *("test_resume.py", "test_loop.py", "test_cluster.py", "test_browser.py"),
    *("test_engine.py", "test_contract.py", "test_run.py"),
    *("test_readme.py", "test_oal.py", "test_quick.py", "test_damage.py", "test_speed.py", "test_ddpm.py"),
    *("test_views.py", "test_figures.py", "test_metrics.py"),
    *("test_network.py", "test_pretrained.py", "test_finetuned.py", "test_agreement.py", "test_captured.py"),
    *("test_vae.py", "test_pixelcnn.py", "test_hostile.py", "test_searched.py", "test_sweep.py"),
)


# These export graphs: one process runs them all, for the first export of a process takes three seconds more.
EXPORTING = (
    *("running/test_engine.py", "networks/test_engine.py", "test_graph.py", "test_every_graph.py"),
    "test_rerun_detectors.py",
)
# These wait for Ray and for a browser, a minute in all, one after the other: beside them each core has its process.
WAITING = ("test_cluster.py", "test_browser.py")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers():
    return len(os.sched_getaffinity(0)) + 1 if hasattr(os, "sched_getaffinity") else None  # one waits


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid):
            file = super()._split_scope(nodeid)
            together = {"exporting": EXPORTING, "waiting": WAITING}
            return next((name for name, files in together.items() if file.endswith(files)), file)

    return Scheduling(config, log)


def pytest_configure(config):
    """Where tests run, which is not the process that hands them to others."""
    if config.getoption("numprocesses", None) and not hasattr(config, "workerinput"):
        return
    gc.disable()  # until all is imported
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job starts with it ignored
    import torch
    from hypothesis import HealthCheck, settings
    from tqdm import tqdm

    tqdm.monitor_interval = 0  # no thread that a fork would lack (tests/apart.py)
    torch.set_num_threads(1)
    settings.register_profile("no clock", deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine
    settings.load_profile("no clock")
    _share_collection(config)


def _share_collection(config):
    """Each process begins to read the tests elsewhere, and finds rewritten what another was at before."""
    if not hasattr(config, "workerinput") or config.args_source is not config.ArgsSource.TESTPATHS:
        return
    sys.dont_write_bytecode = False
    files = sorted(str(path) for path in Path(__file__).parent.rglob("test_*.py"))
    start = len(files) * int(config.workerinput["workerid"][2:]) // config.workerinput["workercount"]
    config.args = [*files[start:], *files[:start]]


def pytest_collection_modifyitems(items):
    """The longest files first, so that no process is left alone with one at the end."""
    places = {name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: (places.get(item.path.name, len(LONG)), item.path))


def pytest_collection_finish():
    """What is imported now stays: no collection of garbage looks at it again, and opening a network asks for one."""
    gc.freeze()
    gc.set_threshold(20_000)
    gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item, nextitem, seen=[0]):  # noqa: B006
    """The same for what tests import, once it is much: between files, when nothing of a test is left."""
    result = yield
    if (nextitem is None or nextitem.path != item.path) and len(sys.modules) > seen[0] + 100:
        seen[0] = len(sys.modules)
        gc.collect()
        gc.freeze()
    return result


@pytest.fixture(scope="session")
def exporter():
    """torch's exporter, which at each export reads the source of its 500 operators: here once."""
    where = pytest.importorskip("torch.onnx._internal.exporter._registration").ONNXRegistry
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(where, "from_torchlib", staticmethod(functools.cache(where.from_torchlib)))
        yield


_give = Drawers.give


@pytest.fixture(scope="session", autouse=True)
def _drawn_here():
    """Figures of a run are drawn in the test's own process, where all is imported that draws."""

    def give(self, draw, path):
        future = Future()
        try:
            draw(path.absolute())
            future.set_result(None)
        except Exception as error:
            future.set_exception(error)
        return future

    Drawers.give = give
    yield
    Drawers.give = _give


@pytest.fixture
def drawers(monkeypatch):
    """The processes that draw, as a run has them."""
    monkeypatch.setattr(Drawers, "give", _give)
