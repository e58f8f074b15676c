"""What the nodes of a cluster have, and whether a job can ever be placed there."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmark.running.resources import Needs
from benchmark.shown import human_size


@dataclass(frozen=True)
class Node:
    """A machine of the cluster, with what it has in all."""

    key: str
    host: str
    cpus: int
    gpus: float
    memory: int


def alive(ray: Any) -> tuple[Node, ...]:
    """The nodes that can be used now."""
    found = []
    for node in ray.nodes():
        if node["Alive"]:
            has = node["Resources"]
            resources = int(has.get("CPU", 0)), has.get("GPU", 0.0), int(has.get("memory", 0))
            found.append(Node(node["NodeID"], node["NodeManagerHostname"], *resources))
    return tuple(found)


def lacks(needs: Needs, nodes: Sequence[Node]) -> str:
    """What no node can ever give to a job, in a few words; "" where one can."""
    if any(node.cpus >= needs.cpus and node.gpus >= needs.gpus and node.memory >= needs.memory for node in nodes):
        return ""
    if not nodes:
        return "no node of the cluster is left"
    cpus, gpus, memory = (max(getattr(node, name) for node in nodes) for name in ("cpus", "gpus", "memory"))
    if needs.cpus > cpus:
        return f"it takes {needs.cpus} cores, the largest node has {cpus}; set OMP_NUM_THREADS={max(1, cpus)}"
    if needs.gpus > gpus:
        return "it takes a GPU, no node has one: --device cpu"
    if needs.memory > memory:
        return f"it takes {human_size(needs.memory)}, no node has more than {human_size(memory)}"
    return f"it takes {needs.cpus} cores, {needs.gpus:g} GPUs and {human_size(needs.memory)}; no node has all of it"
