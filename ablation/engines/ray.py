"""Runs on a Ray cluster: a task per run, each part of its results sent back to the owner as it is there; no folder need
be shared.

Every node has the suite installed and reaches the images (a Hub name, or the same path). A task is handed the
experiment file's bytes, the scale and an id, builds the run itself and checks that the id agrees.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

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
from ablation.failures import Failure, failure_of
from ablation.loading import Source
from ablation.progress import many
from ablation.results import WEIGHTS
from ablation.specs import InvalidSpec

RETRIES = 3  # of a task whose node or process is lost, on whatever node, before it is tried alone
LOST = 120.0  # seconds after which a part that was announced is taken for lost
AHEAD = 2  # tasks that are handed to Ray for each that can run, so that none waits for the owner


@ray.remote(num_cpus=0)
class Board:
    """What the tasks have to say of their progress, until the owner asks."""

    def __init__(self):
        self.said: list[tuple[str, str, float]] = []

    def say(self, training_id: str, who: str, fraction: float) -> None:
        self.said.append((training_id, who, fraction))

    def take(self) -> list[tuple[str, str, float]]:
        said, self.said = self.said, []
        return said


def _compute(
    source: Source,
    training_id: str,
    evaluation_ids: tuple[str, ...],
    weights: dict[str, bytes] | None,
    setup: Setup,
    board,
) -> Iterator[Part]:
    who = f"process {os.getpid()} on node {ray.util.get_node_ip_address()}"
    gpus = ",".join(map(str, ray.get_runtime_context().get_accelerator_ids().get("GPU", [])))
    who += f", GPU {gpus}" * bool(gpus)
    settle_in(setup.device)
    board.say.remote(training_id, who, 0.0)
    send = every_half_second(lambda fraction: board.say.remote(training_id, who, fraction))

    def computed() -> Iterator[Part]:
        yield from compute_missing(work_named(source, training_id), evaluation_ids, weights, setup, send)

    yield from parts_of(in_order(evaluation_ids, trained=weights is not None), computed())


# A process keeps what it has of a GPU until it ends, and Ray may give its next task another one.
_on_cpu = ray.remote(_compute)
_on_gpu = ray.remote(max_calls=1)(_compute)


def connect(address: str, gpus: float | None) -> tuple[str, float]:
    """The device of a task and its share of GPUs, on the cluster at `address` ("auto": the one that this machine is
    part of; "local": one of this machine alone, which nobody else can use). Raises InvalidSpec."""
    alone = {"include_dashboard": False, "_node_ip_address": "127.0.0.1"}
    _reach(address)
    try:
        ray.init(**(alone if address == "local" else {"address": address}), logging_level="error")
    except (ConnectionError, ValueError, RuntimeError, RayError) as error:
        reason = str(error).strip().splitlines()[0].rstrip(".")
        raise InvalidSpec(
            f"--ray must be the address of a cluster that runs, but {address!r} is none: {reason}. Start one with "
            "`ray start --head`, or try --ray local."
        ) from error
    has = ray.cluster_resources().get("GPU", 0)
    share = (1.0 if has else 0.0) if gpus is None else gpus
    if not 0 <= share <= min(1, has):
        raise InvalidSpec(
            f"--gpus-per-run must be a share of one of the cluster's {has:g} GPUs, from 0 to 1, but got {gpus:g}. "
            "Without it each has one; for one run on several GPUs see torchrun."
        )
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # Ray has put its own there
    return ("cuda" if share else "cpu"), share


def _reach(address: str) -> None:
    """Ray itself waits for minutes, and takes 127.0.0.1 for this machine's address in its network."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or "://" in address:  # "auto", "local", or another of Ray's
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        raise InvalidSpec(
            f"--ray must be the address of a cluster that runs, but {address!r} does not answer: {error}. Start one "
            "with `ray start --head`, or try --ray local."
        ) from error
    if host in ("127.0.0.1", "localhost"):
        raise InvalidSpec(
            f"--ray must not be {host}, which Ray replaces by this machine's address in its network. For a cluster "
            "that only this machine reaches, use `ray start --head --node-ip-address=127.0.0.2` and name that."
        )


def capacity(share: float) -> int:
    """How many tasks the cluster can run at this moment."""
    has = ray.cluster_resources()
    return max(1, int(has.get("GPU", 0) / share if share else has.get("CPU", 0)))


def on_ray(
    jobs: Sequence[Job], on_progress: OnProgress, at_once: int, setup: Setup, source: Source, share: float
) -> Iterator[Outcome]:
    """A task per job; at most `at_once` of them together, and no more than the cluster has room for.

    A task whose process or node is lost is run again, elsewhere if need be, for what it has not handed over.
    """
    board = Board.options(
        scheduling_strategy=NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    ).remote()
    machines = sum(node["Alive"] and node["Resources"].get("CPU", 0) > 0 for node in ray.nodes())
    together = max(1, min(at_once, len(jobs), capacity(share)))
    setup = replace(setup, share=share or min(1.0, machines / together))
    shipped = ray.put(source)
    # Ray's own tries would begin with the training again, which the owner has; so they are made here. Alone at the end,
    # a run that lacks memory is not tried for ever.
    task = (_on_gpu if share else _on_cpu).options(num_cpus=1, num_gpus=share, max_retries=0)
    retries = RETRIES if at_once > 1 else 0
    waiting, under_way = deque(_Task(job) for job in jobs), {}
    since: dict[str, float] = {}
    by_id = {job.training_id: job for job in jobs}
    try:
        while waiting or under_way:
            room = min(at_once, AHEAD * capacity(share))
            while waiting and len(under_way) < room:
                tried = waiting.popleft()
                job = tried.job
                try:
                    weights = tried.weights or read_weights(job.weights)
                except InvalidSpec as error:
                    failure = failure_of(error)
                    yield from (Outcome(job, 0.0, Part(each, failure=failure)) for each in job.evaluation_ids)
                    continue
                wanted = tuple(each for each in job.parts[tried.given :] if each)
                parts = task.remote(shipped, job.training_id, wanted, weights, setup, board)
                under_way[parts] = tried
            ready, _ = ray.wait(list(under_way), num_returns=1, timeout=1.0) if under_way else ([], [])
            for training_id, who, fraction in ray.get(board.take.remote()):
                since.setdefault(training_id, time.perf_counter())
                if any(each.job.training_id == training_id for each in under_way.values()):
                    on_progress(who, by_id[training_id], fraction)
            for parts in ready:
                tried = under_way.pop(parts)
                job = tried.job
                seconds = time.perf_counter() - since.get(job.training_id, time.perf_counter())
                part = _next(parts)
                if isinstance(part, Failure):  # of the task itself, which has ended
                    if part.kind == "worker lost" and tried.times < retries:
                        waiting.appendleft(replace(tried, times=tried.times + 1))
                        continue
                    left = job.parts[tried.given :]
                    left = left[:1] if part.kind == "worker lost" or None in left else left
                    yield from (Outcome(job, seconds, Part(each, failure=part)) for each in left)
                    continue
                outcome = Outcome(job, seconds, part)
                if not outcome.last:
                    trained = part.evaluation_id is None
                    weights = {name: part.files[name] for name in WEIGHTS} if trained else tried.weights
                    under_way[parts] = replace(tried, given=tried.given + 1, weights=weights)
                yield outcome
    finally:
        for parts in under_way:
            ray.cancel(parts, force=True)
        ray.kill(board)


@dataclass(frozen=True)
class _Task:
    """given: parts of the job that were handed over, in `times` tries before this one; weights: of the training, if it
    was among them."""

    job: Job
    times: int = 0
    given: int = 0
    weights: dict[str, bytes] | None = None


def _next(parts: ray.ObjectRefGenerator) -> Part | Failure:
    """What a task hands over, or why it cannot."""
    try:
        # What a task handed over may be lost with its process, and Ray does not always notice: not waited for for ever.
        return ray.get(next(parts), timeout=LOST)
    except RayTaskError as error:  # outside of what the run itself raises: such as another version of the suite there
        return Failure("error", str(error).strip().splitlines()[-1], None, str(error))
    except RayError as error:
        return Failure("worker lost", f"{type(error).__name__}: {str(error).strip().splitlines()[0]}")


def engine_on_ray(address: str, gpus: float | None, setup: Setup, source: Source) -> tuple[partial, Setup, str, int]:
    """The engine, its setup, words for people, and how many tasks the cluster can run at this moment."""
    device, share = connect(address, gpus)
    nodes = sum(node["Alive"] for node in ray.nodes())
    room = capacity(share)
    setup = replace(setup, device=device)
    where = (
        f"a Ray cluster of {many(nodes, 'node')} with room for {many(room, 'run')}"
        + f", {share:g} GPU each" * bool(share)
    )
    return partial(on_ray, setup=setup, source=source, share=share), setup, where, room
