"""What an engine is: runs in, results out as they finish, in this process, in others or on other machines.

An engine is called with jobs, what to tell of progress, and how many jobs at once; it yields what became of each part
of them, the training first, then each evaluation, as soon as it is there. It writes nothing: its caller is the only
writer of results. (Checkpoints are written by whoever trains.)
"""

from __future__ import annotations

import ctypes
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ablation.datasets import DataError
from ablation.failures import Failure, failure_of
from ablation.loading import Source
from ablation.results import Files, Stored, content_of
from ablation.specs import Run, Training, describe, identity


@dataclass(frozen=True)
class Setup:
    """How runs are computed; none of it changes a number.

    device: of the process that computes. checkpoints: the folder of trainings under way, or None for none; every: the
    seconds between two of them; keep: leave the last one of a finished training there. share: of the device's energy
    (`machine.Meter`).
    """

    device: str
    compiled: bool = False
    checkpoints: Path | None = None
    every: float = 300.0
    keep: bool = False
    share: float = 1.0


@dataclass(frozen=True)
class Work:
    """A training, and the evaluations of all cells that share it. Unlike a run's they may have one label."""

    training: Training
    evaluations: tuple

    def and_of(self, run: Run) -> Work:
        """With the evaluations of another cell."""
        return Work(self.training, tuple(dict.fromkeys(self.evaluations + run.evaluations)))


@dataclass(frozen=True)
class Job:
    """A training that is missing (`weights` None), or the files of its weights, with missing evaluations."""

    training_id: str
    evaluation_ids: tuple[str, ...]
    name: str
    work: Work
    weights: dict[str, Stored] | None = None

    @property
    def parts(self) -> tuple[str | None, ...]:
        """In the order in which they are computed: None, the training, and the ids of evaluations."""
        return in_order(self.evaluation_ids, trained=self.weights is not None)

    def label(self, evaluation_id: str) -> str:
        """Of an evaluation, as it begins the columns of the table; with what differs, "knn k=[3]", where cells that
        share the training have several of one label."""
        described = {identity(e): (e.label, describe(e)) for e in self.work.evaluations}
        label, own = described[evaluation_id]
        others = [other for of, other in described.values() if of == label]
        differs = [f"{name}={value}" for name, value in own.items() if any(o.get(name) != value for o in others)]
        return " ".join([label, *differs])


def in_order(evaluation_ids: Sequence[str], *, trained: bool) -> tuple[str | None, ...]:
    """The parts of a run that are to be computed."""
    return (*(() if trained else (None,)), *evaluation_ids)


def read_weights(stored: dict[str, Stored] | None) -> dict[str, bytes] | None:
    """Raises DataError where a file is not what was written."""
    found = {name: content_of(*each) for name, each in (stored or {}).items()}
    for _, wrong in found.values():
        if wrong:
            raise DataError(f"{wrong}. Type the same command again, which trains it anew.")
    return {name: content for name, (content, _) in found.items()} if stored else None


@dataclass(frozen=True)
class Part:
    """The files of a training (`evaluation_id` None) or of one of its evaluations, or why it failed."""

    evaluation_id: str | None
    files: Files | None = None
    failure: Failure | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of a part of a job; seconds: since the job was begun."""

    job: Job
    seconds: float
    part: Part

    @property
    def last(self) -> bool:
        """Whether nothing more of this job follows: without a training there are no evaluations, nor without a
        process."""
        part = self.part
        ended = part.failure is not None and (part.evaluation_id is None or part.failure.kind == "worker lost")
        return ended or part.evaluation_id == self.job.parts[-1]


def parts_of(parts: Sequence[str | None], computed: Iterator[Part]) -> Iterator[Part]:
    """The parts as they are computed; an exception is the failure of the training, or of all evaluations that are
    left, as where the images cannot be read."""
    left = list(parts)
    try:
        for part in computed:
            left.remove(part.evaluation_id)
            yield part
    except (Exception, SystemExit) as error:
        failure = failure_of(error)
        yield from (Part(evaluation_id, failure=failure) for evaluation_id in (left[:1] if None in left else left))


OnProgress = Callable[[str, Job, float], None]  # who computes, what, finished fraction
Engine = Callable[[Sequence[Job], OnProgress, int], Iterator[Outcome]]  # jobs, what to tell, how many at once


def compute_missing(
    work: Work,
    evaluation_ids: Sequence[str],
    weights: dict[str, bytes] | None,
    setup: Setup,
    progress: Callable[[float], None],
    on_epoch: Callable[[dict[str, float]], None] = lambda row: None,
) -> Iterator[Part]:
    """The parts of a run that are not there: its training unless `weights` are given, and these evaluations, of which
    one that fails is yielded so. Raises what the training raises."""
    from ablation.checkpoints import Checkpoint
    from ablation.compute import compute

    training_id = identity(work.training)
    checkpoint = None
    if setup.checkpoints and weights is None:
        checkpoint = Checkpoint(setup.checkpoints, training_id, setup.every, keep=setup.keep)
    wanted = {identity(evaluation): evaluation for evaluation in work.evaluations}
    computed = compute(
        work.training,
        [wanted[e] for e in evaluation_ids],
        weights,
        setup.device,
        compiled=setup.compiled,
        progress=progress,
        on_epoch=on_epoch,
        checkpoint=checkpoint,
        share=setup.share,
    )
    parts = in_order(evaluation_ids, trained=weights is not None)
    for evaluation_id, files in zip(parts, computed, strict=True):
        if isinstance(files, Exception):
            yield Part(evaluation_id, failure=failure_of(files))
        else:
            yield Part(evaluation_id, files)


def compute_job(
    job: Job,
    setup: Setup,
    progress: Callable[[float], None],
    on_epoch: Callable[[dict[str, float]], None] = lambda row: None,
) -> Iterator[Part]:
    """In this process, with what lies on this machine's disk."""
    weights = read_weights(job.weights)
    yield from compute_missing(job.work, job.evaluation_ids, weights, setup, progress, on_epoch)


def work_of(source: Source) -> dict[str, Work]:
    """By training id; cells that agree in training share it, with all their evaluations."""
    found: dict[str, Work] = {}
    for cell in source.cells():
        training_id = identity(cell.run.training)
        found[training_id] = found.get(training_id, Work(cell.run.training, ())).and_of(cell.run)
    return found


def work_named(source: Source, training_id: str) -> Work:
    """What a worker builds from the owner's bytes, for an id. Raises RuntimeError where the two do not agree."""
    work = _built(source)
    if training_id not in work:
        raise RuntimeError(
            f"the worker does not find the training {training_id} in {source.path}: the experiment gives other runs "
            "there than here. It must not depend on time, environment or random numbers; the images, the files that it "
            "imports and the versions of the suite must be the same."
        )
    return work[training_id]


_built = functools.lru_cache(maxsize=1)(work_of)  # of a worker process, which serves one experiment


def settle_in(device: str) -> None:
    """What a worker process does before its first run."""
    import torch

    from ablation.machine import commit

    commit()
    if device == "cpu":
        torch.set_num_threads(1)
        keep_freed_memory()


def keep_freed_memory() -> None:
    """Lets glibc's malloc reuse the memory of freed tensors instead of giving it back to the system.

    Every step allocates the same tensors. By default those of a megabyte and more come from the system as
    fresh pages, and the page faults cost more than many an operator computes (`python -m benchmarks step`).
    Elsewhere than with glibc nothing is done.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        largest_from_the_heap = 32 * 2**20  # the most that glibc accepts
        mallopt(-3, largest_from_the_heap)  # M_MMAP_THRESHOLD
        mallopt(-1, 2**30)  # M_TRIM_THRESHOLD
        mallopt(-2, 64 * 2**20)  # M_TOP_PAD


def every_half_second(send: Callable[[float], None]) -> Callable[[float], None]:
    """Passes on a finished fraction, at most twice a second."""
    last = 0.0

    def sparse(fraction: float) -> None:
        nonlocal last
        now = time.perf_counter()
        if now - last > 0.5:
            last = now
            send(fraction)

    return sparse
