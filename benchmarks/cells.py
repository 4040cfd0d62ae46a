"""Tiny cells an hour with several processes on one device: `python -m benchmarks.cells cuda 4`."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from ablation import runner
from ablation.engines import Setup
from ablation.loading import load, read
from ablation.progress import Lines
from ablation.results import Results, identified


def main(device: str, workers: int) -> None:
    """Each worker computes a first cell, which pays for its start, and then four that count."""
    source = read("pairwise", "tiny", None)
    cells = [cell for cell in identified(load(source)) if cell.cell.coords.get("seed") in (0, 1, 2)][: 5 * workers]
    with tempfile.TemporaryDirectory() as folder:
        results = Results(Path(folder))
        plan = runner.plan(cells, results)
        ends: list[float] = []

        class Clock(Lines):
            def finished(self, job, seconds, files) -> None:
                ends.append(time.perf_counter())

        setup = Setup(device)
        engine = runner.engine_on([device], source, setup, workers)
        runner.execute(plan.jobs, results, engine, workers, Clock(len(plan.jobs)), setup)
    # From the moment when as many are done as there are workers to the end.
    print(3600 * (len(ends) - workers) / (ends[-1] - ends[workers - 1]))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
