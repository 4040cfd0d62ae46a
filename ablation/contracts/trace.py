"""Numbers that a user's classes compute on fixed input, kept beside results.

An id counts source code. What else may change the numbers under one id (a list that `experiment` alters, a file that
the code reads, an environment variable) shows in the trace: later commands compute it again and refuse another one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn

from ablation.contracts.base import ALONE, BFLOAT16, by_a_user, first_images
from ablation.contracts.learners import losses_of_first_steps
from ablation.contracts.operators import applied
from ablation.data import Data
from ablation.methods import Learner
from ablation.spec import Training, identity
from ablation.spec.metric import reads_as_accuracy
from ablation.system import distributed

Trace = Mapping[str, list[list[float]]]  # by name, rows of numbers, which are compared by their mean difference
IMAGES = 8  # of the training split, for operators


def trace_of_training(training: Training, data: Data, build: Callable[[], Learner], *, losses: bool = True) -> Trace:
    """By the id of each of a user's operators, colors, contrast and edges of a few images; the factors of a user's
    schedule; and, with a user's encoder, method or optimizer, the losses of the first steps on this kind of device.

    {} if a class cannot compute them, such as an operator that needs the images of one before it."""
    try:
        return _trace(training, data, build, losses)
    except Exception:  # the checks of contracts report what is wrong with a class
        return {}


def _trace(training: Training, data: Data, build: Callable[[], Learner], losses: bool) -> Trace:
    images = first_images(data)[:IMAGES].float().div_(255)
    trace = {
        f"operator {identity(each)}": _summary(applied(each, images, 0))
        for each in training.operators
        if by_a_user(each)
    }
    optimization = training.optimization
    if by_a_user(optimization.schedule):
        trace["schedule"] = [[float(optimization.rate(step, 100)) for step in range(100)]]
    learned = (training.encoder, training.method, optimization.optimizer)
    if losses and by_a_user(learned) and training.method.trains and distributed.count() == 1:
        trace[f"losses on {data.device.type}"] = [[loss] for loss in losses_of_first_steps(training, data, build)]
    return trace


def differing(before: Trace, now: Trace) -> str | None:
    """A name in both whose numbers differ by more than on another machine."""
    for name in sorted(before.keys() & now.keys()):
        one, other = before[name], now[name]
        if len(one) != len(other) or not all(map(partial(_alike, name), one, other)):
            return name
    return None


def _alike(name: str, one: list[float], other: list[float]) -> bool:
    """Whether rows are equal up to what another machine may change: of an operator more than one pixel that crosses a
    threshold, as in `check_as_first`; of losses what bfloat16 rounds; of accuracies three of 64 images."""
    if len(one) != len(other) or [math.isnan(a) for a in one] != [math.isnan(b) for b in other]:
        return False
    pairs = [(a, b) for a, b in zip(one, other, strict=True) if not math.isnan(a)]
    if reads_as_accuracy(name):
        return all(abs(a - b) <= 5 for a, b in pairs)
    share = 3 * ALONE if name.startswith(("operator ", "schedule")) else BFLOAT16
    least = 1 if name.startswith("operator ") else 0.01
    apart = sum(abs(a - b) / max(least, abs(a)) for a, b in pairs)
    return apart <= share * len(one)


def _summary(images: Tensor) -> list[list[float]]:
    """For each image, (C, S, S), three rows: the mean colors of its quarters, its contrast, its edges."""
    images = images.float().cpu()
    rows = []
    for image in images:
        quarters = nn.functional.adaptive_avg_pool2d(image, 2).flatten()
        edges = [image.diff(dim=dim).abs().mean((1, 2)) for dim in (1, 2)]
        rows += [quarters, image.std((1, 2)), torch.cat(edges)]
    return [[round(value, 5) for value in row.tolist()] for row in rows]
