"""What a person sees while a grid runs: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import json
import sys
import time
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from ablation.engines import Job
from ablation.results import Files


class Reporter(Protocol):
    def progress(self, worker: str, job: Job, fraction: float) -> None: ...
    def again(self, job: Job, trace: str) -> None: ...
    def finished(self, job: Job, seconds: float, files: Files) -> None: ...
    def failed(self, job: Job, seconds: float, trace: str, path) -> None: ...
    def close(self) -> None: ...


def reporter(jobs: int) -> Reporter:
    return Bars(jobs) if sys.stderr.isatty() else Lines(jobs)


SEEN = 0.02  # of a run, before anything is said of its end


class Clock:
    """The time left. A run that is continued from a checkpoint counts with what is computed now."""

    def __init__(self, jobs: int):
        self.jobs, self.done, self.work = jobs, 0, 0.0  # work: in runs
        self.first: dict[str, tuple[float, float]] = {}  # of a run under way, when its steps began, with what fraction
        self.running: dict[str, float] = {}
        self.start = time.monotonic()

    def progress(self, job: Job, fraction: float) -> None:
        if fraction > 0:
            self.first.setdefault(job.training_id, (time.monotonic(), fraction))
        self.running[job.training_id] = fraction

    def given_up(self, job: Job) -> None:
        self.running.pop(job.training_id, None)
        self.first.pop(job.training_id, None)

    def one_done(self, job: Job) -> None:
        self.done += 1
        self.work += 1 - self.first.get(job.training_id, (0.0, 0.0))[1]
        self.given_up(job)

    def left(self) -> float | None:
        """Seconds; None while nothing can be said. Until a run has ended, without starts and evaluations."""
        running, first = dict(self.running), dict(self.first)  # which other threads may change
        if self.done:
            now = sum(running.get(name, fraction) - fraction for name, (_, fraction) in first.items())
            rate = (self.work + now) / max(1e-9, time.monotonic() - self.start)
        else:
            rate = sum(map(self._rate, running))
        todo = self.jobs - self.done - sum(running.values())
        return max(0.0, todo / rate) if rate > 0 else None

    def left_of(self, job: Job) -> float | None:
        """Seconds of its training."""
        rate = self._rate(job.training_id)
        return (1 - self.running[job.training_id]) / rate if rate > 0 else None

    def _rate(self, training_id: str) -> float:
        """Runs a second."""
        if training_id not in self.first:
            return 0.0
        since, first = self.first[training_id]
        done, seconds = self.running[training_id] - first, time.monotonic() - since
        return done / seconds if done >= SEEN and seconds > 0 else 0.0


def time_left(seconds: float | None) -> str:
    return "time left unknown" if seconds is None else f"{duration(seconds)} left"


def duration(seconds: float) -> str:
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"


def accuracies(files: Files) -> str:
    """ "knn 47.1, linear 60.3": test top-1 with recalibrated statistics, as the figures show, and what was noted."""
    found, notes = [], []
    for name in sorted(files):
        if name.startswith("evaluations/") and name.endswith(".json"):
            document = json.loads(files[name])
            value = document["metrics"].get("test_top1_recalibrated")
            if value is not None:
                found.append(f"{document['evaluation']['type'].lower()} {value:.1f}")
            notes += document["notes"]
    return ", ".join(found) + (f" ({'; '.join(notes)})" if notes else "")


def said_again(job: Job, trace: str) -> str:
    return f"{job.name}: {trace.strip().splitlines()[-1]}; it is tried once more, alone, when the others have ended"


class Lines:
    """One line per finished run."""

    def __init__(self, jobs: int):
        self.clock = Clock(jobs)
        self.silent = True

    def progress(self, worker: str, job: Job, fraction: float) -> None:
        self.clock.progress(job, fraction)
        left = self.clock.left() if self.silent else None
        if left is not None:  # the first run may take long; say early that it is under way
            self.silent = False
            print(f"[0/{self.clock.jobs}] under way; {time_left(left)}", file=sys.stderr, flush=True)

    def _line(self, job: Job, text: str) -> None:
        self.clock.one_done(job)
        self.silent = False
        left = time_left(self.clock.left())
        print(f"[{self.clock.done}/{self.clock.jobs}] {text}; {left}", file=sys.stderr, flush=True)

    def again(self, job: Job, trace: str) -> None:
        self.clock.given_up(job)
        print(said_again(job, trace), file=sys.stderr, flush=True)

    def finished(self, job: Job, seconds: float, files: Files) -> None:
        self._line(job, f"{job.name}: {accuracies(files)}; {duration(seconds)}")

    def failed(self, job: Job, seconds: float, trace: str, path) -> None:
        self._line(job, f"{job.name}: FAILED, {trace.strip().splitlines()[-1]} (see {path})")

    def close(self) -> None:
        pass


class Bars:
    """A bar for the whole and one for the run under way in each worker."""

    def __init__(self, jobs: int):
        self.clock = Clock(jobs)
        self.bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[note]}"),
            console=Console(stderr=True),
        )
        self.whole = self.bars.add_task(f"{jobs} runs", total=jobs, note="")
        self.workers: dict[str, int] = {}
        self.bars.start()

    def progress(self, worker: str, job: Job, fraction: float) -> None:
        if worker not in self.workers:
            self.workers[worker] = self.bars.add_task("", total=1.0, note="")
        self.clock.progress(job, fraction)
        left = self.clock.left_of(job)
        note = "evaluating" if fraction >= 1 else "" if left is None else time_left(left)
        self.bars.update(self.workers[worker], description=f"  {job.name}", completed=fraction, note=note)
        self._refresh()

    def _refresh(self) -> None:
        note = f"{self.clock.done} done, {time_left(self.clock.left())}"
        done = self.clock.done + sum(self.clock.running.values())
        self.bars.update(self.whole, completed=min(done, self.clock.jobs), note=note)

    def _one_done(self, job: Job, text: str) -> None:
        self.clock.one_done(job)
        self.bars.console.print(text, highlight=False, markup=False)
        self._refresh()

    def again(self, job: Job, trace: str) -> None:
        self.clock.given_up(job)
        self.bars.console.print(said_again(job, trace), highlight=False, markup=False)

    def finished(self, job: Job, seconds: float, files: Files) -> None:
        self._one_done(job, f"{job.name}: {accuracies(files)}; {duration(seconds)}")

    def failed(self, job: Job, seconds: float, trace: str, path) -> None:
        self._one_done(job, f"{job.name}: FAILED, {trace.strip().splitlines()[-1]} (see {path})")

    def close(self) -> None:
        self.bars.stop()
