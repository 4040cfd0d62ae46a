"""Numbers that a user's classes compute on fixed input, kept beside results.

An id counts source code. What else may change the numbers under one id (a list that `experiment` alters, a file that
the code reads, an environment variable, an updated package) shows in the trace, which is computed before the first
step, always on the CPU in float32. A training that resumes and later commands compute it again and refuse another one.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ablation.contracts.base import ALONE, ROUNDING, by_a_user, first_images, parts_by_a_user
from ablation.contracts.learners import losses_of_first_steps
from ablation.contracts.operators import results_of
from ablation.data import Data, Split
from ablation.methods import Learner
from ablation.spec import InvalidSpec, Training, identity
from ablation.spec.metric import reads_as_accuracy
from ablation.system import distributed

Trace = Mapping[str, list[list[float]]]  # by name, rows of numbers, which are compared by their mean difference
IMAGES = 8  # of the training split, for operators
BATCH = 32  # images for losses, at most
PIXELS = 2**17  # of all images for losses together, but at least IMAGES images
ACCURACY = 5  # percentage points that an accuracy may differ by on another machine: three of 64 images
LOSS = 1e-4  # the share that a loss may differ by before a step: rounding makes a hundredth of it
# The share that other numbers may differ by. A step amplifies rounding: another number of threads, or other kernels,
# changed a loss after a step by up to 0.7 %, and after two by up to 6 % (ResNet-18, Barlow Twins).
TRAINED = 0.05

Build = Callable[[Training, Data], Learner]


@dataclass(frozen=True)
class Difference:
    """Two numbers of a trace with the same name that are too far apart."""

    name: str
    before: float
    now: float


def trace_of_training(training: Training, data: Data, build: Build, kinds: Collection[str] | None = None) -> Trace:
    """Of a user's classes: "operator NUMBER ID", the colors, contrast and edges of a few images in the operator's place
    among the others; "schedule", its rates; "optimizer NAME", the settings of its groups; "loss before a step" and
    "loss after a step", with an encoder, method or optimizer.

    kinds: the first words of these names, by default all. Leaves out what a class cannot compute on the CPU from so few
    images; the checks of contracts report what is wrong with it.
    """
    trace: dict[str, list[list[float]]] = {}
    if parts_by_a_user(training):
        for kind, part in KINDS.items():
            if kinds is None or kind in kinds:
                with contextlib.suppress(Exception), distributed.alone():
                    trace |= part(training, data, build)
    return trace


def _operators(training: Training, data: Data, build: Build) -> Trace:
    images = _few(data, IMAGES).train.images
    results = enumerate(results_of(images, training.shared, training.views))
    return {f"operator {n} {identity(spec)}": _summary(images) for n, (spec, images) in results if by_a_user(spec)}


def _schedule(training: Training, data: Data, build: Build) -> Trace:
    optimization = training.optimization
    rates = [[float(optimization.rate(step, 100)) for step in range(100)]]
    return {"schedule": rates} if by_a_user(optimization.schedule) else {}


def _optimizer(training: Training, data: Data, build: Build) -> Trace:
    spec = training.optimization.optimizer
    if not by_a_user(spec) or not training.method.trains:
        return {}
    groups = spec.build(build(training, _few(data, IMAGES))).param_groups
    rows = {"parameters": [[float(sum(each.numel() for each in group["params"]))] for group in groups]}
    numbers = (bool, int, float)
    for name in sorted(groups[0].keys() - {"params"}):
        found = [group.get(name) for group in groups]
        if all(isinstance(value, numbers) and math.isfinite(value) for value in found):
            rows[name] = [[float(value)] for value in found]
    return {f"optimizer {name}": values for name, values in rows.items()}


def _losses(training: Training, data: Data, build: Build) -> Trace:
    learned = (training.encoder, training.method, training.optimization.optimizer)
    if not by_a_user(learned) or not training.method.trains:
        return {}
    few = _few(data, min(training.optimization.batch, max(IMAGES, min(BATCH, PIXELS // data.size**2))))
    optimization = training.optimization.replace(batch=len(few.train), precision="float32")
    training = training.replace(optimization=optimization)
    before, after, *_ = losses_of_first_steps(training, few, lambda: build(training, few))
    return {"loss before a step": [[before]], "loss after a step": [[after]]}


# In the order in which a difference is looked for: losses depend on all of them.
KINDS = {"operator": _operators, "schedule": _schedule, "optimizer": _optimizer, "loss": _losses}


def _few(data: Data, count: int) -> Data:
    """The first training images as all splits, on the CPU, normalized as all of them."""
    split = Split(first_images(data)[:count].cpu(), data.train.labels[:count].cpu() if data.labelled else None)
    return Data(train=split, validation=split, test=split, classes=data.classes, counts=data.counts.cpu())


def check_trace(training: Training, before: Trace, now: Trace, where: str) -> None:
    """Raises InvalidSpec if a user's class computes other numbers than before. where: the results of the earlier ones,
    for people."""
    of_kind = ({name: rows for name, rows in before.items() if name.split()[0] == kind} for kind in KINDS)
    found = next((each for some in of_kind for each in differences(some, now)), None)
    if found:
        optimization = training.optimization
        kind, *rest = found.name.split()
        parts: dict[str, Any] = {
            "operator": [spec for spec in training.operators if identity(spec) == rest[-1]] if rest else [],
            "schedule": [optimization.schedule],
            "optimizer": [optimization.optimizer],
            "loss": [p for p in (training.encoder, training.method, optimization.optimizer) if by_a_user(p)],
        }
        raise changed(parts[kind][0], found, where)


def changed(part: Any, found: Difference, where: str) -> InvalidSpec:
    what = {"operator": "a mean, contrast or edge of its first images", "schedule": "a rate"}
    return InvalidSpec(
        f"{type(part).__name__} computes other numbers than in {where}: {what.get(found.name.split()[0], found.name)} "
        f"was {found.before:.5g} and is {found.now:.5g}. Its id is the same, so something has changed that an id does "
        "not count: a value that code sets after the import, a file that the class reads, an updated package, a "
        "variable of the environment (a worker on another machine may have its own). Make it a field of the class; or "
        "name another folder: --results."
    )


def differences(before: Trace, now: Trace) -> Iterator[Difference]:
    """For each name in both whose numbers differ by more than on another machine, those furthest apart."""
    for name in sorted(before.keys() & now.keys()):
        one, other = before[name], now[name]
        if [len(row) for row in one] != [len(row) for row in other]:
            yield Difference(name, sum(map(len, one)), sum(map(len, other)))
        for row, again in zip(one, other, strict=False):
            if not _alike(name, row, again):
                yield Difference(name, *max(zip(row, again, strict=True), key=lambda pair: _apart(*pair)))
                break


def _apart(one: float, other: float) -> float:
    if math.isnan(one) or math.isnan(other):
        return 0.0 if math.isnan(one) and math.isnan(other) else math.inf
    return abs(one - other)


def _alike(name: str, one: list[float], other: list[float]) -> bool:
    """Whether rows are equal up to what another machine may change: of an operator more than one pixel that crosses a
    threshold, as in `check_as_first`; and what `LOSS` and `TRAINED` say."""
    apart = list(map(_apart, one, other))
    if reads_as_accuracy(name):
        return max(apart) <= ACCURACY
    if name.startswith("operator "):
        return sum(apart) <= 3 * ALONE * len(apart)
    share = {"schedule": ROUNDING, "optimizer": ROUNDING, "loss before a step": LOSS}.get(
        name if name.startswith("loss") else name.split()[0], TRAINED
    )
    return all(off <= share * max(0.01, abs(value)) for value, off in zip(one, apart, strict=True))


def _summary(images: Tensor) -> list[list[float]]:
    """For each image, (C, S, S), three rows: the mean colors of its quarters, its contrast, its edges."""
    images = images.float().cpu()
    rows = []
    for image in images:
        quarters = nn.functional.adaptive_avg_pool2d(image, 2).flatten()
        edges = [image.diff(dim=dim).abs().mean((1, 2)) for dim in (1, 2)]
        rows += [quarters, image.std((1, 2)), torch.cat(edges)]
    return [[round(value, 5) for value in row.tolist()] for row in rows]
