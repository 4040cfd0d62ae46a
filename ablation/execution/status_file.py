"""A file in the results folder on the running jobs, for `ablation status`.

results/running/<name>-<scale>.json    written every few seconds by the process that runs the experiment; it holds a
                                       lock on <name>-<scale>.lock beside it until it ends
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import platform
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablation.execution.documents import RUNNING, Refused, read, sealed
from ablation.execution.store import Files, Results, json_files
from ablation.system.failures import Failure
from ablation.system.files import no_folder, open_file, open_lock, remove, write_file
from ablation.system.terminal import printable

if TYPE_CHECKING:  # so that `ablation status` does not import torch
    from ablation.execution.console import Failed, Reporter
    from ablation.execution.executor import Job

EVERY = 2.0  # seconds
SILENT = 600.0  # seconds without a write after which a process of another machine (invisible locks) is presumed dead


def folder_of(results: Results) -> Path:
    return results.root / "running"


class StatusFile:
    """A reporter that writes the file and forwards all events to another. Write errors are ignored."""

    def __init__(self, to: Reporter, results: Results, name: str):
        self.to, self.path = to, folder_of(results) / f"{name}.json"
        self.written = time.time()
        self.clock, self.bad = to.clock, 0
        self.running: dict[str, dict[str, Any]] = {}
        self.writing, self.closed = threading.Lock(), threading.Event()
        self.lock = None  # held until this is closed
        try:
            if wrong := no_folder(self.path.parent):
                raise OSError(wrong)
            self.lock = open_lock(self.path.with_suffix(".lock"))
        except OSError as error:
            self.closed.set()
            print(f"ablation: `ablation status` will not show this run: {printable(error)}", file=sys.stderr)
            return
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(self.lock, fcntl.LOCK_SH)
        self._write()
        threading.Thread(target=self._keep_fresh, daemon=True).start()

    def progress(self, worker: str, job: Job, fraction: float) -> None:
        optimization = job.work.training.optimization
        epochs = optimization.epochs if job.weights is None and job.work.training.method.trains else 0
        since = self.running.get(job.training_id, {}).get("since", time.time())
        self.running[job.training_id] = {
            "training": job.training_id, "name": job.name, "worker": worker, "since": since, "fraction": fraction,
            "epochs": epochs,
        }  # fmt: skip
        self.to.progress(worker, job, fraction)
        self._write_at_times()

    def epoch(self, job: Job, row: dict[str, float]) -> bool:
        return self.to.epoch(job, row)

    def again(self, job: Job, failure: Failure) -> None:
        self.running.pop(job.training_id, None)
        self.to.again(job, failure)
        self._write()

    def ended(self, job: Job, seconds: float, documents: Files, failed: Sequence[Failed]) -> None:
        self.bad += bool(failed)
        self.running.pop(job.training_id, None)
        self.to.ended(job, seconds, documents, failed)
        self._write_at_times()

    def _write_at_times(self) -> None:
        if time.time() - self.written >= EVERY:
            self._write()

    def _keep_fresh(self) -> None:
        """Writes the file also without events, as during long evaluations."""
        while not self.closed.wait(60):
            self._write()

    def close(self) -> None:
        self.closed.set()
        self.to.close()
        if self.lock:
            with self.writing, contextlib.suppress(OSError):  # not while it is being written
                remove(self.path)
            self.lock.close()

    def _write(self) -> None:
        self.written = time.time()
        document = {
            "host": platform.node(), "process": os.getpid(), "updated": self.written,
            "jobs": self.clock.jobs, "done": self.clock.done, "failed": self.bad, "left": self.clock.left(),
            "running": list(dict(self.running).values()),
        }  # fmt: skip
        with contextlib.suppress(OSError, ValueError), self.writing:  # a full disk: writing results will report it
            if not self.closed.is_set():
                write_file(self.path, sealed(document, RUNNING), flush=False)


def running(results: Results) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """The documents by the name of the experiment (or shard), with "alive", whether its process still runs; and a
    sentence for each unreadable file."""
    documents: dict[str, dict[str, Any]] = {}
    paths, complaints = json_files(folder_of(results))
    for path in paths:
        try:
            document = read(path, RUNNING)
        except FileNotFoundError:  # the experiment has just ended
            continue
        except Refused as error:
            complaints.append(f"{error}; remove it")
            continue
        recent = document["host"] != platform.node() and time.time() - document["updated"] < SILENT
        documents[path.stem] = document | {"alive": recent or _held(path.with_suffix(".lock"))}
    return documents, complaints


def _held(lock: Path) -> bool:
    try:
        with open(open_file(lock), "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
