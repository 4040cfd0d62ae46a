"""How many cells several workers do, and what the owner takes for each."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from ablation import runner
from ablation.engines import Outcome, Part, Setup, in_this_process
from ablation.live import Live
from ablation.loading import load, read
from ablation.progress import Lines
from ablation.results import Results, evaluation_files, identified, table, training_document
from benchmarks.measure import Row, row

# Cells that sleep as long as a run may take, and compute next to nothing.
SLEEP = '''"""Cells that sleep."""
import time
from dataclasses import dataclass

from ablation.datasets import Shapes
from ablation.encoders import SmallResNet
from ablation.grids import sweep
from ablation.methods import Initialization
from ablation.evaluate import KNN
from ablation.specs import Experiment


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
    """Cells an hour with one worker and with several, in turn; the ratio is of the same round."""
    rates: dict[int, list[float]] = {count: [] for count in counts}
    for _ in range(rounds):
        for count in counts:
            rates[count].append(rate(code, count))
    one, several = counts
    ratios = sorted(many / few for few, many in zip(rates[one], rates[several], strict=True))
    for count, ratio in ((one, None), (several, ratios[len(ratios) // 2])):
        yield row("scaling", what, f"ours, {count} workers", "cells/h", rates[count], ratio)


def rate(code: str, count: int) -> float:
    """Cells an hour, from the moment when as many are done as there are workers to the end."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "cells.py"
        file.write_text(code)
        source = read(str(file), "tiny")
        results, setup = Results(Path(folder) / "results"), Setup("cpu")
        jobs = runner.plan(identified(load(source)), results).jobs[:24]
        ends: list[float] = []

        class Clock(Lines):
            def ended(self, job, seconds, documents, failed) -> None:
                ends.append(time.perf_counter())

        engine = runner.engine_on(["cpu"], source, setup, count)
        if runner.execute(jobs, results, engine, count, Clock(len(jobs)), setup):
            raise RuntimeError(f"runs failed, see {folder}")
    return 3600 * (len(ends) - count) / (ends[-1] - ends[count - 1])


def owner(count: int) -> Iterator[Row]:
    """Milliseconds of the owner for each of so many cells: all but what the engine does, with the table at the end.

    The engine hands out the files of one run, each time under the name of another.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "cells.py"
        file.write_text(SLEEP.replace("SECONDS", "0.0").replace("CELLS", str(count)))
        source = read(str(file), "tiny")
        setup = Setup("cpu")
        experiment = load(source)
        jobs = runner.plan(identified(experiment), Results(folder)).jobs[:1]
        first = [outcome.part for outcome in in_this_process(jobs, lambda *_: None, 1, setup)]
        start = time.perf_counter()
        results = Results(Path(folder) / "results")
        plan = runner.plan(identified(experiment), results)
        spent = time.perf_counter() - start
        engine = Instant(first)
        bars = Live(Quiet(count), results, "cells-tiny")
        start = time.perf_counter()
        runner.execute(plan.jobs, results, engine, 1, bars, setup)
        bars.close()
        table(experiment, results)
        spent += time.perf_counter() - start - engine.seconds
    yield row("scaling", f"the owner, {count:,} cells", "ours", "ms/cell", [1000 * spent / count])


class Quiet(Lines):
    def ended(self, job, seconds, documents, failed) -> None:
        self.clock.ended(job)


class Instant:
    """An engine whose runs take no time. seconds: what it took to make their files up."""

    def __init__(self, parts: list[Part]):
        self.training, self.evaluation = (part.files for part in parts)
        self.seconds = 0.0

    def __call__(self, jobs, on_progress, at_once) -> Iterator[Outcome]:
        for job in jobs:
            on_progress("worker", job, 0.5)
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
        facts = {k: found[k] for k in ("metrics", "notes", "seconds", "energy_joules", "provenance")}
        [evaluation] = job.work.evaluations
        return evaluation_files(evaluation, job.training_id, npz, **facts)
