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


class _Clock:
    """Time left, from the work done so far; a running job counts with its fraction."""

    def __init__(self, jobs: int):
        self.jobs, self.done = jobs, 0
        self.running: dict[str, float] = {}
        self.start = time.monotonic()

    def one_done(self, job: Job) -> None:
        self.done += 1
        self.running.pop(job.training_id, None)

    def left(self) -> str:
        share = (self.done + sum(self.running.values())) / max(1, self.jobs)
        elapsed = time.monotonic() - self.start
        if share <= 0 or elapsed < 2:
            return "time left unknown"
        return f"{duration(elapsed / share - elapsed)} left"


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
        self.clock = _Clock(jobs)
        self.silent = True

    def progress(self, worker: str, job: Job, fraction: float) -> None:
        self.clock.running[job.training_id] = fraction
        if self.silent and fraction >= 0.1:  # the first run may take long; say early that it is under way
            self.silent = False
            print(f"[0/{self.clock.jobs}] under way; {self.clock.left()}", file=sys.stderr, flush=True)

    def _line(self, job: Job, text: str) -> None:
        self.clock.one_done(job)
        print(f"[{self.clock.done}/{self.clock.jobs}] {text}; {self.clock.left()}", file=sys.stderr, flush=True)

    def again(self, job: Job, trace: str) -> None:
        self.clock.running.pop(job.training_id, None)
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
        self.clock = _Clock(jobs)
        self.bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[note]}"),
            console=Console(stderr=True),
        )
        self.whole = self.bars.add_task(f"{jobs} runs", total=jobs, note="")
        self.workers: dict[str, int] = {}
        self.since: dict[str, float] = {}
        self.bars.start()

    def progress(self, worker: str, job: Job, fraction: float) -> None:
        if worker not in self.workers:
            self.workers[worker] = self.bars.add_task("", total=1.0, note="")
        now = time.monotonic()
        since = self.since.setdefault(job.training_id, now)
        note = f"{duration((now - since) * (1 / fraction - 1))} left" if fraction > 0.02 else ""
        note = "evaluating" if fraction >= 1 else note
        self.bars.update(self.workers[worker], description=f"  {job.name}", completed=fraction, note=note)
        self.clock.running[job.training_id] = fraction
        self._refresh()

    def _refresh(self) -> None:
        note = f"{self.clock.done} done, {self.clock.left()}"
        done = self.clock.done + sum(self.clock.running.values())
        self.bars.update(self.whole, completed=min(done, self.clock.jobs), note=note)

    def _one_done(self, job: Job, text: str) -> None:
        self.clock.one_done(job)
        self.bars.console.print(text, highlight=False, markup=False)
        self._refresh()

    def again(self, job: Job, trace: str) -> None:
        self.clock.running.pop(job.training_id, None)
        self.bars.console.print(said_again(job, trace), highlight=False, markup=False)

    def finished(self, job: Job, seconds: float, files: Files) -> None:
        self._one_done(job, f"{job.name}: {accuracies(files)}; {duration(seconds)}")

    def failed(self, job: Job, seconds: float, trace: str, path) -> None:
        self._one_done(job, f"{job.name}: FAILED, {trace.strip().splitlines()[-1]} (see {path})")

    def close(self) -> None:
        self.bars.stop()
