"""Jobs in worker processes: one thread each on a CPU, one or several on each GPU."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait

from ablation.execution.executor import Job, JobOptions, Listener, Outcome, Part, Stopped, parts_of
from ablation.execution.worker import compute_job, configure_worker, throttle, work_for
from ablation.spec import WorkerError
from ablation.study.experiment_file import Source
from ablation.system.failures import Failure
from ablation.system.terminal import many

DEATHS = 20  # lost workers in a row after which the grid stops, since something kills them all


@dataclass(frozen=True)
class PoolExecutor:
    """Worker processes with one job at a time; worker i uses devices[i % len(devices)].

    A worker that dies fails its job and is replaced. Closing the iteration stops the workers; a worker whose owner is
    gone stops by itself.
    """

    options: JobOptions
    source: Source
    devices: Sequence[str]
    capacity: int

    def describe(self) -> str:
        slow_start = ", compiled (the first steps take a minute or two)" if self.options.compiled else ""
        return f"{', '.join(self.devices)} with {many(self.capacity, 'worker')}{slow_start}"

    def run(self, jobs: Iterable[Job | None], listener: Listener, *, alone: bool = False) -> Iterator[Outcome]:
        waiting = iter(jobs)
        workers: list[_Worker] = []
        count = 1 if alone else self.capacity
        deaths = 0  # in a row

        def hand_out() -> None:
            """Gives a job to every idle worker; starts workers on demand."""
            while True:
                idle = next((worker for worker in workers if worker.job is None), None)
                if idle is None and len(workers) == count:
                    return
                job = next(waiting, None)
                if job is None:
                    return
                if idle is None:
                    free = min(set(range(count)) - {worker.number for worker in workers})
                    workers.append(idle := self._start(free))
                idle.take(job, listener)

        try:
            while True:
                hand_out()
                busy = {worker.connection: worker for worker in workers if worker.job}
                if not busy:
                    return
                for connection in wait(list(busy)):
                    worker = busy[connection]
                    outcome = worker.hear(listener)
                    if outcome is None:
                        continue
                    if worker.lost:
                        workers.remove(worker)
                        deaths += 1
                        if deaths >= DEATHS:
                            raise WorkerError(
                                f"{deaths} workers died in a row and finished nothing; stopping. The last one: "
                                f"{outcome.part.failure}. Find the cause, often a lack of memory (try fewer "
                                "--workers); the same command continues."
                            )
                    else:
                        deaths = 0
                    hand_out()  # before the owner writes, so that no worker waits for the disk
                    yield outcome
        finally:
            _stop(workers)

    def _start(self, number: int) -> _Worker:
        device = self.devices[number % len(self.devices)]
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        options = replace(self.options, device=device.partition(":")[0])  # it sees no other GPU
        process = context.Process(target=_work, args=(theirs, self.source, options), daemon=True)
        with environment_of_a_worker(device):
            process.start()
        theirs.close()
        return _Worker(number, device, process, ours)


@dataclass
class _Worker:
    """The owner's end of a worker process."""

    number: int
    device: str
    process: multiprocessing.process.BaseProcess
    connection: Connection
    job: Job | None = None
    given: int = 0  # finished parts of the job
    since: float = field(default_factory=time.perf_counter)
    lost: bool = False

    @property
    def name(self) -> str:
        return f"process {self.process.pid} on {self.device}"

    def take(self, job: Job, listener: Listener) -> None:
        self.job, self.given, self.since = job, 0, time.perf_counter()
        listener.progress(self.name, job, 0.0)
        self._send(job.order())

    def hear(self, listener: Listener) -> Outcome | None:
        """Receives its next message, or notices its end. Returns the outcome of a part, if it is one."""
        job, seconds = self.job, time.perf_counter() - self.since
        try:
            kind, content = self.connection.recv()
        except (EOFError, OSError):
            self.process.join()
            self.lost, self.job = True, None
            reason = Failure("worker lost", exit_reason(self.process.exitcode))
            return Outcome(job, seconds, Part(job.parts[self.given], failure=reason))
        if kind == "progress":
            listener.progress(self.name, job, content)
            return None
        if kind == "epoch":
            self._send(listener.epoch(job, content))
            return None
        self.given += 1
        outcome = Outcome(job, seconds, content)
        if outcome.last:
            self.job = None
        return outcome

    def _send(self, message: object) -> None:
        with contextlib.suppress(OSError):  # it died; `hear` will find the connection closed
            self.connection.send(message)


def exit_reason(exitcode: int | None) -> str:
    """The cause of a worker process's end."""
    if exitcode is not None and exitcode < 0:
        name = signal.Signals(-exitcode).name
        hint = " (often the system's answer to a lack of memory)" if name == "SIGKILL" else ""
        return f"the worker process was ended by {name}{hint}"
    return f"the worker process ended with exit code {exitcode}; its messages are above"


def _stop(workers: list[_Worker]) -> None:
    for worker in workers:
        worker.connection.close()
        if worker.job:  # an idle one sees the closed connection and ends cleanly
            worker.process.terminate()
    for worker in workers:
        worker.process.join(timeout=3)
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()


@contextmanager
def environment_of_a_worker(device: str) -> Iterator[None]:
    """The environment of a worker before it loads its libraries: thread counts, its only visible GPU, and Ctrl-C
    ignored, since the owner handles it."""
    if threading.current_thread() is not threading.main_thread():
        with _variables_of_a_worker(device):
            yield
        return
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)  # inherited
    try:
        with _variables_of_a_worker(device):
            yield
    finally:
        signal.signal(signal.SIGINT, handler)


@contextmanager
def _variables_of_a_worker(device: str) -> Iterator[None]:
    kind, _, number = device.partition(":")
    if kind == "cpu":
        changed = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    elif kind == "cuda" and number:
        changed = {"CUDA_VISIBLE_DEVICES": visible_as(int(number), os.environ.get("CUDA_VISIBLE_DEVICES"))}
    else:
        changed = {}
    before = {name: os.environ.get(name) for name in changed}
    os.environ.update(changed)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})


def visible_as(number: int, visible: str | None) -> str:
    """The CUDA_VISIBLE_DEVICES that shows a worker only this process's device `number`. visible: its value here
    (numbers, or names such as GPU-8932f937)."""
    return visible.split(",")[number].strip() if visible else str(number)


class _OwnerGone(BaseException):
    """The owner has ended. Not a ConnectionError, which the code of a run may raise."""


def _work(connection: Connection, source: Source, options: JobOptions) -> None:
    """A worker process: builds each job from the owner's bytes and computes it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the owner handles Ctrl-C

    def send(kind: str, content: object) -> None:
        try:
            connection.send((kind, content))
        except OSError as error:
            raise _OwnerGone from error

    def compute(order: Job) -> Iterator[Part]:
        job = replace(order, work=work_for(source, order))

        def on_epoch(row: dict[str, float]) -> None:
            if job.watched:
                send("epoch", row)
                if not answer():
                    raise Stopped

        yield from compute_job(job, options, throttle(lambda fraction: send("progress", fraction)), on_epoch)

    def answer() -> object:
        try:
            return connection.recv()
        except (EOFError, OSError) as error:
            raise _OwnerGone from error

    configure_worker(options.device)
    with contextlib.suppress(_OwnerGone):
        while True:
            order = answer()
            for part in parts_of(order.parts, compute(order)):
                send("part", part)
