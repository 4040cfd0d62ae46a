"""What runs at this moment, in a file of the results' folder, for `ablation status`.

results/running/<name>-<scale>.json    written every few seconds by the process that runs the experiment, which holds
                                       a lock on <name>-<scale>.lock beside it for as long as it lives
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import platform
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablation.files import remove, write_file
from ablation.results import Files, Results, to_json

if TYPE_CHECKING:  # `ablation status` waits for no torch
    from ablation.engines import Job
    from ablation.progress import Reporter

EVERY = 2.0  # seconds
SILENT = 600.0  # seconds after which a process of another machine, whose locks may not be seen here, is held for dead


def folder_of(results: Results) -> Path:
    return results.root / "running"


class Live:
    """A reporter that keeps the file, and passes on what it hears to another. Nothing fails where it cannot be kept."""

    def __init__(self, to: Reporter, results: Results, name: str):
        self.to, self.path = to, folder_of(results) / f"{name}.json"
        self.written = time.time()
        self.clock, self.bad = to.clock, 0
        self.running: dict[str, dict[str, Any]] = {}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.lock = open(self.path.with_suffix(".lock"), "w")  # noqa: SIM115 (held until this is closed)
        with contextlib.suppress(OSError):  # of a file system without locks
            fcntl.flock(self.lock, fcntl.LOCK_SH)
        self.writing, self.closed = threading.Lock(), threading.Event()
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

    def again(self, job: Job, trace: str) -> None:
        self.running.pop(job.training_id, None)
        self.to.again(job, trace)
        self._write()

    def finished(self, job: Job, seconds: float, files: Files) -> None:
        self.running.pop(job.training_id, None)
        self.to.finished(job, seconds, files)
        self._write_at_times()

    def failed(self, job: Job, seconds: float, trace: str, path) -> None:
        self.bad += 1
        self.running.pop(job.training_id, None)
        self.to.failed(job, seconds, trace, path)
        self._write_at_times()

    def _write_at_times(self) -> None:
        if time.time() - self.written >= EVERY:
            self._write()

    def _keep_fresh(self) -> None:
        """While nothing is heard, as of long evaluations."""
        while not self.closed.wait(60):
            self._write()

    def close(self) -> None:
        self.closed.set()
        self.to.close()
        with self.writing:  # a file that is just written
            remove(self.path)
        self.lock.close()

    def _write(self) -> None:
        self.written = time.time()
        document = {
            "host": platform.node(), "process": os.getpid(), "updated": self.written,
            "jobs": self.clock.jobs, "done": self.clock.done, "failed": self.bad, "left": self.clock.left(),
            "running": list(dict(self.running).values()),
        }  # fmt: skip
        with contextlib.suppress(OSError), self.writing:  # a full disk: the results will say so
            if not self.closed.is_set():
                write_file(self.path, to_json(document), flush=False)


def running(results: Results) -> dict[str, dict[str, Any]]:
    """By the name of the experiment (or shard): the document, with "alive", whether its process still is."""
    found = {}
    for path in sorted(folder_of(results).glob("*.json")):
        try:
            document = json.loads(path.read_bytes())
        except (OSError, ValueError):  # it has just ended
            continue
        recent = document["host"] != platform.node() and time.time() - document["updated"] < SILENT
        found[path.stem] = document | {"alive": recent or _held(path.with_suffix(".lock"))}
    return found


def _held(lock: Path) -> bool:
    try:
        with open(lock) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
