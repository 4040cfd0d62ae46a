"""Numbers that a user's classes compute on fixed input, kept beside results.

An id counts source code. What else may change the numbers under one id (a list that `experiment` alters, a file that
the code reads, an environment variable, an updated package) shows in the trace, which is computed before the first
step, always on the CPU in float32 with one thread. A training that resumes, the other processes of a training and later
commands compute it again and refuse if it differs.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ablation.contracts.base import ALONE, ROUNDING, by_a_user, first_images, parts_by_a_user
from ablation.contracts.operators import results_of
from ablation.contracts.steps import losses_of_first_steps
from ablation.data import Data, Split
from ablation.methods import Learner
from ablation.operators import Noise
from ablation.spec import InvalidSpec, Training, identity
from ablation.spec.metric import reads_as_accuracy
from ablation.system import distributed

Trace = Mapping[str, list[list[float]]]  # by name, rows of numbers, which are compared by their mean difference
TRACE_FORMAT = 3  # raised when the fixed input or what is computed from it changes; another format is not compared
IMAGES = 8  # of the training split, for operators
BATCH = 32  # images for losses, at most
KERNELS = ("fused", "foreach", "capturable", "differentiable")  # settings of an optimizer that depend on the device
PIXELS = 2**17  # of all images for losses together, but at least IMAGES images
ACCURACY = 5  # percentage points that an accuracy may differ by on another machine: three of 64 images
LOSS = 1e-4  # the share that a loss may differ by before a step: rounding makes less than a tenth of it
# A step amplifies rounding: other kernels changed a loss after a step by up to 0.7 %, after two by up to 6 % (Barlow
# Twins, ResNet-18 and a smaller one).
STEP = 0.05
METRIC = 0.05  # the share that an evaluation's other metrics may differ by: a fit may stop at another step

Build = Callable[[Training, Data], Learner]


@dataclass(frozen=True)
class Difference:
    """A name in two traces whose numbers are too far apart. how: "was 0.5 and is 0.25"."""

    name: str
    how: str


def trace_of_training(training: Training, data: Data, build: Build, kinds: Collection[str] | None = None) -> Trace:
    """Of a user's classes: "operator NUMBER ID", the colors, contrast and edges of a few images in the operator's place
    among the others; "schedule", its rates; "optimizer NAME", the settings of its groups; "loss before a step" and
    "loss after a step", with an encoder, method or optimizer, from seed 0 on views with noise instead of the operators
    that these do not need. Leaves out what a class cannot compute on the CPU from so few images; the checks of
    contracts report what is wrong with it. "format" is there for `comparable`.

    kinds: the first words of these names, by default all.
    """
    trace: dict[str, list[list[float]]] = {}
    if parts_by_a_user(training):
        for kind, part in KINDS.items():
            if kinds is None or kind in kinds:
                with contextlib.suppress(Exception), distributed.alone(), one_thread():
                    trace |= part(training, data, build)
    return with_format(trace)


def with_format(trace: Trace) -> Trace:
    return {**trace, "format": [[float(TRACE_FORMAT)]]} if trace else {}


def comparable(trace: Trace) -> Trace:
    """The numbers of a trace of today's format, {} of another."""
    today = trace.get("format") == [[float(TRACE_FORMAT)]]
    return {name: rows for name, rows in trace.items() if name != "format"} if today else {}


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
    for name in sorted(groups[0].keys() - {"params", *KERNELS}):
        settings = [group.get(name) for group in groups]
        if all(isinstance(value, (bool, int, float)) and math.isfinite(value) for value in settings):
            rows[name] = [[float(value)] for value in settings]
    return {f"optimizer {name}": values for name, values in rows.items()}


def _losses(training: Training, data: Data, build: Build) -> Trace:
    learned = (training.encoder, training.method, training.optimization.optimizer)
    if not by_a_user(learned) or not training.method.trains:
        return {}
    few = _few(data, min(training.optimization.batch, max(IMAGES, min(BATCH, PIXELS // data.size**2))))
    optimization = training.optimization.replace(batch=len(few.train), precision="float32")
    training = _with_plain_views(training.replace(optimization=optimization, seed=0), data.size)
    before, after = losses_of_first_steps(training, few, lambda: build(training, few), steps=2)
    return {"loss before a step": [[before]], "loss after a step": [[after]]}


def _with_plain_views(training: Training, size: int) -> Training:
    """Of the operators only those that change the size or annotate for the method, so that all views of a grid have one
    loss; and noise, since most losses do not see how they weigh views that are equal."""
    needed = set(getattr(training.method, "annotations", ()))

    def kept(view: tuple, size: int) -> tuple[tuple, int]:
        some = []
        for operator in view:
            after = operator.output_size(size)
            some += [operator] if after != size or needed & set(getattr(operator, "annotates", ())) else []
            size = after
        return tuple(some), size

    shared, size = kept(training.shared, size)
    with contextlib.suppress(InvalidSpec):  # of a method whose own check asks for more
        views = tuple((*kept(view, size)[0], Noise(std=(0.1, 0.1))) for view in training.views)
        return training.replace(shared=shared, views=views)
    return training


# In the order in which a difference is looked for: losses depend on all of them.
KINDS = {"operator": _operators, "schedule": _schedule, "optimizer": _optimizer, "loss": _losses}


def _few(data: Data, count: int) -> Data:
    """The first training images as all splits, on the CPU, normalized as all of them."""
    split = Split(first_images(data)[:count].cpu(), data.train.labels[:count].cpu() if data.labelled else None)
    return Data(train=split, validation=split, test=split, classes=data.classes, counts=data.counts.cpu())


def check_trace(training: Training, before: Trace, now: Trace, where: str, cure: str) -> None:
    """Raises InvalidSpec if a user's class computes other numbers than before. where and cure: for people, where the
    earlier numbers were computed, and what helps beside a field."""
    for found in differences_of_training(comparable(before), comparable(now)):
        raise changed(possible_causes(training, found), found, where, cure)


def differences_of_training(before: Trace, now: Trace) -> list[Difference]:
    """In the order of KINDS. Without losses if another number differs, which may be the cause."""
    found = {kind: list(differences(before, now, kind)) for kind in KINDS}
    losses = found.pop("loss")
    return [each for some in found.values() for each in some] or losses


def possible_causes(training: Training, found: Difference) -> list[Any]:
    """The user's parts of the training from which a number of its trace follows."""
    optimization = training.optimization
    parts: dict[str, Sequence] = {
        "operator": [spec for spec in training.operators if identity(spec) == found.name.split()[-1]],
        "schedule": [optimization.schedule],
        "optimizer": [optimization.optimizer],
        "loss": (training.encoder, training.method, optimization.optimizer),
    }
    return [each for each in parts[found.name.split()[0]] if by_a_user(each)]


def changed(parts: Sequence[Any], found: Difference, where: str, cure: str, others: Sequence[str] = ()) -> InvalidSpec:
    """parts: those that may be the cause. others: names of further classes that have changed."""
    who = names_of(parts)
    also = f" {' and '.join(others)} also changed." if others else ""
    what = {"operator": "a mean, contrast or edge of its first images", "schedule": "a rate"}
    return InvalidSpec(
        f"{who} computes other numbers than in {where}: {what.get(found.name.split()[0], found.name)} {found.how}."
        f"{also} The id is the same, so something has changed that an id does not count: a value that code sets after "
        "the import, a file that the class reads, an updated package, a variable of the environment (a worker on "
        f"another machine may have its own). Set it back; or make it a field of the class; or {cure}."
    )


def names_of(parts: Sequence[Any]) -> str:
    return " or ".join(dict.fromkeys(type(part).__name__ for part in parts))


def differences(before: Trace, now: Trace, kind: str | None = None) -> Iterator[Difference]:
    """For each name in both whose numbers differ by more than on another machine, the first row that does.
    kind: only of names with this first word."""
    for name in sorted(before.keys() & now.keys()):
        if kind not in (None, name.split()[0]):
            continue
        one, other = before[name], now[name]
        if [len(row) for row in one] != [len(row) for row in other]:
            counts = (sum(map(len, rows)) for rows in (one, other))
            yield Difference(name, "had {} values and has {}".format(*counts))
            continue
        for row, again in zip(one, other, strict=True):
            if not _alike(name, row, again):
                pair = max(zip(row, again, strict=True), key=lambda pair: _apart(*pair))
                yield Difference(name, "was {:.5g} and is {:.5g}".format(*pair))
                break


def _apart(one: float, other: float) -> float:
    if math.isnan(one) or math.isnan(other):
        return 0.0 if math.isnan(one) and math.isnan(other) else math.inf
    return abs(one - other)


def _alike(name: str, one: list[float], other: list[float]) -> bool:
    """Whether rows are equal up to what another machine may change: of an operator more than one pixel that crosses a
    threshold, as in `check_as_first`; of others what the constants above say."""
    apart, kind = list(map(_apart, one, other)), name.split()[0]
    if kind == "operator":
        return sum(apart) <= 3 * ALONE * len(apart)
    if kind not in KINDS and reads_as_accuracy(name):
        return max(apart) <= ACCURACY
    share = {"schedule": ROUNDING, "optimizer": ROUNDING, "loss": LOSS if "before" in name else STEP}.get(kind, METRIC)
    least = 1.0 if kind == "loss" else 0.01  # some losses start near 0
    return all(off <= share * max(least, abs(value)) for value, off in zip(one, apart, strict=True))


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """The numbers of threads of a worker and of its owner differ, and with them the rounding."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _summary(images: Tensor) -> list[list[float]]:
    """For each image, (C, S, S), three rows: the mean colors of its quarters, its contrast, its edges."""
    images = images.float().cpu()
    rows = []
    for image in images:
        quarters = nn.functional.adaptive_avg_pool2d(image, 2).flatten()
        edges = [image.diff(dim=dim).abs().mean((1, 2)) for dim in (1, 2)]
        rows += [quarters, image.std((1, 2)), torch.cat(edges)]
    return [[round(value, 5) for value in row.tolist()] for row in rows]
