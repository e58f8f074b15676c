"""What `--cluster` and `--share-gpu` mean, and what they cannot be."""

import os
import socket
from pathlib import Path

import pytest

from benchmark.planning.suite import UsageError
from benchmark.records import reference
from benchmark.running import session, where
from benchmark.running.where import Place, place

pytest.importorskip("ray")


@pytest.mark.parametrize("value", ["ray://head:10001", "local:0", "local:", "local:-1", "2", "LOCAL", "auto:2"])
def test_any_other_place_is_status_2_and_one_line(trial, capsys, value):
    assert trial.run("--cluster", value) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: --cluster")
    assert error.count("\n") == 1


def test_without_ray_the_extra_is_named(trial, capsys, monkeypatch):
    monkeypatch.setattr(where, "find_spec", lambda name: None)
    assert trial.run("--cluster", "local") == 2
    assert capsys.readouterr().err == "error: --cluster needs Ray: pip install 'ood-benchmark[cluster]'\n"


def test_threads_are_the_users_number_else_the_cores_shared(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert place("local", "cpu") == Place(8, 1)
    assert place("local:2", "cpu") == Place(2, 4)
    assert place("auto", "cpu") == Place(None, 1)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert place("local", "cpu") == Place(4, 2)
    assert place("local:3", "cpu") == Place(3, 2)
    with pytest.raises(UsageError, match="chooses each job's GPU"):
        place("local", "cuda:1")


def test_a_worker_for_each_gpu_and_no_more(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(where.torch.cuda, "device_count", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert place("local", "cuda") == Place(8, 8)
    assert place("local:2", "cuda") == Place(2, 32)
    assert place("local:20", "cuda").workers == 8
    assert place("local", "cuda", 4) == Place(8, 8, 4)


def test_a_shared_gpu_is_one_of_a_cluster(trial, capsys):
    with pytest.raises(UsageError, match="--device cpu is no GPU"):
        place("local", "cpu", 2)
    with pytest.raises(SystemExit) as ended:
        trial.run("--share-gpu", "2")
    assert ended.value.code == 2
    assert capsys.readouterr().err == "error: --share-gpu without --cluster: one process uses one GPU\n"


def test_rays_client_is_not_used(trial, capsys, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "ray://head:10001")
    assert trial.run("--cluster", "auto") == 2
    error = capsys.readouterr().err
    assert error == "error: --cluster auto: RAY_ADDRESS is ray://head:10001: run this on a node, or ray job submit\n"


def test_where_no_cluster_runs_it_is_one_line(trial, capsys, monkeypatch, tmp_path):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text("127.0.0.1:1")  # of one that runs no more
    assert trial.run("--cluster", "auto") == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error == "error: --cluster auto: no cluster runs on this machine: ray start --head, or --cluster local"
    assert not list(trial.results.rglob("*.tmp"))


def test_an_address_at_which_nothing_answers_is_one_line_and_not_a_wait(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", address)
        assert session._running() == address
    with pytest.raises(session.ClusterError, match=f"nothing answers at RAY_ADDRESS={address}: .*refused"):
        session._running()


def test_the_code_reaches_workers(monkeypatch, tmp_path):
    monkeypatch.setenv("PYTHONPATH", "/else")
    monkeypatch.setenv("ARROW_DEFAULT_MEMORY_POOL", "system")
    here = session.environment(Place(2, 3))
    assert here["env_vars"]["ARROW_DEFAULT_MEMORY_POOL"] == "system"
    assert here["env_vars"]["PYTHONPATH"] == f"{session.remote.ROOT}{os.pathsep}/else"
    assert here["env_vars"]["OMP_NUM_THREADS"] == "3"
    there = session.environment(Place(None, 1), tmp_path)
    assert there["working_dir"] == str(tmp_path)
    assert "PYTHONPATH" not in there["env_vars"]


class Nodes:
    """A Ray of several nodes, on so many machines."""

    def __init__(self, *hosts):
        self.hosts, self.environments = hosts, []

    def nodes(self):
        return [
            {"Alive": True, "NodeID": str(at), "NodeManagerHostname": host, "Resources": {}}
            for at, host in enumerate(self.hosts)
        ]

    def init(self, address, runtime_env):
        code = runtime_env.get("working_dir")
        self.environments.append(code and sorted(path.name for path in Path(code).iterdir()))

    def shutdown(self):
        self.environments.pop()


@pytest.mark.parametrize("hosts", [["alpha"], ["alpha", "beta"], ["alpha", "alpha", "beta"]])
def test_the_code_alone_travels_to_a_cluster(monkeypatch, hosts):
    monkeypatch.setattr(session, "_running", lambda: "127.0.0.1:1")
    ray = Nodes(*hosts)
    session._join(ray, Place(None, 1), {})
    assert ray.environments == [["benchmark", "datasets", "methods"]]


def test_nodes_of_one_machine_read_the_code_where_it_is(monkeypatch):
    monkeypatch.setattr(session, "_running", lambda: "127.0.0.1:1")
    ray = Nodes("alpha", "alpha")
    session._join(ray, Place(None, 1), {})
    assert ray.environments == [None]


def test_of_rays_traceback_the_last_line_is_said():
    text = "\x1b[36mray::proof()\x1b[39m RuntimeError: failed\n\nTraceback (most recent call last):\n  File a\n"
    assert session.line(RuntimeError(f"{text}No module named 'torch'\n")) == "No module named 'torch'"
    assert session.line(RuntimeError("two\nlines")) == "two lines"
    assert session.line(KeyboardInterrupt()) == "KeyboardInterrupt"


def test_a_ray_that_does_not_start_is_one_line(monkeypatch):
    ray = pytest.importorskip("ray")

    def init(**how):
        raise Exception("The current node\ntimed out")

    monkeypatch.setattr(ray, "init", init)
    for to, said in ((Place(1, 1), "Ray does not start"), (Place(None, 1), "it is not joined")):
        monkeypatch.setattr(session, "_running", lambda: "127.0.0.1:1")
        with (
            pytest.raises(session.ClusterError, match=f"{said}: The current node timed out"),
            session.session(to, gpus=False),
        ):
            pass
    assert not [*Path("/tmp").glob(f"ood-ray-{os.getpid()}-*")]


def test_a_node_that_was_too_slow_is_started_once_more(monkeypatch):
    ray = pytest.importorskip("ray")
    tries = []

    def init(**how):
        tries.append(how)
        if len(tries) == 1:
            raise Exception("The current node timed out")

    monkeypatch.setattr(ray, "init", init)
    with session.session(Place(1, 1), gpus=False):
        pass
    assert len(tries) == 2
    assert tries[0] == tries[1]


def test_a_checkout_that_ray_uploads_has_what_the_code_reads():
    packaging = pytest.importorskip("ray._private.runtime_env.packaging")
    root = session.remote.ROOT
    (ignored,) = packaging.get_excludes_from_ignore_files(root, include_gitignore=True)
    assert not [path for path in (reference.REFERENCE, *reference.REFERENCE.rglob("*")) if ignored(path)]
    assert ignored(root / "results" / "digits")
