"""The contract of an executor: jobs in, their parts out as they finish; in this process, in others, on other machines.

An executor writes no results: only the owner does (owner.py). Checkpoints are the exception; the training process
writes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ablation.execution.store import Files, Stored
from ablation.spec import Run, Training, describe, identity
from ablation.system.failures import Failure, failure_of

if TYPE_CHECKING:  # the command line reads JobOptions without loading torch
    from ablation.study.experiment_file import Source


@dataclass(frozen=True)
class JobOptions:
    """How to compute jobs; no option is part of an id.

    device: of the computing process. compiled: whether training steps use `torch.compile`. checkpoints: the folder of
    checkpoints, None for none; every: seconds between two checkpoints; keep: whether the last one stays after the
    result is written.
    """

    device: str
    compiled: bool = False
    checkpoints: Path | None = None
    every: float = 300.0
    keep: bool = False


@dataclass(frozen=True)
class Work:
    """A training, and the evaluations of all cells that share it. Unlike a run's, two of these
    may have the same label."""

    training: Training
    evaluations: tuple

    def and_of(self, run: Run) -> Work:
        """With the evaluations of another cell."""
        return Work(self.training, tuple(dict.fromkeys(self.evaluations + run.evaluations)))


class Origin(Protocol):
    """Describes a run that is no cell of the file, such as one of a search's trial."""

    def run(self, source: Source) -> Run: ...


@dataclass(frozen=True)
class Job:
    """A missing training (`weights` None), or the weights of a finished one, with its missing evaluations.

    name: of the cell, for messages. origins: descriptions from which a worker builds runs that are no cells of the file
    (`search.load.Suggestion`). watched: its learning curve goes to the listener, which may stop the training.
    """

    training_id: str
    evaluation_ids: tuple[str, ...]
    name: str
    work: Work | None
    weights: dict[str, Stored | bytes] | None = None
    origins: tuple[Origin, ...] = ()
    watched: bool = False

    @classmethod
    def of(cls, run: Run) -> Job:
        """All parts of a run."""
        evaluation_ids = tuple(map(identity, run.evaluations))
        return cls(identity(run.training), evaluation_ids, "", Work(run.training, run.evaluations))

    @property
    def evaluations(self) -> tuple:
        """Those to compute, of all that share the training."""
        known = {identity(evaluation): evaluation for evaluation in self.work.evaluations}
        return tuple(known[evaluation_id] for evaluation_id in self.evaluation_ids)

    @property
    def parts(self) -> tuple[str | None, ...]:
        """The parts in order of computation: None for the training, then the ids of evaluations."""
        return (*((None,) if self.weights is None else ()), *self.evaluation_ids)

    def order(self) -> Job:
        """The job to send: a worker builds the specs itself from the owner's file (`worker.work_for`)."""
        return replace(self, work=None)

    def label(self, evaluation_id: str) -> str:
        """The label of an evaluation, the prefix of its columns; with its differences, "knn k=[3]", if cells that share
        the training have several evaluations of that label."""
        described = {identity(e): (e.label, describe(e)) for e in self.work.evaluations}
        label, own = described[evaluation_id]
        others = [other for name, other in described.values() if name == label]
        differs = [f"{name}={value}" for name, value in own.items() if any(o.get(name) != value for o in others)]
        return " ".join([label, *differs])


@dataclass(frozen=True)
class Part:
    """The files of a training (`evaluation_id` None) or of one of its evaluations, or its failure."""

    evaluation_id: str | None
    files: Files | None = None
    failure: Failure | None = None


@dataclass(frozen=True)
class Outcome:
    """A part of a job, computed or failed; seconds: since the job began."""

    job: Job
    seconds: float
    part: Part

    @property
    def last(self) -> bool:
        """Whether no other part of this job follows: evaluations need their training, and all parts their process."""
        part = self.part
        ended = part.failure is not None and (part.evaluation_id is None or part.failure.kind == "worker lost")
        return ended or part.evaluation_id == self.job.parts[-1]


class Listener:
    """Receives events of running jobs. This one ignores them."""

    def progress(self, worker: str, job: Job, fraction: float) -> None:
        """fraction: of the training, from 0 (the job was handed out) to 1 (it is being evaluated)."""

    def epoch(self, job: Job, row: dict[str, float]) -> bool:
        """row: of the learning curve of a watched job. False stops the training, whose failure is then "stopped"."""
        return True


class Executor(Protocol):
    options: JobOptions

    @property
    def capacity(self) -> int:
        """The number of jobs that can run at once now."""

    def describe(self) -> str:
        """For messages: "cpu with 2 workers"."""

    def run(self, jobs: Iterable[Job | None], listener: Listener, *, alone: bool = False) -> Iterator[Outcome]:
        """The parts of all jobs, each as soon as it is computed. alone: one job at a time.

        jobs: taken one by one when a worker is free. None means no job now; the executor asks again after each outcome,
        since an outcome may bring a job. The iteration ends when nothing runs and there is no job. Closing it earlier
        stops the workers.
        """


class Stopped(Exception):
    """The listener ended the training."""


def parts_of(parts: Sequence[str | None], computed: Iterator[Part]) -> Iterator[Part]:
    """The parts as they are computed. An exception fails the training, or all remaining evaluations, for example if the
    images cannot be read."""
    left = list(parts)
    try:
        for part in computed:
            left.remove(part.evaluation_id)
            yield part
    except Stopped:
        yield Part(None, failure=Failure("stopped", "the training was stopped"))
    except (Exception, SystemExit) as error:
        failure = failure_of(error)
        yield from (Part(evaluation_id, failure=failure) for evaluation_id in (left[:1] if None in left else left))
