"""From an experiment to its missing runs, to an engine, to files."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from ablation.checkpoints import folder_of, forget
from ablation.engines import Engine, Job, Setup, Work, in_this_process, in_workers
from ablation.loading import Source
from ablation.machine import multiplies_bfloat16
from ablation.progress import Reporter
from ablation.results import Files, Identified, Results
from ablation.specs import InvalidSpec


@dataclass(frozen=True)
class Plan:
    """What is to be computed for an experiment, and what was found on disk."""

    cells: list[Identified]
    jobs: list[Job]
    finished: int  # cells
    complaints: list[str]  # what lies on disk and does not count

    def of_shard(self, index: int, count: int) -> Plan:
        """Only the jobs whose training id modulo `count` is `index`."""
        return replace(self, jobs=[job for job in self.jobs if int(job.training_id, 16) % count == index])


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
    jobs: Sequence[Job], results: Results, engine: Engine, at_once: int, reporter: Reporter, setup: Setup
) -> int:
    """Computes the jobs, `at_once` at a time, and writes their results; returns how many failed.

    A run that lacked memory or whose process died is tried once more, alone, when the others have ended.
    """
    failed, alone = 0, []
    for number, batch in ((at_once, jobs), (1, alone)):
        with closing(engine(batch, reporter.progress, number)) as outcomes:
            for outcome in outcomes:
                job = outcome.job
                if outcome.files is not None:
                    write_result(results, job.training_id, outcome.files, setup)
                    reporter.finished(job, outcome.seconds, outcome.files)
                elif outcome.lacked and batch is jobs:
                    alone.append(job)
                    reporter.again(job, outcome.trace)
                else:
                    failed += 1
                    path = results.write_failure(job.training_id, job.name, outcome.trace)
                    if setup.checkpoints and "FloatingPointError" in outcome.trace:  # it would end so again
                        forget(setup.checkpoints, job.training_id)
                    reporter.failed(job, outcome.seconds, outcome.trace, path)
    return failed


def write_result(results: Results, training_id: str, files: Files, setup: Setup) -> None:
    """Then there is no use for the training's checkpoint."""
    results.write(training_id, files)
    if setup.checkpoints and not setup.keep:
        forget(setup.checkpoints, training_id)


def engine_on(devices: Sequence[str], source: Source, setup: Setup, at_once: int) -> Engine:
    """Of this machine: in this process where there is one run at a time, else in processes."""
    if at_once == 1:
        return partial(in_this_process, setup=replace(setup, device=devices[0]))
    return partial(in_workers, setup=setup, source=source, devices=devices)


def setup_of(options: Any, device: str, *, compiled: bool = False) -> Setup:
    """From the command line."""
    if not options.checkpoint_every > 0:
        raise InvalidSpec(f"--checkpoint-every must be above 0 minutes, but got {options.checkpoint_every}.")
    return Setup(device, compiled, folder_of(options), 60 * options.checkpoint_every, options.keep_checkpoints)


def choose_devices(names: str | None) -> list[str]:
    """The devices asked for ("cuda": every GPU), or what there is. Raises InvalidSpec for one that is not there."""
    import torch

    if names is None:
        names = "cuda" if torch.cuda.is_available() else "cpu"
    devices = []
    for name in names.split(","):
        try:
            device = torch.device(name.strip())
            torch.empty(1, device=device)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0].rstrip(".")
            reason = "torch knows no such kind" if "device type at start" in reason else reason
            meant = re.sub(r"^(gpus?|nvidia):?(?=\d|$)", "cuda:", name.strip().lower()).rstrip(":")
            cure = f"Did you mean {meant}, or cpu?" if meant.startswith("cuda") and meant != name else "Try cpu."
            raise InvalidSpec(
                f"--device must name devices of this machine, but got {name!r}: {reason}. {cure}"
            ) from error
        every = device.type == "cuda" and device.index is None
        devices += [f"cuda:{i}" for i in range(torch.cuda.device_count())] if every else [str(device)]
    return devices


def chosen_precision(options: Any, several: Mapping[str, Any]) -> str | None:
    """--precision: None for the scale's. "auto" depends on the machine, and so would the ids of the runs: it is refused
    beside the options of `several`, by name, which bring in other machines."""
    if options.precision != "auto":
        return options.precision
    beside = [name for name, given in several.items() if given]
    if beside:
        raise InvalidSpec(
            f"--precision auto depends on the machine, and {beside[0]} may compute on several, which would not agree "
            "on the runs. Write --precision float32 or bfloat16."
        )
    import torch

    device = choose_devices(options.device)[0]
    fast = torch.cuda.is_bf16_supported() if device.startswith("cuda") else multiplies_bfloat16()
    return "bfloat16" if fast else "float32"


def device_of_process(name: str | None) -> str:
    """Of one of the processes that torchrun started: the GPU of its number, or the CPU."""
    import torch

    number = int(os.environ["LOCAL_RANK"])
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    named = name.split(",")
    chosen = f"cuda:{number}" if name == "cuda" else named[number] if number < len(named) else named[-1]
    if chosen.startswith("cuda"):
        torch.cuda.set_device(chosen)  # before anything lies on another
    return choose_devices(chosen)[0]


def choose_workers(count: int | None, devices: Sequence[str]) -> int:
    """One process per core on a CPU, each of one thread; one process on each GPU."""
    if count is not None:
        if count < 1:
            raise InvalidSpec(f"--workers must be at least 1, but got {count}. Leave it away for the default.")
        return count
    if devices[0] != "cpu":
        return len(devices)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
