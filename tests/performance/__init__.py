"""Set before torch is imported, as in run_all.py: a thread that waits soon sleeps, and leaves its core to others."""

import os

os.environ.setdefault("GOMP_SPINCOUNT", "3000")
