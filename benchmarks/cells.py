"""Tiny cells an hour with several worker processes at once."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from ablation import runner
from ablation.engines import Job, Setup, in_workers
from ablation.loading import load, read
from ablation.results import Results, identified
from benchmarks import THREADS

# Real cells but for what is changed; their evaluations are whole.
SHORT = '''"""Short cells."""
from ablation.datasets import Shapes
from experiments.pairwise import experiment as pairwise


def experiment(scale):
    return pairwise(scale.replace(curve_every=0, CHANGES))
'''


def rate(device: str, workers: int, changes: str, seconds: float, threads: int | None = None) -> float:
    """Cells an hour in `seconds` from the moment when every worker has done one, which pays for its start. changes: of
    the scale, such as "epochs=2"; threads: of each worker, or as many as it takes by itself."""
    who: dict[str, str] = {}
    done: set[str] = set()
    ends: list[float] = []

    def tell(worker: str, job: Job, fraction: float) -> None:
        who[job.training_id] = worker

    with tempfile.TemporaryDirectory() as folder, _threads(threads):
        file = Path(folder) / "short.py"
        file.write_text(SHORT.replace("CHANGES", changes))
        source = read(str(file), "tiny", None)
        jobs = runner.plan(identified(load(source)), Results(Path(folder) / "results")).jobs
        devices = runner.choose_devices(device)
        with closing(in_workers(jobs, tell, workers, Setup(device), source, devices)) as outcomes:
            for outcome in outcomes:
                if outcome.part.failure:
                    raise RuntimeError(outcome.part.failure.traceback)
                if not outcome.last:
                    continue
                done.add(who[outcome.job.training_id])
                if len(done) == workers:
                    ends.append(time.perf_counter())
                    if ends[-1] - ends[0] >= seconds:
                        break
    return 3600 * (len(ends) - 1) / (ends[-1] - ends[0])


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """What the workers inherit, which is not this process's own (see benchmarks/__init__.py)."""
    before = {name: os.environ.pop(name, None) for name in THREADS}
    os.environ.update({name: str(count) for name in THREADS if count is not None})
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})
