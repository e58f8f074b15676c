"""Ray, started for one run or joined, and the code that reaches its workers."""

import contextlib
import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from benchmark.records import provenance
from benchmark.running import capacity, remote
from benchmark.running.where import Place

STORE_BYTES = 256 << 20  # of Ray's object store: it holds the plan and nothing else
ANSWER_SECONDS = 10.0  # of a running cluster, once it is called
_NOT_JOINED = "it is not joined: {}; a cluster that asks for a token needs RAY_AUTH_MODE=token"

T = TypeVar("T")


class ClusterError(Exception):
    """The cluster cannot carry this run out; one line says why."""


def line(error: BaseException) -> str:
    """What Ray has to say, in one line: of a traceback, the error that it ends with."""
    text = str(error).strip()
    said = text.splitlines()[-1] if "Traceback (most recent call last)" in text else text
    return " ".join(said.split())[:300] or type(error).__name__


@contextlib.contextmanager
def session(where: Place, *, gpus: bool) -> Iterator[Any]:
    """Ray for the time of a run: a cluster of its own, or the one of this node. ClusterError where there is none."""
    import ray
    from ray._private import ray_constants, worker

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    before = worker.print_to_stdstream, ray_constants.ENABLE_RAY_CLUSTER
    # what Ray says of workers that die goes to stdout, where the table belongs; we say it ourselves
    worker.print_to_stdstream = lambda *_, **__: None
    # False: it listens on the loopback alone
    ray_constants.ENABLE_RAY_CLUSTER = where.workers is None and before[1]
    folder = None if where.workers is None else _own_folder()
    how: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        try:
            if where.workers is None:
                os.environ["RAY_OVERRIDE_JOB_RUNTIME_ENV"] = "1"  # the code that runs here, not what was submitted
                _join(ray, where, how)
            else:
                how |= {
                    "address": "local",
                    "runtime_env": environment(where),
                    "num_cpus": where.workers * where.threads * (where.share if gpus else 1),
                    "num_gpus": where.workers if gpus else 0,
                    "include_dashboard": False,
                    "object_store_memory": STORE_BYTES,
                    "_temp_dir": str(folder),
                }
                twice(lambda: ray.init(**how))
        except ClusterError:
            raise
        except Exception as error:  # Ray raises anything, such as Exception where a node is slow to start
            said = "Ray does not start: {}" if where.workers is not None else _NOT_JOINED
            raise ClusterError("--cluster: " + said.format(line(error))) from None
        yield ray
    finally:
        with contextlib.suppress(Exception):
            ray.shutdown()
        worker.print_to_stdstream, ray_constants.ENABLE_RAY_CLUSTER = before
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def twice(start: Callable[[], T]) -> T:
    """Start a node of Ray, once more where it fails: Ray waits 30 s for one, which a busy machine may exceed."""
    try:
        return start()
    except Exception:
        return start()


def environment(where: Place, code: Path | None = None) -> dict[str, Any]:
    """Ray's runtime_env: a worker otherwise sees only the folder of the script that was started.

    code: the folder that travels to the nodes of a cluster.
    """
    variables = {"OMP_NUM_THREADS": str(where.threads), "TQDM_MININTERVAL": "10"}
    # a worker that has touched one GPU cannot be shown another by this variable: it is told which one to use
    variables["RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES"] = "1"
    handed_on = ("GOMP_SPINCOUNT", "ARROW_DEFAULT_MEMORY_POOL", "HF_HUB_OFFLINE")
    variables |= {name: os.environ[name] for name in handed_on if name in os.environ}
    if code is not None:
        variables[provenance.COMMIT] = provenance.commit() or ""
        return {"env_vars": variables, "working_dir": str(code), "excludes": ["**/__pycache__"]}
    paths = [str(remote.ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"env_vars": {**variables, "PYTHONPATH": os.pathsep.join(paths)}}


def _join(ray: Any, where: Place, how: dict[str, Any]) -> None:
    """Join the cluster of this node.

    The code travels, but not where several nodes are one machine: there each would unpack it anew into one folder,
    which workers of the others are reading.
    """
    address = _running()
    with _code() as code:
        ray.init(address=address, runtime_env=environment(where, code), **how)
    nodes = capacity.alive(ray)
    if len({node.host for node in nodes}) == 1 < len(nodes):
        ray.shutdown()
        ray.init(address=address, runtime_env=environment(where), **how)


@contextlib.contextmanager
def _code() -> Iterator[Path]:
    """A folder with the project's code and nothing else, for Ray to pack."""
    with tempfile.TemporaryDirectory(prefix="ood-code-") as folder:
        for room in remote.ROOMS:
            Path(folder, room).symlink_to(remote.ROOT / room)
        yield Path(folder)


def _running() -> str:
    """How Ray finds the cluster of this node; never that which another run started for itself.

    By RAY_ADDRESS, else "auto", once it is known that what `ray start` left here still runs: for no other address does
    Ray look for the token that a cluster may ask for.
    """
    from ray._private import services

    if address := os.environ.get("RAY_ADDRESS"):
        host, _, port = address.rpartition(":")
        try:  # Ray itself tries for many minutes
            if port.isdecimal():
                socket.create_connection((host.strip("[]"), int(port)), ANSWER_SECONDS).close()
        except OSError as error:
            raise ClusterError(f"--cluster auto: nothing answers at RAY_ADDRESS={address[:60]}: {error}") from None
        return address
    running: Any = services.find_gcs_addresses
    if services.find_bootstrap_address(None) not in running():
        raise ClusterError("--cluster auto: no cluster runs on this machine: ray start --head, or --cluster local")
    return "auto"


def _own_folder() -> Path:
    """A folder for Ray's sockets, whose paths must be short; those of drivers that were killed go."""
    root = Path("/tmp") if os.access("/tmp", os.W_OK) else Path(tempfile.gettempdir())
    for left in root.glob("ood-ray-*-*"):
        pid = left.name.split("-")[2]
        if pid.isdecimal() and not Path(f"/proc/{pid}").exists() and left.stat().st_uid == os.getuid():
            shutil.rmtree(left, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"ood-ray-{os.getpid()}-", dir=root))
