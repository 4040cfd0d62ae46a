"""One run after the other, each by all processes that torchrun started: process 0 is the owner, the others follow."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

from ablation import distributed
from ablation.engines.base import Job, OnProgress, Outcome, Part, Setup, compute_job, parts_of, settle_in, work_named
from ablation.loading import Source
from ablation.specs import InvalidSpec


class OutOfStep(InvalidSpec):
    """One process failed where the others wait for it."""


def all_together(jobs: Sequence[Job], on_progress: OnProgress, at_once: int, setup: Setup) -> Iterator[Outcome]:
    """Of the owner. A run whose weights lie there is evaluated by the owner alone; `at_once` is 1."""
    settle_in(setup.device)
    setup = replace(setup, share=distributed.devices(setup.device))
    who = f"{distributed.count()} processes together"
    for job in jobs:
        start = time.perf_counter()
        on_progress(who, job, 0.0)
        for part in parts_of(job.parts, _computed(job, setup, on_progress, who)):
            yield Outcome(job, time.perf_counter() - start, part)
            if part.evaluation_id is None and part.failure and not part.failure.everywhere:
                raise OutOfStep(
                    f"the processes must train {job.name} together, but one failed: {part.failure}. The same command "
                    "continues; with torchrun's --max-restarts it is typed again for you."
                )


def _computed(job: Job, setup: Setup, on_progress: OnProgress, who: str) -> Iterator[Part]:
    if job.weights is None:
        distributed.tell(job.training_id)
    yield from compute_job(job, setup, lambda fraction: on_progress(who, job, fraction))


def follow(source: Source, setup: Setup) -> None:
    """Of the others: takes part in each training until the owner says that there is none left."""
    from ablation.datasets import loaded
    from ablation.pretrain import pretrain

    settle_in(setup.device)
    while (training_id := distributed.tell(None)) is not None:
        training = work_named(source, training_id).training
        with contextlib.suppress(FloatingPointError, InvalidSpec):  # the owner has the same, and says so
            pretrain(training, loaded(training.dataset, setup.device))


def dismiss() -> None:
    """Tells the others that there is nothing left."""
    distributed.tell(None)
