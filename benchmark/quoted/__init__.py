"""Tables of committed records in README.md and results/*.md, between `<!-- table: NAME -->` and `<!-- end -->`."""

import re
from collections.abc import Callable
from functools import partial

from benchmark.quoted import dlsr, suites, trained
from benchmark.quoted.committed import ROOT

PAGES = (ROOT / "README.md", *(ROOT / "results" / name for name in ("README.md", "DLSR.md", "OAL.md", "OPENOOD.md")))
_TABLE = re.compile(r"(<!-- table: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
TABLES: dict[str, Callable[[], str]] = {
    "dozen": partial(suites.digits, rows=suites.DOZEN),
    "digits": suites.digits,
    "digits-trainings": partial(suites.digits, "digits-trainings"),
    "dlsr": dlsr.dlsr,
    "signs": dlsr.signs,
    "oal": suites.oal,
    "openood": suites.openood,
    "openood-passes": partial(suites.openood, "openood-cifar10+limit=500+limit-train=2000"),
    "openood-cifar100": partial(suites.other_network, 5000),
    "openood-cifar100-passes": partial(suites.other_network, 2000),
    "trained": trained.trained,
    "steps": trained.steps,
    "released-steps": partial(trained.steps, "dlsr-released-curve.csv", ()),
    "released-seeds": partial(trained.steps, "dlsr-released-seeds-curve.csv", ()),
    "released-turn": trained.turn,
    "lite0": trained.on_lite0,
    "lite0-simple": trained.simple,
    "cifar100-lite0": partial(trained.steps, "dlsr-cifar100-lite0-curve.csv", ()),
    "celeba-lite0": partial(trained.steps, "dlsr-celeba-lite0-curve.csv", ()),
    "resnet18": partial(trained.steps, "dlsr-resnet18-curve.csv", ()),
    "simple-elsewhere": trained.simple_elsewhere,
    "against": trained.against,
    "why": trained.why,
    "why-lite0": partial(trained.why, "dlsr-lite0-why.csv"),
}


def filled(text: str) -> str:
    """A page with its tables as the committed records have them now."""
    return _TABLE.sub(lambda match: f"{match[1]}{TABLES[match[2]]()}{match[3]}", text)
