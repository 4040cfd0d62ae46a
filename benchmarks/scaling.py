"""Throughput of several workers, and the owner's time per cell."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from ablation.analysis.results import table
from ablation.execution.console import LineConsole
from ablation.execution.executor import JobOptions, Listener, Outcome, Part
from ablation.execution.inline import InlineExecutor
from ablation.execution.options import ExecutionOptions
from ablation.execution.owner import execute
from ablation.execution.plan import make_plan
from ablation.execution.selection import choose_executor
from ablation.execution.status_file import StatusFile
from ablation.execution.store import Results, evaluation_files, identified, training_document
from ablation.study.experiment_file import load, read
from benchmarks.measure import Row, row

# Cells that sleep for the time of a short run and compute next to nothing.
SLEEP = '''"""Cells that sleep."""
import time
from dataclasses import dataclass

from ablation.data import Shapes
from ablation import SmallResNet
from ablation import sweep
from ablation.methods import Initialization
from ablation.evaluate import KNN
from ablation import Experiment


@dataclass(frozen=True, kw_only=True)
class Sleeps(Initialization):
    seconds: float

    def build(self, encoder, classes):
        time.sleep(self.seconds)
        return super().build(encoder, classes)


def experiment(scale):
    few = Shapes(train=60, validation=40, test=40, size=16)
    scale = scale.replace(dataset=few, encoder=SmallResNet(channels=4), batch=16)
    make = lambda cell: scale.run(Sleeps(seconds=SECONDS), views=((),)).replace(evaluations=(KNN(k=(10,)),))
    return Experiment(cells=sweep(make, cell=("a",), seeds=range(CELLS)), figures={})
'''


def run(device: str, quick: bool) -> Iterator[Row]:
    yield from owner(1_000)
    if device == "cpu":
        sleeping = SLEEP.replace("SECONDS", "2.0").replace("CELLS", "24")
        yield from workers("cells that sleep for 2 s", sleeping, (1, 4), 3)
        cores = len(os.sched_getaffinity(0))
        if not quick and cores > 1:
            real = Path(__file__).parent.parent / "experiments" / "grid.py"
            yield from workers(f"tiny cells on {cores} cores", real.read_text(), (1, cores), 2)


def workers(what: str, code: str, counts: tuple[int, int], rounds: int) -> Iterator[Row]:
    """Cells an hour with one worker and with several, in turn; a ratio is within a round."""
    rates: dict[int, list[float]] = {count: [] for count in counts}
    for _ in range(rounds):
        for count in counts:
            rates[count].append(rate(code, count))
    one, several = counts
    ratios = sorted(many / few for few, many in zip(rates[one], rates[several], strict=True))
    for count, ratio in ((one, None), (several, ratios[len(ratios) // 2])):
        yield row("scaling", what, f"ours, {count} workers", "cells/h", rates[count], ratio)


def rate(code: str, count: int) -> float:
    """Cells an hour, from the time when one cell per worker has finished to the end."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "cells.py"
        file.write_text(code)
        source = read(str(file), "tiny")
        results = Results(Path(folder) / "results")
        jobs = make_plan(identified(load(source)), results).jobs[:24]
        ends: list[float] = []

        class Clock(LineConsole):
            def ended(self, job, seconds, documents, failed) -> None:
                ends.append(time.perf_counter())

        options = ExecutionOptions(device="cpu", workers=count, results=str(results.root))
        if execute(jobs, results, choose_executor(options, source, len(jobs)), Clock(len(jobs))):
            raise RuntimeError(f"runs failed, see {folder}")
    return 3600 * (len(ends) - count) / (ends[-1] - ends[count - 1])


def owner(count: int) -> Iterator[Row]:
    """Milliseconds of the owner per cell: everything but the executor's work, with the table at the end.

    The executor returns the files of one run under the ids of all others.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "cells.py"
        file.write_text(SLEEP.replace("SECONDS", "0.0").replace("CELLS", str(count)))
        source = read(str(file), "tiny")
        experiment = load(source)
        jobs = make_plan(identified(experiment), Results(folder)).jobs[:1]
        first = [outcome.part for outcome in InlineExecutor(JobOptions("cpu")).run(jobs, Listener())]
        start = time.perf_counter()
        results = Results(Path(folder) / "results")
        plan = make_plan(identified(experiment), results)
        spent = time.perf_counter() - start
        executor = Instant(first)
        bars = StatusFile(Quiet(count), results, "cells-tiny")
        start = time.perf_counter()
        execute(plan.jobs, results, executor, bars)
        bars.close()
        table(experiment, results)
        spent += time.perf_counter() - start - executor.seconds
    yield row("scaling", f"the owner, {count:,} cells", "ours", "ms/cell", [1000 * spent / count])


class Quiet(LineConsole):
    def ended(self, job, seconds, documents, failed) -> None:
        self.clock.ended(job)


class Instant:
    """An executor whose runs take no time. seconds: the time for making up their files."""

    options = JobOptions("cpu")

    def __init__(self, parts: list[Part]):
        self.training, self.evaluation = (part.files for part in parts)
        self.seconds = 0.0

    def run(self, jobs, listener, *, alone=False) -> Iterator[Outcome]:
        for job in jobs:
            listener.progress("worker", job, 0.5)
            start = time.perf_counter()
            [evaluation_id] = job.evaluation_ids
            parts = Part(None, self._training(job)), Part(evaluation_id, self._evaluation(job))
            self.seconds += time.perf_counter() - start
            yield from (Outcome(job, 0.0, part) for part in parts)

    def _training(self, job) -> dict[str, bytes]:
        found = json.loads(self.training["training.json"])
        facts = {k: v for k, v in found.items() if k not in ("format", "id", "training", "files", "sha256")}
        files = {name: self.training[name] for name in found["files"]}
        return files | {"training.json": training_document(job.work.training, files, **facts)}

    def _evaluation(self, job) -> dict[str, bytes]:
        npz, document = (self.evaluation[name] for name in sorted(self.evaluation, reverse=True))
        found = json.loads(document)
        facts = {k: found[k] for k in ("metrics", "notes", "seconds", "provenance")}
        [evaluation] = job.work.evaluations
        return evaluation_files(evaluation, job.training_id, npz, **facts)
