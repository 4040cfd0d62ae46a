"""Jobs on a Ray cluster: one task per job, which sends each part of its results to the owner; no shared folder needed.

Every node has the suite installed and can read the images (a Hub name, or the same path). A task gets the bytes of the
experiment file, the scale and an id, builds the run itself and checks that the id agrees.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ablation.execution.executor import Job, JobOptions, Listener, Outcome, Part, parts_of
from ablation.execution.store import WEIGHTS
from ablation.execution.worker import compute_job, configure_worker, read_weights, throttle, work_for
from ablation.spec import AblationError, InvalidSpec, WorkerError
from ablation.study.experiment_file import Source
from ablation.system.failures import Failure, failure_of
from ablation.system.terminal import many

RETRIES = 3  # of a task with a lost node or process, on any node, before it is retried alone
LOST = 120.0  # seconds after which an announced part is presumed lost
AHEAD = 2  # submitted tasks per runnable task, so that no node waits for the owner


@ray.remote(num_cpus=0)
class Board:
    """Holds the progress messages of tasks until the owner takes them."""

    def __init__(self):
        self.messages: list[tuple[str, str, object]] = []

    def post(self, training_id: str, kind: str, content: object) -> None:
        self.messages.append((training_id, kind, content))

    def take(self) -> list[tuple[str, str, object]]:
        messages, self.messages = self.messages, []
        return messages


def _compute(source: Source, order: Job, options: JobOptions, board) -> Iterator[Part]:
    who = f"process {os.getpid()} on node {ray.util.get_node_ip_address()}"
    gpus = ",".join(map(str, ray.get_runtime_context().get_accelerator_ids().get("GPU", [])))
    who += f", GPU {gpus}" if gpus else ""
    configure_worker(options.device)

    def post(kind: str, content: object) -> None:
        board.post.remote(order.training_id, kind, content)

    def on_epoch(row: dict[str, float]) -> None:
        if order.watched:
            post("epoch", row)

    def computed() -> Iterator[Part]:
        job = replace(order, work=work_for(source, order))
        yield from compute_job(job, options, throttle(lambda fraction: post("progress", (who, fraction))), on_epoch)

    post("progress", (who, 0.0))
    yield from parts_of(order.parts, computed())


# A process holds its CUDA context until exit, and Ray may give its next task another GPU.
_on_cpu = ray.remote(_compute)
_on_gpu = ray.remote(max_calls=1)(_compute)


def connect(address: str, gpus: float | None) -> tuple[str, float]:
    """Connects to the cluster at `address` ("auto": that of this machine; "local": a private one on this machine).
    Returns a task's device and its share of a GPU. Raises InvalidSpec for a wrong share, WorkerError if there is no
    cluster."""
    alone = {"include_dashboard": False, "_node_ip_address": "127.0.0.1"}
    _reach(address)
    try:
        ray.init(**(alone if address == "local" else {"address": address}), logging_level="error")
    except (ConnectionError, ValueError, RuntimeError, RayError) as error:
        reason = str(error).strip().splitlines()[0].rstrip(".")
        raise WorkerError(
            f"--ray must be the address of a running cluster, but {address!r} is not one: {reason}. Start one with "
            "`ray start --head`, or try --ray local."
        ) from error
    has = ray.cluster_resources().get("GPU", 0)
    share = (1.0 if has else 0.0) if gpus is None else gpus
    if not 0 <= share <= min(1, has):
        raise InvalidSpec(
            f"--gpus-per-run must be a share of one of the cluster's {has:g} GPUs, from 0 to 1, but got {gpus:g}. "
            "Without it each run has one GPU; for one run on several GPUs see torchrun."
        )
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # Ray installed its own handler
    return ("cuda" if share else "cpu"), share


def _reach(address: str) -> None:
    """Raises WorkerError if a cluster does not answer: Ray itself waits for minutes. InvalidSpec: 127.0.0.1, which Ray
    replaces by this machine's network address."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or "://" in address:  # "auto", "local", or another of Ray's
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        raise WorkerError(
            f"--ray must be the address of a running cluster, but {address!r} does not answer: {error}. Start one "
            "with `ray start --head`, or try --ray local."
        ) from error
    if host in ("127.0.0.1", "localhost"):
        raise InvalidSpec(
            f"--ray must not be {host}, which Ray replaces by this machine's network address. For a cluster that only "
            "this machine can reach, use `ray start --head --node-ip-address=127.0.0.2` and name that address."
        )


@dataclass(frozen=True)
class _Task:
    """given: finished parts of the job; times: tries before this one; weights: of the training, if it is among the
    finished parts."""

    job: Job
    times: int = 0
    given: int = 0
    weights: dict[str, bytes] | None = None

    def order(self) -> Job:
        """The order for the rest of the job. Raises DataError if the weights were changed."""
        wanted = tuple(part for part in self.job.parts[self.given :] if part)
        weights = self.weights or read_weights(self.job.weights)
        return replace(self.job.order(), evaluation_ids=wanted, weights=weights)

    def after(self, part: Part) -> _Task:
        trained = part.evaluation_id is None
        weights = {name: part.files[name] for name in WEIGHTS} if trained else self.weights
        return replace(self, given=self.given + 1, weights=weights)

    def failed(self, failure: Failure) -> list[Part]:
        """The parts that fail together with the task."""
        left = self.job.parts[self.given :]
        only_next = failure.kind == "worker lost" or None in left
        return [Part(each, failure=failure) for each in (left[:1] if only_next else left)]


class RayExecutor:
    """Tasks on a cluster, each with one CPU and a share of a GPU, if there are GPUs. Connects on creation.

    A task with a lost process or node runs again for its missing parts, elsewhere if necessary. most: jobs at once,
    None for the capacity of the cluster.
    """

    def __init__(self, options: JobOptions, source: Source, address: str, gpus: float | None, most: int | None):
        device, self.share = connect(address, gpus)
        self.options, self.source, self.most = replace(options, device=device), source, most

    @property
    def capacity(self) -> int:
        return min(self.room(), self.most or self.room())

    def room(self) -> int:
        """The number of tasks that the cluster can run now; nodes may join and leave."""
        has = ray.cluster_resources()
        return max(1, int(has.get("GPU", 0) / self.share if self.share else has.get("CPU", 0)))

    def describe(self) -> str:
        nodes = sum(node["Alive"] for node in ray.nodes())
        share = f", {self.share:g} GPU each" if self.share else ""
        return f"a Ray cluster of {many(nodes, 'node')} with room for {many(self.room(), 'run')}{share}"

    def run(self, jobs: Iterable[Job | None], listener: Listener, *, alone: bool = False) -> Iterator[Outcome]:
        flight = _Flight(self, listener, 0 if alone else RETRIES)
        jobs = iter(jobs)
        try:
            while True:
                most = 1 if alone else min(self.most or AHEAD * self.room(), AHEAD * self.room())
                while len(flight.tasks) < most:
                    task = flight.lost.popleft() if flight.lost else None
                    job = None if task else next(jobs, None)
                    if task is None and job is None:
                        break
                    yield from flight.start(task or _Task(job))
                if not flight.tasks:
                    return
                yield from flight.outcomes()
        finally:
            flight.close()


class _Flight:
    """The running tasks, by the references of their parts."""

    def __init__(self, executor: RayExecutor, listener: Listener, retries: int):
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self.board = Board.options(scheduling_strategy=here).remote()
        # Ray's own retries would repeat finished parts, so this class retries instead.
        remote = _on_gpu if executor.share else _on_cpu
        self.remote = remote.options(num_cpus=1, num_gpus=executor.share, max_retries=0)
        self.source, self.options = ray.put(executor.source), executor.options
        self.listener, self.retries = listener, retries
        self.tasks: dict[ray.ObjectRefGenerator, _Task] = {}
        self.lost: deque[_Task] = deque()  # to run again
        self.since: dict[str, float] = {}

    def start(self, task: _Task) -> Iterator[Outcome]:
        try:
            order = task.order()
        except AblationError as error:
            yield from (Outcome(task.job, 0.0, part) for part in task.failed(failure_of(error)))
            return
        self.tasks[self.remote.remote(self.source, order, self.options, self.board)] = task

    def outcomes(self) -> Iterator[Outcome]:
        """The outcomes since the last call; waits a second at most."""
        ready, _ = ray.wait(list(self.tasks), num_returns=1, timeout=1.0)
        for training_id, kind, content in ray.get(self.board.take.remote()):
            yield from self._hear(training_id, kind, content)
        for parts in ready:
            if parts in self.tasks:
                yield from self._receive(parts)

    def _hear(self, training_id: str, kind: str, content: object) -> Iterator[Outcome]:
        parts = next((each for each, task in self.tasks.items() if task.job.training_id == training_id), None)
        if parts is None:  # the task has ended
            return
        job = self.tasks[parts].job
        self.since.setdefault(training_id, time.perf_counter())
        if kind == "progress":
            self.listener.progress(content[0], job, content[1])
        elif not self.listener.epoch(job, content):
            del self.tasks[parts]
            ray.cancel(parts, force=True)
            yield Outcome(job, self._seconds(job), Part(None, failure=Failure("stopped", "the training was stopped")))

    def _receive(self, parts: ray.ObjectRefGenerator) -> Iterator[Outcome]:
        task = self.tasks.pop(parts)
        seconds, part = self._seconds(task.job), _next(parts)
        if not isinstance(part, Failure):
            outcome = Outcome(task.job, seconds, part)
            if not outcome.last:
                self.tasks[parts] = task.after(part)
            yield outcome
        elif part.kind == "worker lost" and task.times < self.retries:
            self.lost.append(replace(task, times=task.times + 1))
        else:  # the task itself failed
            yield from (Outcome(task.job, seconds, each) for each in task.failed(part))

    def _seconds(self, job: Job) -> float:
        now = time.perf_counter()
        return now - self.since.get(job.training_id, now)

    def close(self) -> None:
        for parts in self.tasks:
            ray.cancel(parts, force=True)
        ray.kill(self.board)


def _next(parts: ray.ObjectRefGenerator) -> Part | Failure:
    """The next part of a task, or the failure of the task."""
    try:
        # A part may be lost with its process, which Ray does not always notice, so wait with a timeout.
        return ray.get(next(parts), timeout=LOST)
    except RayTaskError as error:  # an error outside of the run, such as another version of the suite on the node
        return Failure("error", str(error).strip().splitlines()[-1], None, str(error))
    except RayError as error:
        return Failure("worker lost", f"{type(error).__name__}: {str(error).strip().splitlines()[0]}")
