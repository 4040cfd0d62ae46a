"""What runs will cost, from a short probe of each shape: `ablation run NAME --dry-run`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch

from ablation.contracts import check_contracts, parts_by_a_user
from ablation.datasets import Data, Split, loaded
from ablation.engines import Job, settle_in
from ablation.evaluate import evaluate
from ablation.pretrain import build_learner, take_step, training_views, validation_points
from ablation.progress import duration, hours, many
from ablation.specs import Training

AT_LEAST = 1.0  # seconds that a probe takes steps for, after the first
STEPS = 20  # and how many it takes at the most
CPU_BATCH = 64  # a CPU's time grows with the batch, so a part of a large one is enough
EVALUATED = 1000  # training images that evaluation is probed with; its time grows with their number
REPRESENTATIVES = 3  # of a shape, whose views differ


@dataclass(frozen=True)
class Estimate:
    """seconds of one run after the other; clock: with `at_once` of them; bytes on disk; probes: how many shapes were
    timed."""

    runs: int
    seconds: float
    clock: float
    bytes: int
    at_once: int
    probes: int

    def __add__(self, other: Estimate) -> Estimate:
        """One after the other."""
        return Estimate(
            self.runs + other.runs, self.seconds + other.seconds, self.clock + other.clock, self.bytes + other.bytes,
            max(self.at_once, other.at_once), self.probes + other.probes,
        )  # fmt: skip

    def __str__(self) -> str:
        return (
            f"expected of {many(self.runs, 'run')}, from probes of {many(self.probes, 'kind')} of runs: "
            f"{duration(self.clock)} with {self.at_once} at once, "
            f"{hours(self.seconds)} device-hours, {self.bytes / 2**20:.1f} MiB on disk; without start and figures, "
            "and where nothing else runs"
        )


def check_classes(jobs: Sequence[Job], device: str) -> None:
    """Of a user, each once, as the trainings try them; those of evaluations are tried by the probes."""
    tried: set[tuple] = set()
    for training in (job.work.training for job in jobs):
        new = {(training.dataset, part) for part in parts_by_a_user(training)} - tried
        if new:
            data = loaded(training.dataset, device)
            check_contracts(training, data, partial(build_learner, training, len(data.classes)))
            tried |= new


def estimate(jobs: Sequence[Job], devices: Sequence[str], workers: int) -> Estimate:
    """Runs of one shape (data set, encoder, method, batch, length, precision, evaluations) cost the same but for the
    operators of their views, of which a few are timed. The probes take one device; processes side by side share a
    CPU's memory and are slower by what that costs.
    """
    settle_in(devices[0])
    shapes: dict[tuple, list[Job]] = {}
    for job in jobs:
        training = job.work.training
        optimization = training.optimization
        length = (optimization.epochs, optimization.batch, optimization.curve_every, optimization.with_validation)
        how = (*length, type(optimization.optimizer), optimization.precision)
        key = (training.dataset, training.encoder, training.method, how, job.work.evaluations, not job.weights)
        shapes.setdefault(key, []).append(job)
    seconds, size = 0.0, 0
    for of in shapes.values():
        step = max(1, len(of) // REPRESENTATIVES)
        probed = [_probe(job, devices[0]) for job in of[::step][:REPRESENTATIVES]]
        seconds += len(of) * sum(taken for taken, _ in probed) / len(probed)
        size += len(of) * probed[0][1]
    at_once = max(1, min(workers, len(jobs)))
    return Estimate(len(jobs), seconds, seconds / at_once, size, at_once, len(shapes))


def _probe(job: Job, device: str) -> tuple[float, int]:
    """Seconds and bytes of a run."""
    training = job.work.training
    data = loaded(training.dataset, device)
    learner = build_learner(training, len(data.classes)).to(device, memory_format=torch.channels_last)
    seconds = 0.0
    if job.weights is None and training.method.trains:
        seconds += _training(training, data, learner)
    part, precision = _part(data), training.optimization.precision
    share = len(data.train) / len(part.train)
    wanted = job.work.evaluations
    seconds += share * _timed(lambda: evaluate(wanted, learner.encoder, part, precision, learner.head), device)
    tensors = [*learner.encoder.state_dict().values(), *learner.head.state_dict().values()]
    weights = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    predictions = 2 * 2 * sum(map(len, data.splits().values()))  # of each image two, and its label: compressed int16
    return seconds, weights * (job.weights is None) + predictions * len(job.work.evaluations)


def _training(training: Training, data: Data, learner) -> float:
    """Seconds: of a step times their number, and of the points of the learning curve."""
    optimization = training.optimization
    images, labels = data.train.images, data.train.labels
    count = len(images) + (len(data.validation) if optimization.with_validation else 0)
    steps = optimization.epochs * (count // optimization.batch)
    device = data.device.type
    batch = min(optimization.batch, len(images), CPU_BATCH if device == "cpu" else optimization.batch)
    probed = replace(training, optimization=replace(optimization, batch=batch))
    optimizer = optimization.optimizer.build(learner)
    order = torch.arange(len(images), device=data.device)
    batches = [order.roll(-i * batch)[:batch] for i in range(STEPS + 1)]
    taken, total = 0, 0.0
    made = training_views(images, batches, probed, data, (training.seed, "probe"))
    learner.train()

    def one_step() -> None:
        views = next(made)
        take_step(learner, optimizer, views, labels[batches[taken]], probed)

    _timed(one_step, device)  # the first one prepares memory and kernels
    while taken < STEPS and total < AT_LEAST:
        total += _timed(one_step, device)
        taken += 1
    learner.eval()
    points = math.ceil(optimization.epochs / optimization.curve_every) if optimization.curve_every else 0
    part = _part(data)
    point = _timed(lambda: validation_points(learner.encoder, part, optimization.precision), device)
    share = len(data.train) / len(part.train)
    return steps * total / taken * optimization.batch / batch + points * point * share


def _part(data: Data) -> Data:
    """The first images of each split, in the proportions of the whole."""
    share = min(1.0, EVALUATED / len(data.train))

    def first(split: Split) -> Split:
        count = max(min(len(split), 50), round(share * len(split)))
        return Split(split.images[:count], split.labels[:count])

    return Data(first(data.train), first(data.validation), first(data.test), data.classes, streams=data.streams)


def _timed(call: Callable[[], object], device: str) -> float:
    start = time.perf_counter()
    call()
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return time.perf_counter() - start
