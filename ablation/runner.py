"""From an experiment to its missing runs, to an engine, to files."""

from __future__ import annotations

import os
from dataclasses import dataclass

from ablation.engines import Job, Work, in_this_process, in_workers
from ablation.loading import Source
from ablation.progress import Reporter
from ablation.results import Identified, Results
from ablation.specs import InvalidSpec


@dataclass(frozen=True)
class Plan:
    """What is to be computed for an experiment, and what was found on disk."""

    cells: list[Identified]
    jobs: list[Job]
    finished: int  # cells
    complaints: list[str]  # what lies on disk and does not count


def plan(cells: list[Identified], results: Results) -> Plan:
    """One job per training that is missing or has missing evaluations; cells that agree share it."""
    jobs: dict[str, Job] = {}
    complaints: list[str] = []
    finished = 0
    for item in cells:
        document, wrong = results.training(item.training_id)
        missing = []
        for evaluation_id in item.evaluation_ids:
            found, also_wrong = results.evaluation(item.training_id, evaluation_id) if document else (None, None)
            complaints += [also_wrong] if also_wrong else []
            if found is None:
                missing.append(evaluation_id)
        complaints += [wrong] if wrong else []
        if document and not missing:
            finished += 1
            continue
        weights = results.weights(item.training_id, document) if document else None
        if document and weights is None:
            complaints.append(f"the weights of {item.training_id} are missing or damaged, so it is trained again")
        wanted = tuple(item.evaluation_ids if weights is None else missing)
        work = Work(item.cell.run.training, ())
        if item.training_id in jobs:  # another cell of the same training
            earlier = jobs[item.training_id]
            wanted, work = tuple(dict.fromkeys(earlier.evaluation_ids + wanted)), earlier.work
        jobs[item.training_id] = Job(item.training_id, wanted, item.cell.name, work.and_of(item.cell.run), weights)
    return Plan(cells, list(jobs.values()), finished, list(dict.fromkeys(complaints)))


def check_data(jobs: list[Job]) -> int:
    """Reads every data set once, before any training starts; raises DataError with the cure.

    Returns how many training steps the jobs take in all.
    """
    from ablation.datasets import loaded
    from ablation.pretrain import check_batch

    steps: dict[tuple, int] = {}  # of a run
    total = 0
    for job in jobs:
        training, optimization = job.work.training, job.work.training.optimization
        key = (training.dataset, optimization)
        if key not in steps:
            data = loaded(training.dataset, "cpu")
            count = len(data.train) + (len(data.validation) if optimization.with_validation else 0)
            check_batch(training, count)
            steps[key] = optimization.epochs * (count // optimization.batch)
        total += steps[key] if job.weights is None and training.method.trains else 0
    return total


WORTH_COMPILING = 10_000  # steps of a worker: milliseconds saved at each against a minute or two


def worth_compiling(steps: float, device: str) -> bool:
    """Whether a worker takes so many steps on a GPU that compiling them first saves time (see compiling.py)."""
    return device.startswith("cuda") and steps >= WORTH_COMPILING


def execute(
    plan: Plan,
    source: Source,
    results: Results,
    device: str,
    workers: int,
    reporter: Reporter,
    compiled: bool = False,
) -> int:
    """Computes the plan's jobs and writes their results; returns how many failed."""
    failed = 0
    if workers == 1:
        outcomes = in_this_process(plan.jobs, device, reporter.progress, compiled)
    else:
        outcomes = in_workers(plan.jobs, source, device, workers, reporter.progress, compiled)
    try:
        for outcome in outcomes:
            job = outcome.job
            if outcome.files is not None:
                results.write(job.training_id, outcome.files)
                reporter.finished(job, outcome.seconds, outcome.files)
            else:
                failed += 1
                path = results.write_failure(job.training_id, job.name, outcome.trace)
                reporter.failed(job, outcome.seconds, outcome.trace, path)
    finally:
        outcomes.close()
    return failed


def choose_device(name: str | None) -> str:
    """The device asked for, or a GPU where there is one. Raises InvalidSpec for one that is not there."""
    import torch

    if name is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InvalidSpec(f"--device must be a device of this machine, but got {name!r}: {reason} Try cpu.") from error
    return str(device)


def choose_workers(count: int | None, device: str) -> int:
    """One process per core on a CPU, each of one thread; one process on a GPU."""
    if count is not None:
        if count < 1:
            raise InvalidSpec(f"--workers must be at least 1, but got {count}. Leave it away for the default.")
        return count
    if device != "cpu":
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
