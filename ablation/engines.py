"""Where runs are computed: in this process, or in worker processes.

An engine is given jobs and yields what became of each, as they finish. Only its caller writes results.
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path

from ablation.loading import Source
from ablation.results import Files
from ablation.specs import Run, Training, identity


@dataclass(frozen=True)
class Work:
    """A training, and the evaluations of all cells that share it. Unlike a run's they may have one label."""

    training: Training
    evaluations: tuple

    def and_of(self, run: Run) -> Work:
        """With the evaluations of another cell."""
        return Work(self.training, tuple(dict.fromkeys(self.evaluations + run.evaluations)))


@dataclass(frozen=True)
class Job:
    """A training that is missing (`weights` None), or the files of its weights, with missing evaluations."""

    training_id: str
    evaluation_ids: tuple[str, ...]
    name: str
    work: Work
    weights: dict[str, Path] | None = None

    def read_weights(self) -> dict[str, bytes] | None:
        return {name: path.read_bytes() for name, path in self.weights.items()} if self.weights else None


@dataclass(frozen=True)
class Outcome:
    """files, or the traceback of what went wrong."""

    job: Job
    seconds: float
    files: Files | None = None
    trace: str | None = None


OnProgress = Callable[[int, Job, float], None]  # worker, job, finished fraction


def in_this_process(
    jobs: Sequence[Job], device: str, on_progress: OnProgress, compiled: bool = False
) -> Iterator[Outcome]:
    """One run after the other. On a CPU with one thread, so that the numbers are those of a worker."""
    import torch

    threads = torch.get_num_threads()
    if device == "cpu":
        torch.set_num_threads(1)
        keep_freed_memory()
    try:
        for job in jobs:
            start = time.perf_counter()
            on_progress(0, job, 0.0)
            try:
                files = compute_missing(
                    job.work,
                    job.evaluation_ids,
                    job.read_weights(),
                    device,
                    compiled,
                    lambda fraction, job=job: on_progress(0, job, fraction),
                )
                outcome = Outcome(job, time.perf_counter() - start, files=files)
            except Exception:
                outcome = Outcome(job, time.perf_counter() - start, trace=traceback.format_exc())
            yield outcome
    finally:
        torch.set_num_threads(threads)


def settle_in(device: str) -> None:
    """What a worker process does before its first run."""
    import torch

    if device == "cpu":
        torch.set_num_threads(1)
        keep_freed_memory()


def keep_freed_memory() -> None:
    """Lets glibc's malloc reuse the memory of freed tensors instead of giving it back to the system.

    Every step allocates the same tensors. By default those of a megabyte and more come from the system as
    fresh pages, and the page faults cost more than many an operator computes (`python -m benchmarks step`).
    Elsewhere than with glibc nothing is done.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        largest_from_the_heap = 32 * 2**20  # the most that glibc accepts
        mallopt(-3, largest_from_the_heap)  # M_MMAP_THRESHOLD
        mallopt(-1, 2**30)  # M_TRIM_THRESHOLD
        mallopt(-2, 64 * 2**20)  # M_TOP_PAD


def compute_missing(
    work: Work,
    evaluation_ids: Sequence[str],
    weights: dict[str, bytes] | None,
    device: str,
    compiled: bool,
    progress: Callable[[float], None],
    on_epoch: Callable[[dict[str, float]], None] = lambda row: None,
) -> Files:
    """The files of a run that are not there: its training unless `weights` are given, and these evaluations."""
    from ablation.compute import compute

    wanted = {identity(evaluation): evaluation for evaluation in work.evaluations}
    return compute(work.training, [wanted[e] for e in evaluation_ids], weights, device, compiled, progress, on_epoch)


# --------------------------------------------------------------------------------------------------
# Worker processes


@dataclass
class _Worker:
    number: int
    process: multiprocessing.process.BaseProcess
    connection: Connection
    job: Job | None = None
    since: float = field(default_factory=time.perf_counter)


def in_workers(
    jobs: Sequence[Job], source: Source, device: str, workers: int, on_progress: OnProgress, compiled: bool = False
) -> Iterator[Outcome]:
    """Each worker is a process of its own (one thread on a CPU), handed one job at a time.

    A worker that dies takes its job with it, as a failure, and is replaced. When the iteration is left,
    for whatever reason, the workers are stopped; a worker whose owner is gone stops by itself.
    """
    context = multiprocessing.get_context("spawn")
    waiting = list(reversed(jobs))
    crew: list[_Worker] = []

    def start(number: int) -> _Worker:
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs, source, device, compiled), daemon=True)
        with environment_of_a_worker(device):
            process.start()
        theirs.close()
        return _Worker(number, process, ours)

    def hand_out(worker: _Worker) -> None:
        worker.job = waiting.pop() if waiting else None
        if worker.job is not None:
            worker.since = time.perf_counter()
            on_progress(worker.number, worker.job, 0.0)
            with contextlib.suppress(OSError):  # it died while idle; its closed connection is seen below
                worker.connection.send((worker.job.training_id, worker.job.evaluation_ids, worker.job.read_weights()))

    try:
        crew.extend(start(number) for number in range(min(workers, len(jobs))))
        for worker in crew:
            hand_out(worker)
        while any(worker.job for worker in crew):
            ready = wait([worker.connection for worker in crew if worker.job])
            for worker in [w for w in crew if w.connection in ready]:
                seconds = time.perf_counter() - worker.since
                try:
                    kind, content = worker.connection.recv()
                except (EOFError, OSError):
                    worker.process.join()
                    outcome = Outcome(worker.job, seconds, trace=obituary(worker.process.exitcode))
                    crew[crew.index(worker)] = worker = start(worker.number)
                    hand_out(worker)
                    yield outcome
                    continue
                if kind == "progress":
                    on_progress(worker.number, worker.job, content)
                    continue
                job = worker.job
                hand_out(worker)
                yield Outcome(job, seconds, **{kind: content})
    finally:
        _stop(crew)


def obituary(exitcode: int | None) -> str:
    """Of a worker process: a line that says what ended it."""
    if exitcode is not None and exitcode < 0:
        name = signal.Signals(-exitcode).name
        hint = " (often the system's answer to a lack of memory)" if name == "SIGKILL" else ""
        return f"the worker process was ended by {name}{hint}\n"
    return f"the worker process ended with exit code {exitcode}; its messages are above\n"


def _stop(crew: list[_Worker]) -> None:
    for worker in crew:
        worker.connection.close()
        if worker.job:  # an idle one sees the closed connection and ends in good order
            worker.process.terminate()
    for worker in crew:
        worker.process.join(timeout=3)
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()


@contextmanager
def environment_of_a_worker(device: str) -> Iterator[None]:
    """What must be set before a worker loads its libraries: thread counts, and that Ctrl-C is its owner's to handle."""
    if threading.current_thread() is not threading.main_thread():
        with _threads_of_a_worker(device):
            yield
        return
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)  # inherited
    try:
        with _threads_of_a_worker(device):
            yield
    finally:
        signal.signal(signal.SIGINT, handler)


@contextmanager
def _threads_of_a_worker(device: str) -> Iterator[None]:
    if device != "cpu":
        yield
        return
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})


def _work(connection: Connection, source: Source, device: str, compiled: bool) -> None:
    """A worker: builds the experiment from the owner's bytes, then computes what it is handed by id."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the owner's to handle
    try:
        settle_in(device)
        work: dict[str, Work] | None = None
        while True:
            training_id, evaluation_ids, weights = connection.recv()
            try:
                work = work or _work_of(source)
                if training_id not in work:
                    raise RuntimeError(
                        f"the worker does not find the training {training_id} in {source.path}: the experiment gives "
                        "other runs there than here. It must not depend on time, environment or random numbers."
                    )
                send = every_half_second(lambda fraction: connection.send(("progress", fraction)))
                files = compute_missing(work[training_id], evaluation_ids, weights, device, compiled, send)
                message = ("files", files)
            except (BrokenPipeError, ConnectionError):
                raise
            except Exception:
                message = ("trace", traceback.format_exc())
            connection.send(message)
    except (EOFError, BrokenPipeError, ConnectionError):
        pass  # the owner is gone


def _work_of(source: Source) -> dict[str, Work]:
    """By training id; cells that agree in training share it, with all their evaluations."""
    found: dict[str, Work] = {}
    for cell in source.cells():
        training_id = identity(cell.run.training)
        found[training_id] = found.get(training_id, Work(cell.run.training, ())).and_of(cell.run)
    return found


def every_half_second(send: Callable[[float], None]) -> Callable[[float], None]:
    """Passes on a finished fraction, at most twice a second."""
    last = 0.0

    def sparse(fraction: float) -> None:
        nonlocal last
        now = time.perf_counter()
        if now - last > 0.5:
            last = now
            send(fraction)

    return sparse
