"""The cost of a cell outside training and evaluation, and the growth of bookkeeping with the number of cells."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from ablation.analysis.results import table
from ablation.execution.devices import choose_workers
from ablation.execution.executor import JobOptions, Listener
from ablation.execution.plan import DataChecks, make_plan
from ablation.execution.pool import PoolExecutor
from ablation.execution.store import Results, evaluation_files, identified, training_document
from ablation.spec import Cell, Experiment
from ablation.study.experiment_file import load, read
from benchmarks.measure import ROUNDS, Row, row, seconds

# 49 cells of one step each, with the tiny scale's encoder, batch and evaluations.
ONE_STEP = '''"""Cells of one step."""
from ablation.data import Shapes
from ablation.experiments.pairwise import experiment as pairwise


def experiment(scale):
    few = Shapes(train=228, validation=100, test=100)
    return pairwise(scale.replace(dataset=few, epochs=1, curve_every=0))
'''


def run(device: str, quick: bool) -> Iterator[Row]:
    yield from startup()
    yield from overhead(device)
    for count in (100, 1_000) if quick else (100, 1_000, 10_000):
        with tempfile.TemporaryDirectory() as folder:
            yield from bookkeeping(count, Path(folder))
    if not quick:
        yield from shares(device)
        yield from grid(device)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "ablation.cli", *arguments]


def startup() -> Iterator[Row]:
    found = seconds({"ours": lambda: subprocess.run(command("--help"), check=True, capture_output=True)})
    yield row("suite", "ablation --help", "ours", "s", found["ours"])


def overhead(device: str) -> Iterator[Row]:
    """Seconds between two results in a worker, minus the second one's training and evaluation."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "one_step.py"
        file.write_text(ONE_STEP)
        source = read(str(file), "tiny", None)
        results = Results(Path(folder) / "results")
        cells = [c for c in identified(load(source)) if c.cell.coords.get("seed") == 0 and "second" in c.cell.coords]
        jobs = make_plan(cells, results).jobs
        DataChecks(results).check(jobs, cells)
        spent, before, computing = [], None, 0.0
        for outcome in PoolExecutor(JobOptions(device), source, [device], 1).run(jobs, Listener()):
            if outcome.part.failure:
                raise RuntimeError(outcome.part.failure.traceback)
            results.write(outcome.job.training_id, outcome.part.files)
            computing += sum(
                json.loads(c)["seconds"] for name, c in outcome.part.files.items() if name.endswith("json")
            )
            if outcome.last:
                now = time.perf_counter()
                spent += [now - before - computing] if before is not None else []
                before, computing = now, 0.0
    case = f"a cell outside training and evaluation, {len(jobs)} cells of one step, after the first"
    yield row("suite", case, "ours", "s", spent)


def bookkeeping(count: int, folder: Path) -> Iterator[Row]:
    """`ablation status` and `table()` on finished runs."""
    experiment = load(read("pairwise", "tiny", None))
    cells = [cell for cell in experiment.cells if "second" in cell.coords and cell.coords["seed"] == 0]
    more = [
        Cell(
            coords={**cell.coords, "seed": seed},
            run=cell.run.replace(training=cell.run.training.replace(seed=seed)),
        )
        for seed in range(-(-count // len(cells)))
        for cell in cells
    ][:count]
    many = Experiment(cells=tuple(more), figures={})
    results = Results(folder)
    finish(many, results)
    case = f"{count:,} finished runs"
    status = command("status", "--results", str(folder))
    calls = {
        "ablation status": lambda: subprocess.run(status, check=True, capture_output=True),
        "table()": lambda: table(many, results),
    }
    found = seconds(calls)
    for name, each in found.items():
        yield row("suite", f"{name}, {case}", "ours", "s", each)


def finish(experiment: Experiment, results: Results) -> None:
    """Files of a finished run with made-up content, since the computation is not measured."""
    cells = identified(experiment)
    provenance = {"device": "-", "torch": "-", "kornia": "-", "commit": "-"}
    metrics = {
        f"{split}_top{top}_{statistics}": 50.0
        for split in ("train", "validation", "test")
        for top in (1, 5)
        for statistics in ("running", "recalibrated")
    }
    for cell in cells:
        files = {"encoder.safetensors": b"-" * 1000, "history.csv": b"epoch,loss\n1,1.0\n"}
        files["training.json"] = training_document(
            cell.cell.run.training, files, seconds=1.0, peak_memory_bytes=1, last={"loss": 1.0},
            diagnostics={"alignment": 1.0, "uniformity": -1.0}, images={"train": 1, "validation": 1, "test": 1},
            sittings=[{"seconds": 1.0}], classes=["a", "b"],
            normalization={"mean": [0.5] * 3, "std": [0.2] * 3}, provenance=provenance,
        )  # fmt: skip
        for evaluation in cell.cell.run.evaluations:
            files |= evaluation_files(
                evaluation,
                cell.training_id,
                b"-" * 1000,
                metrics=metrics,
                notes=[],
                seconds=1.0,
                provenance=provenance,
            )
        for name, content in files.items():  # not Results.write, which waits for the disk and would take minutes
            path = results.folder(cell.training_id) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    results.write_manifest("pairwise", "tiny", cells, "pairwise.py")


def shares(device: str) -> Iterator[Row]:
    """Real tiny cells, one after the other in a worker: evaluation's share of their time."""
    with tempfile.TemporaryDirectory() as folder:
        results = Results(Path(folder))
        source = read("pairwise", "tiny", None)
        cells = [c for c in identified(load(source)) if c.cell.coords.get("seed") == 0 and "second" in c.cell.coords]
        jobs = make_plan(cells[:: len(cells) // ROUNDS], results).jobs
        DataChecks(results).check(jobs, cells)
        evaluation, training, documents = [], [], {}
        for outcome in PoolExecutor(JobOptions(device), source, [device], 1).run(jobs, Listener()):
            if outcome.part.failure:
                raise RuntimeError(outcome.part.failure.traceback)
            documents |= {n: json.loads(c) for n, c in outcome.part.files.items() if n.endswith(".json")}
            if outcome.last:
                spent = sum(document["seconds"] for document in documents.values())
                training.append(documents["training.json"]["seconds"])
                evaluation.append(100 * (1 - training[-1] / spent))
                documents = {}
    case = f"{len(jobs)} tiny cells"
    yield row("suite", f"training, {case}", "ours", "s", training)
    yield row("suite", f"evaluation's share of a cell, {case}", "ours", "%", evaluation)


def grid(device: str) -> Iterator[Row]:
    """The time of `make grid` after installation, in a folder without results; measured once."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        folders = ("--results", f"{folder}/results", "--figures", f"{folder}/figures")
        subprocess.run(command("run", "grid", "--scale", "tiny", *folders), check=True, capture_output=True)
        took = time.perf_counter() - start
        found = pd.read_csv(f"{folder}/figures/grid-tiny.csv")
    workers = choose_workers(None, [device])
    yield row("suite", f"make grid, {len(found)} runs, {workers} workers", "ours", "s", [took])
    accuracy = found.loc[found["second"].notna(), "linear_test_top1_recalibrated"].tolist()
    yield row("suite", "make grid: linear test top-1 over its pairs", "ours", "%", accuracy)
