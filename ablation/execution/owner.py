"""The process that owns a results folder: it hands jobs to an executor and writes the parts that come back."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import chain

from ablation.execution.console import Failed, Reporter
from ablation.execution.executor import Executor, Job, JobOptions, Outcome
from ablation.execution.store import Files, Results
from ablation.system.failures import Failure
from ablation.training.checkpoint import forget


def execute(jobs: Iterable[Job | None], results: Results, executor: Executor, reporter: Reporter) -> int:
    """Computes the jobs and writes each part as it comes; returns the number of jobs with a failed part.

    A job that ran out of memory or lost its process is retried once, alone, when no other job is left. jobs: as for
    `Executor.run`; jobs that a retry brings are computed after it.
    """
    jobs = iter(jobs)
    under_way: dict[str, _UnderWay] = {}
    again: list[Job] = []
    failed = 0
    while again or (first := next(jobs, None)) is not None:
        alone = bool(again)
        todo, again = (again, []) if alone else (chain([first], jobs), [])
        with closing(executor.run(todo, reporter, alone=alone)) as outcomes:
            for outcome in outcomes:
                job = outcome.job
                run = under_way.setdefault(job.training_id, _UnderWay(job, results, executor.options))
                run.take(outcome)
                if not outcome.last:
                    continue
                if left := run.left(job):
                    again.append(left)
                    reporter.again(left, run.waits[-1])
                else:
                    del under_way[job.training_id]
                    failed += bool(run.failed)
                    reporter.ended(job, outcome.seconds, run.documents, run.failed)
    return failed


@dataclass
class _UnderWay:
    """A job between its first part and its last."""

    job: Job
    results: Results
    options: JobOptions
    documents: Files = field(default_factory=dict)  # of the written evaluations
    failed: list[Failed] = field(default_factory=list)
    settled: set[str | None] = field(default_factory=set)  # parts that are written or recorded as failed
    tried: set[str | None] = field(default_factory=set)  # parts with a retry, pending or done
    waits: list[Failure] = field(default_factory=list)  # the failures that caused a retry

    def take(self, outcome: Outcome) -> None:
        """Writes a part, or records its failure unless it will be retried."""
        training_id, part, checkpoints = outcome.job.training_id, outcome.part, self.options.checkpoints
        if part.files is not None:
            self.results.write(training_id, part.files)
            if checkpoints and not self.options.keep:
                forget(checkpoints, training_id, part.evaluation_id)
            self.documents |= {n: c for n, c in part.files.items() if part.evaluation_id and n.endswith(".json")}
        elif part.failure.may_succeed_alone and part.evaluation_id not in self.tried:
            self.tried.add(part.evaluation_id)
            self.waits.append(part.failure)
            return
        else:
            if checkpoints and part.failure.kind in ("diverged", "stopped"):  # a resumed one would end the same way
                forget(checkpoints, training_id, part.evaluation_id)
            self.failed.append(self._recorded(outcome.job, part.evaluation_id, part.failure))
        self.settled.add(part.evaluation_id)

    def _recorded(self, job: Job, evaluation_id: str | None, failure: Failure) -> Failed:
        label = job.label(evaluation_id) if evaluation_id else None
        if failure.kind == "stopped":
            return Failed(label, failure, None)
        path = self.results.write_failure(job.training_id, failure, job.name, evaluation_id, label)
        return Failed(label, failure, path)

    def left(self, job: Job) -> Job | None:
        """The rest of a job that the executor has ended, or None."""
        if any(failed.label is None for failed in self.failed):
            return None  # no evaluation without its training
        parts = [part for part in self.job.parts if part not in self.settled]
        if not parts or None in parts:
            return job if parts else None
        weights = job.weights
        if weights is None:
            document, _ = self.results.training(job.training_id)
            weights = document and self.results.weights(job.training_id, document)
        return replace(job, evaluation_ids=tuple(parts), weights=weights)
