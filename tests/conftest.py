"""For every test: one thread (small tensors lose time on more), no network, and nobody's own data or weights."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
for name in ("OOD_DATA", "OOD_WEIGHTS"):
    os.environ.pop(name, None)

import torch  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402

torch.set_num_threads(1)
settings.register_profile("no clock", deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine
settings.load_profile("no clock")
