"""Set before torch is imported, as in run_all.py: a waiting thread spins for microseconds, then leaves its core."""

import os

os.environ.setdefault("GOMP_SPINCOUNT", "5000")
