"""From an experiment to its missing runs, to an engine, to files."""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from ablation.checkpoints import folder_of, forget
from ablation.documents import printable
from ablation.engines import Engine, Job, Outcome, Setup, Work, in_this_process, in_workers
from ablation.loading import Source
from ablation.machine import multiplies_bfloat16
from ablation.progress import Failed, Reporter
from ablation.results import Files, Identified, Results, Standing
from ablation.specs import InvalidSpec, is_ours


@dataclass(frozen=True)
class Plan:
    """What is to be computed for an experiment, and what was found on disk: the state of each cell, and a summary."""

    cells: list[Identified]
    jobs: list[Job]
    states: list[str]
    standing: Standing
    complaints: list[str]  # what lies on disk and does not count

    def of_shard(self, index: int, count: int) -> Plan:
        """Only the jobs whose training id modulo `count` is `index`."""
        return replace(self, jobs=[job for job in self.jobs if int(job.training_id, 16) % count == index])


def plan(cells: list[Identified], results: Results) -> Plan:
    """One job per training that is missing or has missing evaluations; cells that agree share it."""
    jobs: dict[str, Job] = {}
    states: list[str] = []
    standing = Standing()
    complaints: list[str] = []
    looked = [(item, results.look(item.training_id, item.evaluation_ids, whole=True)) for item in cells]
    unfinished = {item.training_id for item, found in looked if found.state != "finished"}
    for item, found in looked:
        states.append(found.state)
        standing.add(item.training_id, found)
        complaints += found.wrong
        if item.training_id not in unfinished:
            continue
        weights = results.weights(item.training_id, found.training) if found.training else None
        if found.state == "finished" and weights is not None:
            continue  # where another cell's missing weights are trained again, this one's evaluations go with them
        if found.training and weights is None:
            complaints.append(f"the weights of {item.training_id} are missing or damaged, so it is trained again")
        wanted = item.evaluation_ids if weights is None else tuple(found.missing)
        work = Work(item.cell.run.training, ())
        if item.training_id in jobs:  # another cell of the same training
            earlier = jobs[item.training_id]
            wanted, work = tuple(dict.fromkeys(earlier.evaluation_ids + wanted)), earlier.work
        jobs[item.training_id] = Job(item.training_id, wanted, item.cell.name, work.and_of(item.cell.run), weights)
    return Plan(cells, list(jobs.values()), states, standing, list(dict.fromkeys(complaints)))


def check_data(jobs: list[Job]) -> int:
    """Reads every data set once, before any training starts; raises DataError with the cure.

    Returns how many training steps the jobs take in all.
    """
    from ablation.datasets import loaded
    from ablation.pretrain import check_batch

    named: set[Any] = set()  # data sets whose classes a line has named
    steps: dict[tuple, int] = {}  # of a run
    total = 0
    for job in jobs:
        training, optimization = job.work.training, job.work.training.optimization
        key = (training.dataset, optimization)
        if key not in steps:
            data = loaded(training.dataset, "cpu")
            if training.dataset not in named:
                named.add(training.dataset)
                _tell_of_classes(training.dataset, data)
            count = len(data.train) + (len(data.validation) if optimization.with_validation else 0)
            check_batch(training, count)
            steps[key] = optimization.epochs * (count // optimization.batch)
        total += steps[key] if job.weights is None and training.method.trains else 0
    return total


CLASSES = 8  # that a line names


def _tell_of_classes(dataset: Any, data: Any) -> None:
    """Prints a line with the numbers of images and the classes of a user's data set: a program cannot see that folders
    of sites or of splits are no classes, a person can."""
    generated = is_ours(type(dataset)) and not hasattr(dataset, "fingerprint")
    if generated or getattr(dataset, "images", None) is not None:
        return
    counts = [f"{len(part):,} {split}" for split, part in data.splits().items()]
    more = f" and {len(data.classes) - CLASSES:,} more" if len(data.classes) > CLASSES else ""
    print(
        f"ablation: {dataset.label}: {', '.join(counts)} images of {len(data.classes):,} classes: "
        f"{printable(', '.join(data.classes[:CLASSES]))}{more}",
        file=sys.stderr,
    )


def check_same_data(jobs: Sequence[Job], cells: Sequence[Identified], results: Results) -> None:
    """That what a user's data set loads for the jobs is what finished trainings had, as far as they say: a file that
    changes changes no id, unless the class has a `fingerprint`."""
    from ablation.datasets import loaded

    for dataset in dict.fromkeys(job.work.training.dataset for job in jobs):
        of = {item.training_id: item for item in cells if item.cell.run.training.dataset == dataset}
        finished = {} if is_ours(type(dataset)) else {each: results.training(each)[0] for each in sorted(of)}
        if any(finished.values()):
            data = loaded(dataset, "cpu")
            labels = {split: part.labels.tolist() for split, part in data.splits().items()}
            for training_id, document in finished.items():
                if document:
                    _check_same(dataset, data, document, results)
                    _check_same_labels(dataset, labels, of[training_id], results)


def _check_same(dataset: Any, data: Any, document: dict, results: Results) -> None:
    now = {
        "numbers of images": {split: len(part) for split, part in data.splits().items()},
        "classes": list(data.classes),
        "mean": [round(value, 5) for value in data.mean.tolist()],
        "standard deviation": [round(value, 5) for value in data.std.tolist()],
    }
    rounded = {name: [round(value, 5) for value in each] for name, each in document["normalization"].items()}
    then = dict(zip(now, [document["images"], document["classes"], rounded["mean"], rounded["std"]], strict=True))
    changed = [name for name in now if now[name] != then[name]]
    if changed:
        raise _changed(dataset, results, f"of the {changed[0]} it gives {now[changed[0]]} and gave {then[changed[0]]}")


def _check_same_labels(dataset: Any, labels: Mapping[str, list[int]], item: Identified, results: Results) -> None:
    """labels: by split, those of the data set now. Those of then are beside the predictions of an evaluation."""
    import numpy as np

    for evaluation_id in item.evaluation_ids:
        content, _ = results.content(item.training_id, f"{evaluation_id}.npz", evaluation_id)
        if content is None:
            continue
        with np.load(io.BytesIO(content)) as found:
            then = {split: found[f"{split}_labels"].tolist() for split in labels}
        for split, now in labels.items():
            if apart := sum(one != other for one, other in zip(now, then[split], strict=True)):
                raise _changed(dataset, results, f"{apart:,} of the {len(now):,} labels of {split} are others")
        return


def _changed(dataset: Any, results: Results, what: str) -> InvalidSpec:
    from ablation.datasets import DataError

    return DataError(
        f"{type(dataset).__name__} ({dataset.label!r}): load() must return what it returned to the finished runs of "
        f"{results.root}, but {what}. Add `def fingerprint(self) -> str` with a digest of its files, so that other "
        "images or labels are other runs; or name another folder: --results."
    )


WORTH_COMPILING = 10_000  # steps of a worker: milliseconds saved at each against a minute or two


def worth_compiling(steps: float, device: str) -> bool:
    """Whether a worker takes so many steps on a GPU that compiling them first saves time (see compiling.py)."""
    return device.startswith("cuda") and steps >= WORTH_COMPILING


def execute(
    jobs: Sequence[Job], results: Results, engine: Engine, at_once: int, reporter: Reporter, setup: Setup
) -> int:
    """Computes the jobs, `at_once` at a time, and writes each part as it comes; returns of how many a part failed.

    What lacked memory or lost its process is tried once more, alone, when the others have ended.
    """
    under_way = {job.training_id: _UnderWay(job, results, setup) for job in jobs}
    number, failed = at_once, 0
    while jobs:
        again = []
        with closing(engine(jobs, reporter.progress, number)) as outcomes:
            for outcome in outcomes:
                run = under_way[outcome.job.training_id]
                run.take(outcome)
                if not outcome.last:
                    continue
                left = run.left(outcome.job)
                if left:
                    again.append(left)
                    reporter.again(left, outcome.part.failure or run.waits[-1])
                else:
                    del under_way[outcome.job.training_id]
                    failed += bool(run.failed)
                    reporter.ended(outcome.job, outcome.seconds, run.documents, run.failed)
        jobs, number = again, 1
    return failed


@dataclass
class _UnderWay:
    """A run between the parts that are written and those that are not."""

    job: Job
    results: Results
    setup: Setup
    documents: Files = field(default_factory=dict)  # of the evaluations that are written
    failed: list[Failed] = field(default_factory=list)
    settled: set[str | None] = field(default_factory=set)  # parts
    tried: set[str | None] = field(default_factory=set)  # parts that are to be tried once more, or were
    waits: list = field(default_factory=list)  # why

    def take(self, outcome: Outcome) -> None:
        """Writes a part, or why there is none, unless it is to be tried once more."""
        job, part = outcome.job, outcome.part
        if part.files is not None:
            write_result(self.results, job.training_id, part.files, self.setup)
            self.documents |= {n: c for n, c in part.files.items() if part.evaluation_id and n.endswith(".json")}
        elif part.failure.may_succeed_alone and part.evaluation_id not in self.tried:
            self.tried.add(part.evaluation_id)
            self.waits.append(part.failure)
            return
        else:
            label = job.label(part.evaluation_id) if part.evaluation_id else None
            path = self.results.write_failure(job.training_id, part.failure, job.name, part.evaluation_id, label)
            if self.setup.checkpoints and part.failure.kind == "diverged":  # it would end so again
                forget(self.setup.checkpoints, job.training_id)
            self.failed.append(Failed(label, part.failure, path))
        self.settled.add(part.evaluation_id)

    def left(self, job: Job) -> Job | None:
        """What is to be computed yet, when an engine has ended with the job."""
        if any(failed.label is None for failed in self.failed):
            return None  # without its training
        parts = [part for part in self.job.parts if part not in self.settled]
        if not parts or None in parts:
            return job if parts else None
        weights = job.weights
        if weights is None:
            document, _ = self.results.training(job.training_id)
            weights = document and self.results.weights(job.training_id, document)
        return replace(job, evaluation_ids=tuple(parts), weights=weights)


def write_result(results: Results, training_id: str, files: Files, setup: Setup) -> None:
    """Writes a part of a run. When the training is written there is no use for its checkpoint."""
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
            raise InvalidSpec(f"--workers must be at least 1, but got {count}. Omit it for the default.")
        return count
    if devices[0] != "cpu":
        return len(devices)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
