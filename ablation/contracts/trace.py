"""Numbers that a user's classes compute on fixed input, kept beside results.

An id counts source code. What else may change the numbers under one id (a list that `experiment` alters, a file that
the code reads, an environment variable) shows in the trace: later commands compute it again and refuse another one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from torch import Tensor, nn

from ablation.contracts.base import ALONE, BFLOAT16, by_a_user, first_images
from ablation.contracts.learners import losses_of_first_steps
from ablation.contracts.operators import applied
from ablation.data import Data
from ablation.methods import Learner
from ablation.spec import Training, identity
from ablation.system import distributed

Trace = Mapping[str, list[list[float]]]  # by name, rows of numbers, which are compared by their mean difference
IMAGES = 8  # of the training split, for operators


def trace_of_training(training: Training, data: Data, build: Callable[[], Learner]) -> Trace:
    """By the id of each of a user's operators, the mean colors of the quarters of each image; the factors of a user's
    schedule; and, with a user's encoder, method or optimizer, the losses of the first steps on this kind of device."""
    images = first_images(data)[:IMAGES].float().div_(255)
    trace = {
        f"operator {identity(each)}": _quarters(applied(each, images, 0))
        for each in training.operators
        if by_a_user(each)
    }
    optimization = training.optimization
    if by_a_user(optimization.schedule):
        trace["schedule"] = [[float(optimization.rate(step, 100)) for step in range(100)]]
    learned = (training.encoder, training.method, optimization.optimizer)
    if by_a_user(learned) and training.method.trains and distributed.count() == 1:
        trace[f"losses on {data.device.type}"] = [[loss] for loss in losses_of_first_steps(training, data, build)]
    return trace


def differing(before: Trace, now: Trace) -> str | None:
    """A name in both whose numbers differ by more than on another machine."""
    for name in sorted(before.keys() & now.keys()):
        rows = list(zip(before[name], now[name], strict=False))
        alike = all(_apart(one, other) <= _tolerance(name) for one, other in rows)
        if len(before[name]) != len(now[name]) or not alike:
            return name
    return None


def _tolerance(name: str) -> float:
    """For an operator, more than one pixel that crosses a threshold, as in `check_as_first`; for losses and metrics
    what bfloat16 and a few of 64 images may change."""
    return 3 * ALONE if name.startswith(("operator ", "schedule")) else BFLOAT16


def _apart(one: list[float], other: list[float]) -> float:
    """The mean difference of two rows, relative for numbers above 1; not-a-number equals itself."""
    if len(one) != len(other) or [math.isnan(a) for a in one] != [math.isnan(b) for b in other]:
        return math.inf
    return sum(abs(a - b) / max(1, abs(a)) for a, b in zip(one, other, strict=True) if not math.isnan(a)) / len(one)


def _quarters(images: Tensor) -> list[list[float]]:
    pooled = nn.functional.adaptive_avg_pool2d(images.float().cpu(), 2).flatten(1)
    return [[round(value, 5) for value in row] for row in pooled.tolist()]
