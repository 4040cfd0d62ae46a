"""A whole SimCLR training side by side: our loop, one on Kornia's modules, one of lightly's parts.

The setting is the scale cifar10-small. One process per core trains with one thread, as in a grid; the sum over all
processes counts. All use the same network, loss, optimizer and step. They differ in how images become views, and
lightly's loop keeps the weights contiguous, as lightly does.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ablation import SimCLR
from ablation.data import Data
from ablation.execution.worker import configure_worker
from ablation.methods import Learner
from ablation.spec import Training
from ablation.study.scales import scale_named
from ablation.training.loop import build_learner, pretrain, take_step
from ablation.training.views import TOGETHER
from benchmarks import per_image
from benchmarks.measure import Row, row
from benchmarks.step import random_data
from benchmarks.views import VIEW, cases, kornia_views

ROUNDS = 3
SECONDS = 15.0  # of a contender in a round
IMAGES = 4500  # of training
PRECISIONS = ("float32", "bfloat16")
Step = Callable[[], None]  # called after each step; raises _Over when the time is up


def run(device: str, quick: bool) -> Iterator[Row]:
    if device != "cpu":
        return
    count, seconds = len(os.sched_getaffinity(0)), SECONDS / 5 if quick else SECONDS
    found: dict[tuple[str, str], list[float]] = {(p, name): [] for p in PRECISIONS for name in CONTENDERS}
    for _ in range(ROUNDS):
        for (precision, name), rates in found.items():
            rates.append(together(name, precision, seconds, count))
    for (precision, name), rates in found.items():
        pairs = zip(found[precision, "ours"], rates, strict=True)
        case = f"SimCLR training at cifar10-small's shape, {precision}, {count} processes on {count} cores"
        yield row("loops", case, name, "images/s", rates, statistics.median(ours / theirs for ours, theirs in pairs))


def together(name: str, precision: str, seconds: float, count: int) -> float:
    """Images a second of `count` processes, which start counting together."""
    command = [sys.executable, "-m", "benchmarks.loops", name, precision, str(seconds)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    crew = [subprocess.Popen(command, **pipes) for _ in range(count)]
    try:
        for process in crew:
            process.stdout.readline()  # warmed up
        for process in crew:
            process.stdin.write("go\n")
            process.stdin.flush()
        return sum(float(process.stdout.readline()) for process in crew)
    finally:
        for process in crew:
            process.kill()
            process.communicate()


def ours(training: Training, data: Data, step: Step) -> None:
    pretrain(training, data, lambda fraction: step() if fraction else None)


def kornia(training: Training, data: Data, step: Step) -> None:
    """Batches of the uint8 images, augmented as batches."""
    learner, optimizer = _parts(training, data)
    learner.to(memory_format=torch.channels_last)
    module, batch = cases(data.size)["SimCLR view"][1], training.optimization.batch
    while True:
        for rows in torch.randperm(len(data.train)).split(batch)[: len(data.train) // batch]:
            views = kornia_views(data.train.images[rows], module, data)
            take_step(learner, optimizer, (views, None), data.train.labels[rows], training)
            step()


def lightly(training: Training, data: Data, step: Step) -> None:
    """Images one by one through PIL, collated by a DataLoader."""
    learner, optimizer = _parts(training, data)
    loader = DataLoader(Pictures(data), training.optimization.batch, shuffle=True, drop_last=True)
    while True:
        for first, second, labels in loader:
            take_step(learner, optimizer, ([first, second], None), labels, training)
            step()


CONTENDERS = {"ours": ours, "Kornia's modules": kornia, "lightly's parts": lightly}


class Pictures(Dataset):
    """Two views of an image, by the calls of torchvision and lightly (per_image.py), and its label."""

    def __init__(self, data: Data):
        self.arrays, self.labels = data.train.images.permute(0, 2, 3, 1).numpy(), data.train.labels
        self.mean, self.std = data.mean[:, None, None], data.std[:, None, None]
        self.steps = [step for operator in VIEW for step in per_image.steps(operator, data.size)]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor, Tensor]:
        picture = Image.fromarray(self.arrays[number])
        return self._view(picture), self._view(picture), self.labels[number]

    def _view(self, picture: Image.Image) -> Tensor:
        for step in self.steps:
            picture = step(picture)
        return per_image.to_tensor(picture).sub_(self.mean).div_(self.std)


def _parts(training: Training, data: Data) -> tuple[Learner, torch.optim.Optimizer]:
    learner = build_learner(training, data).train()
    return learner, training.optimization.optimizer.build(learner)


class _Over(Exception):
    pass


class Clock:
    """Counts steps for some seconds. The first steps, as many as our loop prepares views for at once, do not count;
    after them it waits for the parent."""

    def __init__(self, seconds: float, batch: int):
        self.seconds, self.batch, self.group, self.steps, self.start = seconds, batch, TOGETHER // batch, 0, 0.0

    def __call__(self) -> None:
        self.steps += 1
        if self.steps == self.group:
            print("warm", flush=True)
            sys.stdin.readline()
            self.start = time.perf_counter()
        elif self.steps % self.group == 0 and time.perf_counter() - self.start >= self.seconds:
            raise _Over

    def rate(self) -> float:
        return self.batch * (self.steps - self.group) / (time.perf_counter() - self.start)


def training_of(precision: str) -> Training:
    scale = scale_named("cifar10-small", precision=precision)
    method = scale.method(SimCLR)
    optimization = scale.optimization(method, epochs=10_000, curve_every=0)  # it stops long before
    return scale.run(method, views=(VIEW, VIEW), optimization=optimization).training


def main(name: str, precision: str, seconds: str) -> None:
    configure_worker("cpu")
    training = training_of(precision)
    clock = Clock(float(seconds), training.optimization.batch)
    try:
        CONTENDERS[name](training, random_data(IMAGES, 32, "cpu"), clock)
    except _Over:
        print(clock.rate(), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
