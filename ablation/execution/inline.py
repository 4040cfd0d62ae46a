"""Jobs in this process, one after the other."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ablation.execution.executor import Job, JobOptions, Listener, Outcome, Stopped, parts_of
from ablation.execution.worker import compute_job, configure_worker


@dataclass(frozen=True)
class InlineExecutor:
    """Uses one thread, so that the numbers equal those of a worker."""

    options: JobOptions
    capacity: int = 1

    def describe(self) -> str:
        return f"{self.options.device} with 1 worker"

    def run(self, jobs: Iterable[Job | None], listener: Listener, *, alone: bool = False) -> Iterator[Outcome]:
        import torch

        threads = torch.get_num_threads()
        configure_worker(self.options.device)
        try:
            for job in jobs:
                if job is None:  # nothing is running that could bring another job
                    return
                yield from self._run(job, listener)
        finally:
            torch.set_num_threads(threads)

    def _run(self, job: Job, listener: Listener) -> Iterator[Outcome]:
        start, who = time.perf_counter(), f"process {os.getpid()} on {self.options.device}"

        def on_epoch(row: dict[str, float]) -> None:
            if job.watched and not listener.epoch(job, row):
                raise Stopped

        listener.progress(who, job, 0.0)
        computed = compute_job(job, self.options, lambda fraction: listener.progress(who, job, fraction), on_epoch)
        for part in parts_of(job.parts, computed):
            yield Outcome(job, time.perf_counter() - start, part)
