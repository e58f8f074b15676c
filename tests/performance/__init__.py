"""As run_all.py sets it before torch and pyarrow are imported: how long threads wait, and who gives out memory."""

import os

os.environ.setdefault("GOMP_SPINCOUNT", "5000")
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
