"""Progress on the terminal: bars, or plain lines if the output is a file."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from ablation.execution.clock import Clock
from ablation.execution.executor import Job, Listener
from ablation.spec import Metric
from ablation.spec.metric import TUNED
from ablation.system.failures import Failure
from ablation.system.terminal import duration, many, printable, time_left

if TYPE_CHECKING:
    from ablation.execution.store import Files


# The columns of an evaluation's result; it has one of them.
RESULTS = [Metric(split="test", quantity="top1", statistics=each).name for each in ("recalibrated", TUNED)]


@dataclass(frozen=True)
class Failed:
    """label: of the evaluation, None for the training; path: of its record, None if it was stopped."""

    label: str | None
    failure: Failure
    path: Path | None


class Reporter(Protocol):
    """Receives events of jobs: those of an executor's `Listener`, retries, and ends."""

    clock: Clock

    def progress(self, worker: str, job: Job, fraction: float) -> None: ...
    def epoch(self, job: Job, row: dict[str, float]) -> bool: ...

    def again(self, job: Job, failure: Failure) -> None:
        """The job will be retried."""

    def ended(self, job: Job, seconds: float, documents: Files, failed: Sequence[Failed]) -> None:
        """documents: of the written evaluations, by path; failed: the failed parts."""

    def close(self) -> None: ...


def reporter(jobs: int) -> Reporter:
    return BarConsole(jobs) if sys.stderr.isatty() else LineConsole(jobs)


def accuracies_of(job: Job, documents: Files) -> str:
    """ "knn 47.1, fine_tune 60.3": test top-1 with recalibrated statistics or tuned, as in the figures, and notes."""
    texts, notes = [], []
    for content in documents.values():
        document = json.loads(content)
        values = [document["metrics"].get(name) for name in RESULTS]
        texts += [f"{job.label(document['id'])} {value:.1f}" for value in values if value is not None]
        notes += document["notes"]
    return " ".join(filter(None, [", ".join(texts), f"({'; '.join(notes)})" if notes else ""]))


def end_of(job: Job, seconds: float, documents: Files, failed: Sequence[Failed]) -> str:
    """ "cell=3: knn 47.1; linear_z FAILED (memory): ... (see PATH); 12 s"."""
    parts = [accuracies] if (accuracies := accuracies_of(job, documents)) else []
    for each in failed:
        name = f"{each.label} " if each.label else ""
        parts.append(f"{name}FAILED ({each.failure.kind}): {shortened(str(each.failure))} (see {each.path})")
    return printable(f"{job.name}: {'; '.join([*parts, duration(seconds)])}")


def retry_of(job: Job, failure: Failure) -> str:
    return printable(f"{job.name}: {shortened(str(failure))}; it will be retried alone at the end")


def shortened(message: str) -> str:
    """The message in one line of at most 500 characters."""
    line = " ".join(message.split())
    return line if len(line) <= 500 else f"{line[:500]} ..."


class LineConsole(Listener):
    """One line per finished run."""

    def __init__(self, jobs: int):
        self.clock = Clock(jobs)
        self.silent = True

    def progress(self, worker: str, job: Job, fraction: float) -> None:
        self.clock.progress(job, fraction)
        left = self.clock.left() if self.silent else None
        if left is not None:  # the first run may take long, so print early that it is under way
            self.silent = False
            print(f"[0/{self.clock.jobs}] under way; {time_left(left)}", file=sys.stderr, flush=True)

    def _line(self, text: str) -> None:
        self.silent = False
        left = f"; {time_left(self.clock.left())}" if self.clock.done < self.clock.jobs else ""
        print(f"[{self.clock.done}/{self.clock.jobs}] {text}{left}", file=sys.stderr, flush=True)

    def again(self, job: Job, failure: Failure) -> None:
        self.clock.given_up(job)
        print(retry_of(job, failure), file=sys.stderr, flush=True)

    def ended(self, job: Job, seconds: float, documents: Files, failed: Sequence[Failed]) -> None:
        self.clock.ended(job, failed=any(each.label is None for each in failed))
        self._line(end_of(job, seconds, documents, failed))

    def close(self) -> None:
        pass


class BarConsole(Listener):
    """A bar for all runs and one for the current run of each worker."""

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
        self.bars.console.print(retry_of(job, failure), highlight=False, markup=False)

    def ended(self, job: Job, seconds: float, documents: Files, failed: Sequence[Failed]) -> None:
        self.clock.ended(job, failed=any(each.label is None for each in failed))
        self._one_done(end_of(job, seconds, documents, failed))

    def close(self) -> None:
        self.bars.stop()
