"""The cost of runs, from a short probe of each kind: `ablation run NAME --dry-run`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from ablation.contracts.base import parts_by_a_user
from ablation.contracts.training import check_contracts
from ablation.data import Data, Split, loaded
from ablation.evaluate.base import Subject
from ablation.evaluate.curve import curve_points
from ablation.evaluate.evaluator import evaluate, images_of
from ablation.execution.executor import Job
from ablation.execution.worker import configure_worker
from ablation.methods import Learner
from ablation.models.encoder import view_size
from ablation.spec import Training, contents_read_once
from ablation.system.terminal import duration, hours, many
from ablation.training.loop import Start, build_learner, take_step
from ablation.training.views import training_views

AT_LEAST = 1.0  # seconds of steps in a probe, after the first step
STEPS = 20  # most steps of a probe
CPU_BATCH = 64  # batch of a probe on a CPU, where time grows with the batch, unless the method needs the run's
EVALUATED = 1000  # training images in a probe of evaluation, whose time grows with their number
REPRESENTATIVES = 3  # probed runs per shape, with different views


@dataclass(frozen=True)
class Estimate:
    """seconds: of all runs one after the other; clock: with `at_once` runs in parallel; bytes: on disk; probes: the
    number of timed shapes."""

    runs: int
    seconds: float
    clock: float
    bytes: int
    at_once: int
    probes: int

    def __add__(self, other: Estimate) -> Estimate:
        """The estimate of both, one after the other."""
        return Estimate(
            self.runs + other.runs, self.seconds + other.seconds, self.clock + other.clock, self.bytes + other.bytes,
            max(self.at_once, other.at_once), self.probes + other.probes,
        )  # fmt: skip

    def __str__(self) -> str:
        return (
            f"estimate for {many(self.runs, 'run')} ({many(self.probes, 'configuration')} timed): "
            f"{duration(self.clock)} with {self.at_once} at once, "
            f"{hours(self.seconds)} device-hours, {self.bytes / 2**20:.1f} MiB on disk; without start and figures, "
            "at the speed that was just measured"
        )


def check_classes(jobs: Sequence[Job], device: str) -> None:
    """Checks the contracts of a user's classes, each once; the probes check those of evaluations."""
    tried: set[tuple] = set()
    for training in (job.work.training for job in jobs):
        new = {(training.dataset, part) for part in parts_by_a_user(training)} - tried
        if new:
            data = loaded(training.dataset, device)
            check_contracts(training, data, partial(build_learner, training, data))
            tried |= new


def estimate(jobs: Sequence[Job], devices: Sequence[str], workers: int) -> Estimate:
    """Times a few runs of each shape (data set, encoder, method, batch, length, precision, evaluations): within a shape
    costs differ only by the operators of the views. The probes use one device; parallel processes share a CPU's memory,
    so they are slower.
    """
    configure_worker(devices[0])
    shapes: dict[tuple, list[Job]] = {}
    with contents_read_once():
        for job in jobs:
            training = job.work.training
            optimization = training.optimization
            length = (optimization.epochs, optimization.batch, optimization.curve_every, optimization.with_validation)
            how = (*length, type(optimization.optimizer), optimization.precision)
            key = (training.dataset, training.encoder, training.method, how, job.evaluations, job.weights is None)
            shapes.setdefault(key, []).append(job)
    seconds, size = 0.0, 0
    for alike in shapes.values():
        step = max(1, len(alike) // REPRESENTATIVES)
        probed = [_probe(job, devices[0]) for job in alike[::step][:REPRESENTATIVES]]
        seconds += len(alike) * sum(taken for taken, _ in probed) / len(probed)
        size += len(alike) * probed[0][1]
    at_once = max(1, min(workers, len(jobs)))
    return Estimate(len(jobs), seconds, seconds / at_once, size, at_once, len(shapes))


def _probe(job: Job, device: str) -> tuple[float, int]:
    """Seconds and bytes of a run."""
    training = job.work.training
    data = loaded(training.dataset, device)
    learner = build_learner(training, data).to(device, memory_format=torch.channels_last)
    seconds = 0.0
    if job.weights is None and training.method.trains:
        seconds += _training(training, data, learner)
    seconds += _evaluations(job, data, learner, device)
    tensors = [tensor for part in learner.evaluated() for tensor in part.state_dict().values()]
    weights = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    predictions = 2 * 2 * sum(map(len, data.splits().values()))  # two and the label per image, compressed int16
    return seconds, weights * (job.weights is None) + predictions * len(job.evaluation_ids)


def _evaluations(job: Job, data: Data, learner: Learner, device: str) -> float:
    """Seconds of the missing evaluations: of those that train by their steps, of others on the first images of their
    data."""
    training, seconds = job.work.training, 0.0
    start = Start(learner.encoder.state_dict(), view_size(training, data))
    others: dict[Any, list] = {}
    for evaluation in job.evaluations:
        own = getattr(evaluation, "dataset", None)
        if not hasattr(evaluation, "training"):
            others.setdefault(own, []).append(evaluation)
            continue
        tuning, labelled = evaluation.training(training, training.seed), evaluation.labelled_part(images_of(own, data))
        seconds += _training(tuning, labelled, build_learner(tuning, labelled, start).to(device))
    for own, evaluations in others.items():
        whole = images_of(own, data)
        part = _part(whole)
        timed = partial(
            evaluate, evaluations, learner.encoder, data, training.optimization.precision, learner.head,
            subject=Subject(training, start), images=lambda dataset, data, part=part: part,
        )  # fmt: skip
        seconds += len(whole.train) / len(part.train) * _timed(timed, device)
    return seconds


def _training(training: Training, data: Data, learner: Learner) -> float:
    """Seconds of all steps, and of the points of the learning curve."""
    optimization = training.optimization
    count = len(data.train) + (len(data.validation) if optimization.with_validation else 0)
    steps = optimization.epochs * (count // optimization.batch)
    whole = min(optimization.batch, len(data.train))
    batch = min(whole, CPU_BATCH) if data.device.type == "cpu" else whole
    try:
        step = _step(training, data, learner, batch)
    except Exception:
        if batch == whole:
            raise
        batch, step = whole, _step(training, data, learner, whole)
    learner.eval()
    points = math.ceil(optimization.epochs / optimization.curve_every) if optimization.curve_every else 0
    part = _part(data)
    arguments = (learner, part, optimization.precision, optimization.curve_on_test)
    point = _timed(lambda: curve_points(*arguments), data.device.type)
    return steps * step * optimization.batch / batch + points * point * len(data.train) / len(part.train)


def _step(training: Training, data: Data, learner: Learner, batch: int) -> float:
    """Seconds of a step with `batch` images, after a first one."""
    images, labels = data.train.images, data.train.labels
    probed = replace(training, optimization=replace(training.optimization, batch=batch))
    optimizer = training.optimization.optimizer.build(learner)
    order = torch.arange(len(images), device=data.device)
    batches = [order.roll(-i * batch)[:batch] for i in range(STEPS + 1)]
    taken, total = 0, 0.0
    views = training_views(images, batches, probed, data, (training.seed, "probe"))
    learner.train()

    def one_step() -> None:
        batch_labels = None if labels is None else labels[batches[taken]]
        take_step(learner, optimizer, next(views), batch_labels, probed)

    _timed(one_step, data.device.type)  # the first step prepares memory and kernels
    while taken < STEPS and total < AT_LEAST:
        total += _timed(one_step, data.device.type)
        taken += 1
    return total / taken


def _part(data: Data) -> Data:
    """The first images of each split, in the same proportions."""
    share = min(1.0, EVALUATED / len(data.train))

    def first(split: Split) -> Split:
        count = max(min(len(split), 50), round(share * len(split)))
        return Split(split.images[:count], split.labels[:count] if data.labelled else None)

    parts = {name: first(split) for name, split in data.splits().items()}
    return Data(**parts, classes=data.classes, streams=data.streams, device=data.device)


def _timed(call: Callable[[], object], device: str) -> float:
    start = time.perf_counter()
    call()
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return time.perf_counter() - start
