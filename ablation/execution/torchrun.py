"""One job after the other, each by all processes of torchrun: process 0 is the owner, the others follow."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ablation.execution.executor import Job, JobOptions, Listener, Outcome, Part, parts_of
from ablation.execution.worker import compute_job, configure_worker, work_for
from ablation.spec import AblationError, WorkerError
from ablation.study.experiment_file import Source
from ablation.system import distributed


class OutOfStep(WorkerError):
    """One process failed while the others wait for it."""


@dataclass(frozen=True)
class TorchrunExecutor:
    """The executor of the owner, which evaluates alone. Watched jobs are not stopped, since the other processes would
    wait for ever."""

    options: JobOptions
    capacity: int = 1

    def describe(self) -> str:
        return f"{distributed.count()} processes together"

    def run(self, jobs: Iterable[Job | None], listener: Listener, *, alone: bool = False) -> Iterator[Outcome]:
        configure_worker(self.options.device)
        for job in jobs:
            if job is None:
                return
            start = time.perf_counter()
            listener.progress(self.describe(), job, 0.0)
            for part in parts_of(job.parts, self._compute(job, listener)):
                yield Outcome(job, time.perf_counter() - start, part)
                if part.evaluation_id is None and part.failure and not part.failure.everywhere:
                    raise OutOfStep(
                        f"one of the processes that train {job.name} together failed: {part.failure}. The same command "
                        "continues; torchrun's --max-restarts repeats it for you."
                    )

    def _compute(self, job: Job, listener: Listener) -> Iterator[Part]:
        if job.weights is None:
            distributed.broadcast(job.order())
        yield from compute_job(job, self.options, lambda fraction: listener.progress(self.describe(), job, fraction))


def follow(source: Source, options: JobOptions) -> None:
    """The loop of the other processes: takes part in each training until the owner dismisses them."""
    from ablation.data import loaded
    from ablation.training.loop import pretrain

    configure_worker(options.device)
    while (order := distributed.broadcast(None)) is not None:
        training = work_for(source, order).training
        # The owner has the same error, or `in_step` gives it this one's; it reports them.
        with contextlib.suppress(FloatingPointError, AblationError, distributed.AnotherFailed):
            with distributed.in_step():
                data = loaded(training.dataset, options.device)
            pretrain(training, data)


def dismiss() -> None:
    """Ends the loop of the other processes."""
    distributed.broadcast(None)
