"""What a person sees while a grid runs: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from ablation.documents import printable
from ablation.failures import Failure

if TYPE_CHECKING:  # `ablation status` waits for no torch
    from ablation.engines import Job
    from ablation.results import Files


@dataclass(frozen=True)
class Failed:
    """label: of the evaluation, None for the training; path: where it is recorded."""

    label: str | None
    failure: Failure
    path: Path


class Reporter(Protocol):
    """documents: of the evaluations that are written, by path; failed: what is not."""

    clock: Clock

    def progress(self, worker: str, job: Job, fraction: float) -> None: ...
    def again(self, job: Job, failure: Failure) -> None: ...
    def ended(self, job: Job, seconds: float, documents: Files, failed: Sequence[Failed]) -> None: ...
    def close(self) -> None: ...


def reporter(jobs: int) -> Reporter:
    return Bars(jobs) if sys.stderr.isatty() else Lines(jobs)


SEEN = 0.02  # of a run, before anything is said of its end


class Clock:
    """The time left. A run that is continued from a checkpoint counts with what is computed now."""

    def __init__(self, jobs: int):
        self.jobs, self.done = jobs, 0
        self.work = 0.0  # of the runs that have ended, in runs
        self.running: dict[str, float] = {}  # the finished fraction of those under way, as it was heard last
        self.first: dict[str, tuple[float, float]] = {}  # when their training began, and with what fraction
        self.start = time.monotonic()

    def progress(self, job: Job, fraction: float) -> None:
        if job.training_id in self.running:  # what is heard first is that it was handed out
            if not (self.first or self.done):
                self.start = time.monotonic()  # workers start once, and not for every run
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
        """Seconds; None while nothing can be said. Until a run has ended, without starts and evaluations."""
        if self.done == self.jobs:
            return 0.0
        running, first = dict(self.running), dict(self.first)  # which other threads change
        if self.work > 0:
            now = sum(running.get(name, fraction) - fraction for name, (_, fraction) in first.items())
            rate = (self.work + now) / (time.monotonic() - self.start)
        else:
            seen = [found for found in (_rate(running.get(name), since) for name, since in first.items()) if found]
            rate = len(running) * sum(seen) / max(1, len(seen))  # those not seen yet will be as fast
        todo = self.jobs - self.done - sum(running.values())
        return todo / rate if rate > 0 and todo > 0 else None

    def left_of(self, job: Job) -> float | None:
        """Seconds of its training."""
        rate = _rate(self.running[job.training_id], self.first.get(job.training_id))
        return (1 - self.running[job.training_id]) / rate if rate else None


def _rate(fraction: float | None, first: tuple[float, float] | None) -> float | None:
    """Runs a second, of one under way; None where too little of it was seen."""
    if fraction is None or first is None or fraction - first[1] < SEEN:
        return None
    return (fraction - first[1]) / max(1e-9, time.monotonic() - first[0])


def time_left(seconds: float | None) -> str:
    return "time left unknown" if seconds is None else f"{duration(seconds)} left"


def many(number: int, noun: str) -> str:
    """ "1 run", "2 runs"."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


def duration(seconds: float) -> str:
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"


def hours(seconds: float) -> str:
    """ "12.34", and of less than an hour "0.0123"."""
    return f"{seconds / 3600:.{2 if seconds >= 3600 else 4}f}"


def accuracies(job: Job, documents: Files) -> str:
    """ "knn 47.1, linear_z 60.3": test top-1 with recalibrated statistics, as the figures show, and what was noted."""
    found, notes = [], []
    for content in documents.values():
        document = json.loads(content)
        value = document["metrics"].get("test_top1_recalibrated")
        if value is not None:
            found.append(f"{job.label(document['id'])} {value:.1f}")
        notes += document["notes"]
    return ", ".join(found) + (f" ({'; '.join(notes)})" if notes else "")


def said_at_the_end(job: Job, seconds: float, documents: Files, failed: Sequence[Failed]) -> str:
    """ "cell=3: knn 47.1; linear_z FAILED (memory): ... (see PATH); 12 s"."""
    parts = [accuracies(job, documents)] if documents else []
    for each in failed:
        what = f"{each.label} " if each.label else ""
        parts.append(f"{what}FAILED ({each.failure.kind}): {shortened(str(each.failure))} (see {each.path})")
    return printable(f"{job.name}: {'; '.join([*parts, duration(seconds)])}")


def said_again(job: Job, failure: Failure) -> str:
    return printable(f"{job.name}: {shortened(str(failure))}; it is tried once more, alone, when the others have ended")


def shortened(message: str) -> str:
    """In one line."""
    line = " ".join(message.split())
    return line if len(line) <= 500 else f"{line[:500]} ..."


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

    def _line(self, text: str) -> None:
        self.silent = False
        left = f"; {time_left(self.clock.left())}" if self.clock.done < self.clock.jobs else ""
        print(f"[{self.clock.done}/{self.clock.jobs}] {text}{left}", file=sys.stderr, flush=True)

    def again(self, job: Job, failure: Failure) -> None:
        self.clock.given_up(job)
        print(said_again(job, failure), file=sys.stderr, flush=True)

    def ended(self, job: Job, seconds: float, documents: Files, failed: Sequence[Failed]) -> None:
        self.clock.ended(job, failed=any(each.label is None for each in failed))
        self._line(said_at_the_end(job, seconds, documents, failed))

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
        self.whole = self.bars.add_task(many(jobs, "run"), total=jobs, note="")
        self.workers: dict[str, int] = {}
        self.bars.start()

    def progress(self, worker: str, job: Job, fraction: float) -> None:
        if worker not in self.workers:
            self.workers[worker] = self.bars.add_task("", total=1.0, note="")
        self.clock.progress(job, fraction)
        left = self.clock.left_of(job)
        note = "evaluating" if fraction >= 1 else "" if left is None else time_left(left)
        self.bars.update(
            self.workers[worker], description=f"  {escape(printable(job.name))}", completed=fraction, note=note
        )
        self._refresh()

    def _refresh(self) -> None:
        note = f"{self.clock.done} done, {time_left(self.clock.left())}"
        done = self.clock.done + sum(self.clock.running.values())
        self.bars.update(self.whole, completed=min(done, self.clock.jobs), note=note)

    def _one_done(self, text: str) -> None:
        self.bars.console.print(text, highlight=False, markup=False)
        self._refresh()

    def again(self, job: Job, failure: Failure) -> None:
        self.clock.given_up(job)
        self.bars.console.print(said_again(job, failure), highlight=False, markup=False)

    def ended(self, job: Job, seconds: float, documents: Files, failed: Sequence[Failed]) -> None:
        self.clock.ended(job, failed=any(each.label is None for each in failed))
        self._one_done(said_at_the_end(job, seconds, documents, failed))

    def close(self) -> None:
        self.bars.stop()
