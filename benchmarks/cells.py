"""Tiny cells an hour with several worker processes at once."""

from __future__ import annotations

import tempfile
import time
from contextlib import closing
from pathlib import Path

from ablation.execution.devices import choose_devices
from ablation.execution.executor import Job, JobOptions, Listener
from ablation.execution.plan import make_plan
from ablation.execution.pool import PoolExecutor
from ablation.execution.store import Results, identified
from ablation.study.experiment_file import load, read

# Real cells except for the changes; their evaluations are complete.
SHORT = '''"""Short cells."""
from ablation.data import Shapes
from ablation.experiments.pairwise import experiment as pairwise


def experiment(scale):
    return pairwise(scale.replace(curve_every=0, CHANGES))
'''


def rate(device: str, workers: int, changes: str, seconds: float) -> float:
    """Cells an hour during `seconds`, counted after every worker has finished one, which excludes starts. changes: of
    the scale, such as "epochs=2"."""
    who: dict[str, str] = {}
    done: set[str] = set()
    ends: list[float] = []

    class Workers(Listener):
        def progress(self, worker: str, job: Job, fraction: float) -> None:
            who[job.training_id] = worker

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "short.py"
        file.write_text(SHORT.replace("CHANGES", changes))
        source = read(str(file), "tiny", None)
        jobs = make_plan(identified(load(source)), Results(Path(folder) / "results")).jobs
        executor = PoolExecutor(JobOptions(device), source, choose_devices(device), workers)
        with closing(executor.run(jobs, Workers())) as outcomes:
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
