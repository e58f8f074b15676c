"""What can never be had, and what a worker on any node would do otherwise, is told before the first job."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmark.jobs.base import Job, walk
from benchmark.jobs.encoding import TrainEncoder
from benchmark.jobs.fitting import FitMethod
from benchmark.jobs.worker import Worker
from benchmark.running import capacity, tasks
from benchmark.running.resources import Needs
from benchmark.running.session import ClusterError, line

PROOF_SECONDS = 300.0  # for a worker to start, on a machine that is busy


def check(
    ray: Any, nodes: Sequence[capacity.Node], least: Needs, tokens: tuple[Path, ...], boxed: list[Any], workers: int = 1
) -> None:
    """ClusterError, in one line, where no node can take the least job, or a worker of one is not like the driver.

    A node that is lost meanwhile proves nothing, and takes no job. workers: of each node, that come up at once.
    """
    from ray import exceptions
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    if why := capacity.lacks(least, nodes):
        raise ClusterError(f"--cluster: no job can be placed: {why}")
    proof = ray.remote(max_retries=0, num_cpus=0)(tasks.proof)
    there = [NodeAffinitySchedulingStrategy(node.key, soft=False) for node in nodes if node.cpus >= least.cpus]
    asked = [proof.options(scheduling_strategy=each).remote(tokens, boxed) for each in there for _ in range(workers)]
    _, late = ray.wait(asked, num_returns=len(asked), timeout=PROOF_SECONDS)
    if late:
        raise ClusterError(f"--cluster: on some node no worker came up within {PROOF_SECONDS:.0f} s")
    lost = 0
    for answer in asked:
        try:
            why = ray.get(answer)
        except (exceptions.NodeDiedError, exceptions.TaskUnschedulableError):
            lost += 1
            continue
        except exceptions.RayError as error:
            raise ClusterError(f"--cluster: a worker does not start: {line(error)}") from None
        if why:
            raise ClusterError(why)
    if lost == len(asked):
        raise ClusterError("--cluster: every node was lost before the first job")


def foresee(
    targets: Iterable[Job], worker: Worker, needs: Callable[[Job], Needs], nodes: Sequence[capacity.Node]
) -> None:
    """Say of each job whose memory no node has, as far as it is known now, that it will fail."""
    for job in walk(targets):
        learns = isinstance(job, FitMethod | TrainEncoder)  # which takes the most memory
        if learns and (why := capacity.lacks(needs(job), nodes)) and not job.done(worker.store):
            worker.say(f"note: {job.title} will fail: {why}")
