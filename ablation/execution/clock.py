"""The time left of a run."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ablation.execution.executor import Job


SEEN = 0.02  # fraction of a run to observe before its end is estimated


class Clock:
    """Estimates the time left. For a resumed run only the remaining part counts."""

    def __init__(self, jobs: int):
        self.jobs, self.done = jobs, 0
        self.work = 0.0  # work of the ended runs, in runs
        self.running: dict[str, float] = {}  # the last reported fraction of each running run
        self.first: dict[str, tuple[float, float]] = {}  # time and fraction at the beginning of their training
        self.start = time.monotonic()

    def progress(self, job: Job, fraction: float) -> None:
        if job.training_id in self.running:  # the first message only says that the job was handed out
            if not (self.first or self.done):
                self.start = time.monotonic()  # excludes the start of the workers, which happens once
            self.first.setdefault(job.training_id, (time.monotonic(), fraction))
        self.running[job.training_id] = fraction

    def given_up(self, job: Job) -> None:
        self.running.pop(job.training_id, None)
        self.first.pop(job.training_id, None)

    def ended(self, job: Job, *, failed: bool = False) -> None:
        self.done += 1
        _, first = self.first.get(job.training_id, (0.0, 0.0))
        self.work += self.running.get(job.training_id, 0.0) - first if failed else 1 - first
        self.given_up(job)

    def left(self) -> float | None:
        """Seconds, None while unknown. Before the first run has ended, starts and evaluations are not included."""
        if self.done == self.jobs:
            return 0.0
        running, first = dict(self.running), dict(self.first)  # copies, since other threads change them
        if self.work > 0:
            now = sum(running.get(name, fraction) - fraction for name, (_, fraction) in first.items())
            rate = (self.work + now) / (time.monotonic() - self.start)
        else:
            rates = [rate for rate in (_rate(running.get(name), since) for name, since in first.items()) if rate]
            rate = len(running) * sum(rates) / max(1, len(rates))  # assumes the same rate for the other runs
        todo = self.jobs - self.done - sum(running.values())
        return todo / rate if rate > 0 and todo > 0 else None

    def left_of(self, job: Job) -> float | None:
        """Seconds left of its training."""
        rate = _rate(self.running[job.training_id], self.first.get(job.training_id))
        return (1 - self.running[job.training_id]) / rate if rate else None


def _rate(fraction: float | None, first: tuple[float, float] | None) -> float | None:
    """Runs per second of a running run; None if too little of it was observed."""
    if fraction is None or first is None or fraction - first[1] < SEEN:
        return None
    return (fraction - first[1]) / max(1e-9, time.monotonic() - first[0])
