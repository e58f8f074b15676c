"""Set before torch is imported, as in run_all.py: a waiting thread sleeps, and leaves its core to who can use it."""

import os

os.environ.setdefault("GOMP_SPINCOUNT", "5000")
