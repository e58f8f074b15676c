"""Methods that misbehave while they are fitted: a plugin for tests of clusters."""

import os
import resource
import signal
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from methods.base import Method, register


def die():
    os.kill(os.getpid(), signal.SIGKILL)


class Unruly(Method):
    title, paper, reads = "Unruly", "none", ("embedding",)

    def fit(self, train, *, seed=0, device="cpu", workdir=None):
        self.misbehave()
        return self

    def score(self, x):
        return x.embedding.sum(dim=1)

    def state(self):
        return {}

    def load_state(self, state, device="cpu"):
        pass


@register("exits")
@dataclass
class Exits(Unruly):
    def misbehave(self):
        raise SystemExit("enough")


@register("raises")
@dataclass
class Raises(Unruly):
    def misbehave(self):
        raise ValueError("no good")


@contextmanager
def limited(what, most):
    before = resource.getrlimit(what)
    resource.setrlimit(what, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(what, before)


@register("swells")
@dataclass
class Swells(Unruly):
    def misbehave(self):
        import torch

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        with limited(resource.RLIMIT_AS, pages * resource.getpagesize() + (64 << 20)):
            torch.empty(1 << 30)


@register("fills")
@dataclass
class Fills(Unruly):
    def misbehave(self):
        with limited(resource.RLIMIT_FSIZE, 1 << 20):
            Path(__file__).with_name("large").write_bytes(bytes(2 << 20))


@register("dies")
@dataclass
class Dies(Unruly):
    def misbehave(self):
        die()


def first(name, text=""):
    # whether this is the first time that a method of that name is fitted; it leaves a file that says so
    marker = Path(__file__).with_name(name)
    if marker.exists():
        return False
    marker.with_suffix(".new").write_text(text)
    marker.with_suffix(".new").rename(marker)
    return True


def node():
    import ray

    return ray.get_runtime_context().get_node_id()


@register("dies_once")
@dataclass
class DiesOnce(Unruly):
    def misbehave(self):
        if first("died"):
            die()


def hog():
    held = []
    while len(held) < 64:  # 16 GiB
        held.append(b"x" * (256 << 20))
        time.sleep(0.02)


@register("hogs_once")
@dataclass
class HogsOnce(Unruly):
    def misbehave(self):
        if first("hogged"):
            hog()


@register("hogs")
@dataclass
class Hogs(Unruly):
    def misbehave(self):
        hog()


@register("unplugs")
@dataclass
class Unplugs(Unruly):
    def misbehave(self):
        if first("unplug", node()):
            time.sleep(600)


@register("overflows")
@dataclass
class Overflows(Unruly):
    def misbehave(self):
        import errno

        first("full", node())
        if Path(__file__).with_name("full").read_text() == node():
            raise OSError(errno.ENOSPC, "No space left on device")
