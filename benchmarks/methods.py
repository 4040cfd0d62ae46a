"""A step of each method against the forward and backward passes that its definition asks for.

A method's passes, on views that are made before: its encoder on the views that get a gradient, forward and backward;
its momentum copy on the views that get none, forward; its heads on what they give; the optimizer's step, and the
copy's.
The passes run with the method's own heads, batch norm over one view or all, and optimizer, but with an encoder whose
batch norms are torch's, on inputs that are already grouped, from gradients that are already there. What a step takes
beyond them is the method's own: the loss, queues, codes, clipping, and how it calls its networks.

Beside them stands SimCLR's step with the same encoder on as many images with a gradient.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor, nn

from ablation import (
    BYOL,
    DINO,
    MAE,
    MSN,
    Crop,
    Method,
    MoCo,
    SimCLR,
    SimMIM,
    SMoG,
    Supervised,
    SwAV,
    TiCo,
    VICRegL,
)
from ablation.data import Data
from ablation.methods import Learner
from ablation.spec import Training
from ablation.study.published_views import published_views
from ablation.study.scales import Scale, scale_named
from ablation.training.precision import precision_of
from benchmarks.measure import Row, row, seconds
from benchmarks.step import MIDDLE, Stepper, random_data

BATCH, SIZE, ROUNDS = 128, 32, 7


def views_that_pass(method: Method) -> tuple[slice, slice]:
    """The views that pass the encoder with a gradient, and those that pass the momentum copy without."""
    if isinstance(method, MSN):
        return slice(1, None), slice(1)
    if isinstance(method, SMoG | TiCo):
        return slice(1), slice(1, 2)
    return slice(None), slice(2 if isinstance(method, BYOL | DINO | MoCo) else 0)


class Passes(Stepper):
    """A method's passes, without its loss."""

    def __init__(self, training: Training, data: Data):
        method = training.method
        plain = method.replace(splits=0) if isinstance(method, MoCo) else method
        super().__init__(training.replace(method=plain), data, most=training.optimization.batch)
        [(views, self.beside)] = self.made
        students, teachers = (views[which] for which in views_that_pass(method))
        self.masked = students.pop(0) if isinstance(method, MSN) else None  # the encoder sees its kept patches only
        self.students, self.teachers = self._grouped(students), self._grouped(teachers)
        with precision_of(training.optimization.precision, data.device):
            self.gradients = [torch.randn_like(each) for each in self.outputs()]

    def step(self) -> None:
        with precision_of(self.training.optimization.precision, self.data.device):
            outputs = self.outputs()
        torch.autograd.backward(outputs, self.gradients)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if hasattr(self.learner, "teacher"):
            modules = [getattr(self.learner, name, None) for name in ("encoder", "head", "prototypes")]
            self.learner.teacher.follow(0.99, *modules[: len(self.learner.teacher.copies)])

    def outputs(self) -> list[Tensor]:
        """Of the last heads, of the views with a gradient; the copy's passes are taken, too."""
        learner, method = self.learner, self.training.method
        if isinstance(method, MAE | SimMIM | VICRegL):
            return self._of_tokens_or_maps()
        with torch.no_grad():
            for view in self.teachers:
                t = nn.Sequential(*learner.teacher.copies)(view)
                if isinstance(method, MSN):
                    learner.prototypes(t)
        h = [learner.encoder(view) for view in self.students]
        if self.masked is not None:
            h.insert(0, learner.encoder(self.masked, kept=self.beside[1]["kept"]))
        h = [torch.cat(h)] if learner.batch_norm == "joint" and len(h) > 1 else h
        last = [getattr(learner, name) for name in ("predictor", "prototypes", "classifier") if hasattr(learner, name)]
        return [nn.Sequential(learner.head, *last)(each) for each in h]

    def _of_tokens_or_maps(self) -> list[Tensor]:
        learner, encoder = self.learner, self.learner.encoder
        if isinstance(self.training.method, VICRegL):
            maps = [list(encoder.maps(view))[-1][1] for view in self.students]
            return [out for m in maps for out in (learner.head(m.mean((2, 3))), learner.local(m.flatten(2).mT))]
        [images], [beside] = self.students, self.beside
        mask = beside["mask"]
        if isinstance(self.training.method, MAE):
            return [learner.decoder(encoder.tokens(images, kept=beside["kept"]), beside["kept"], mask.shape[1])]
        return [learner.decoder(encoder.tokens(images, mask=mask, fill=learner.mask_token)[:, 1:])]

    def _grouped(self, views: list[Tensor]) -> list[Tensor]:
        """What passes at once: views of one size, unless batch norm sees each by itself."""
        if self.learner.batch_norm == "separate":
            return views
        return [torch.cat([v for v in views if v.shape[-1] == side]) for side in {v.shape[-1]: None for v in views}]


def run(device: str, quick: bool) -> Iterator[Row]:
    scale = scale_named("cifar10-small" if device == "cpu" else "cifar10")
    for precision in ("float32", "bfloat16"):
        yield from methods(trainings(scale, precision), scale, device)


def trainings(scale: Scale, precision: str) -> dict[str, Training]:
    """By name: every method with its views, and two with views of two sizes."""
    large, small = ((Crop(size=side), scale.color()) for side in (None, SIZE // 2))
    several = (large, large, *[small] * 6)
    found = {}
    for method in (*scale.methods, Supervised()):
        found[method.label] = (method, (large,) * 2 if method.branches == 2 else views_of(method, large))
    for method in (scale.method(SwAV), scale.method(DINO)):
        found[f"{method.label}, six small views"] = (method, several)
    optimized = {"precision": precision, "batch": BATCH}
    return {
        name: scale.run(method, views=views, optimization=scale.optimization(method, **optimized)).training
        for name, (method, views) in found.items()
    }


def views_of(method: Method, view: tuple) -> tuple:
    return (view,) if isinstance(method, Supervised) else published_views(method, SIZE)


def methods(asked: dict[str, Training], scale: Scale, device: str) -> Iterator[Row]:
    data = random_data(BATCH * max(len(training.views) for training in asked.values()) // 2, SIZE, device)
    calls, references = {}, {}
    for name, training in asked.items():
        stepper, reference = Stepper(training, data, most=BATCH), simclr(training, scale)
        calls[name], calls[f"{name}: passes"] = stepper.step, Passes(training, data).step
        if isinstance(training.method, SMoG):
            calls[f"{name}: renewal"] = renewal(stepper.learner)
        batch = reference.optimization.batch
        references[name] = f"SimCLR with {reference.encoder.label}, batch {batch}"
        if references[name] not in calls:
            calls[references[name]] = Stepper(reference, data, most=batch).step
    # Of one thread that never waits: the same seconds as the clock's, but without those of other processes.
    clock = time.process_time if device == "cpu" else time.perf_counter
    took = seconds(calls, device, ROUNDS, clock)
    for name, training in asked.items():
        step, passes, other = took[name], took[f"{name}: passes"], took[references[name]]
        if isinstance(training.method, SMoG):  # which it does once in many steps
            renewals = took[f"{name}: renewal"]
            step = [one + all_new / training.method.renewal for one, all_new in zip(step, renewals, strict=True)]
        students, teachers = (len(training.views[which]) for which in views_that_pass(training.method))
        case = f"{name}, {training.optimization.precision}"
        note = f"{students} + {teachers}" if teachers else f"{students}"
        for contender, each in (("ours", step), ("its passes", passes), ("SimCLR on as many images", other)):
            ratio = statistics.median(theirs / own for own, theirs in zip(step, each, strict=True))
            found = row("methods", case, contender, "ms", [1000 * s for s in each], ratio)
            yield dataclasses.replace(found, note=note)
        for what, each in (("its passes", passes), ("SimCLR", other)):
            over = [own / theirs for own, theirs in zip(step, each, strict=True)]
            yield row("methods", f"{case}: a step over {what}", "ours", "times", over)


def renewal(learner: Learner) -> Callable[[], None]:
    """What SMoG does after a step that renews its groups."""
    learner.seen.fill_(learner.method.bank)
    return partial(learner.after_step, dataclasses.replace(MIDDLE, step=learner.method.renewal))


def simclr(training: Training, scale: Scale) -> Training:
    """SimCLR with the same encoder and precision on as many images with a gradient."""
    student, _ = views_that_pass(training.method)
    method, view = scale.method(SimCLR), (Crop(), scale.color())
    changes = {"precision": training.optimization.precision, "batch": BATCH * len(training.views[student]) // 2}
    optimization = scale.optimization(method, **changes)
    return scale.run(method, views=(view, view), encoder=training.encoder, optimization=optimization).training
