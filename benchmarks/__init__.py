"""Speed, as ratios measured side by side in one run: `python -m benchmarks`."""

import os

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"  # before the libraries load; every contender has one thread, like a worker
