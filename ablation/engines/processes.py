"""Runs in worker processes: one thread each on a CPU, one or several on each GPU."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait

from ablation.engines.base import (
    Job,
    OnProgress,
    Outcome,
    Part,
    Setup,
    compute_missing,
    every_half_second,
    in_order,
    parts_of,
    read_weights,
    settle_in,
    work_named,
)
from ablation.failures import Failure
from ablation.loading import Source
from ablation.specs import InvalidSpec

DEATHS = 20  # of workers in a row, after which a grid stops: something ends them all


@dataclass
class _Worker:
    number: int
    device: str
    process: multiprocessing.process.BaseProcess
    connection: Connection
    job: Job | None = None
    given: int = 0  # parts of the job that it has handed over
    since: float = field(default_factory=time.perf_counter)

    @property
    def name(self) -> str:
        return f"process {self.process.pid} on {self.device}"


def in_workers(
    jobs: Sequence[Job], on_progress: OnProgress, at_once: int, setup: Setup, source: Source, devices: Sequence[str]
) -> Iterator[Outcome]:
    """Each worker is a process of its own, handed one job at a time; worker i is on devices[i % len(devices)].

    A worker that dies takes its job with it, and is replaced. When the iteration is left, for whatever reason, the
    workers are stopped; a worker whose owner is gone stops by itself.
    """
    context = multiprocessing.get_context("spawn")
    waiting = list(reversed(jobs))
    crew: list[_Worker] = []
    deaths, count = 0, min(at_once, len(jobs))

    def start(number: int) -> _Worker:
        device = devices[number % len(devices)]
        ours, theirs = context.Pipe()
        own = setup_of_a_worker(setup, number, count, devices)
        process = context.Process(target=_work, args=(theirs, source, own), daemon=True)
        with environment_of_a_worker(device):
            process.start()
        theirs.close()
        return _Worker(number, device, process, ours)

    def hand_out(worker: _Worker) -> None:
        worker.job = waiting.pop() if waiting else None
        if worker.job is not None:
            worker.since, worker.given = time.perf_counter(), 0
            on_progress(worker.name, worker.job, 0.0)
            with contextlib.suppress(OSError):  # it died while idle; its closed connection is seen below
                worker.connection.send((worker.job.training_id, worker.job.evaluation_ids, worker.job.weights))

    try:
        crew.extend(map(start, range(count)))
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
                    said = obituary(worker.process.exitcode)
                    lost = Part(worker.job.parts[worker.given], failure=Failure("worker lost", said))
                    outcome = Outcome(worker.job, seconds, lost)
                    deaths += 1
                    if deaths >= DEATHS:
                        raise InvalidSpec(
                            f"the workers must live, but {deaths} died one after the other and nothing was finished: "
                            f"{said}. Look for what ends them; the same command continues."
                        ) from None
                    crew[crew.index(worker)] = worker = start(worker.number)
                    hand_out(worker)
                    yield outcome
                    continue
                if kind == "progress":
                    on_progress(worker.name, worker.job, content)
                    continue
                outcome, deaths = Outcome(worker.job, seconds, content), 0
                worker.given += 1
                if outcome.last:
                    hand_out(worker)
                yield outcome
    finally:
        _stop(crew)


def setup_of_a_worker(setup: Setup, number: int, count: int, devices: Sequence[str]) -> Setup:
    """Of worker `number` of `count`: its device is the only GPU that it sees, which others may share."""
    taken = [devices[each % len(devices)] for each in range(count)]
    device = taken[number]
    return replace(setup, device=device.partition(":")[0], share=1 / taken.count(device))


def obituary(exitcode: int | None) -> str:
    """Of a worker process: a line that says what ended it."""
    if exitcode is not None and exitcode < 0:
        name = signal.Signals(-exitcode).name
        hint = " (often the system's answer to a lack of memory)" if name == "SIGKILL" else ""
        return f"the worker process was ended by {name}{hint}"
    return f"the worker process ended with exit code {exitcode}; its messages are above"


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
    """What must be set before a worker loads its libraries: thread counts, the only GPU that it sees, and that Ctrl-C
    is its owner's to handle."""
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
    """What CUDA_VISIBLE_DEVICES must be for this process's device `number` to be the only one, where it is `visible`
    here (numbers or names such as GPU-8932f937)."""
    return visible.split(",")[number].strip() if visible else str(number)


class _OwnerGone(BaseException):
    """Nobody listens. No failure of a run, whose own code may raise a ConnectionError."""


def _work(connection: Connection, source: Source, setup: Setup) -> None:
    """A worker: builds the experiment from the owner's bytes, then computes what it is handed by id."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the owner's to handle

    def send(kind: str, content: object) -> None:
        try:
            connection.send((kind, content))
        except OSError as error:
            raise _OwnerGone from error

    def computed(training_id: str, evaluation_ids: tuple[str, ...], stored: dict | None) -> Iterator[Part]:
        weights = read_weights(stored)
        work = work_named(source, training_id)
        progress = every_half_second(lambda fraction: send("progress", fraction))
        yield from compute_missing(work, evaluation_ids, weights, setup, progress)

    settle_in(setup.device)
    with contextlib.suppress(_OwnerGone, EOFError, OSError):  # the owner is gone
        while True:
            training_id, evaluation_ids, stored = connection.recv()
            parts = in_order(evaluation_ids, trained=stored is not None)
            for part in parts_of(parts, computed(training_id, evaluation_ids, stored)):
                send("part", part)
