"""Whether the classes of a user keep their contracts, tried on a first batch.

Our own classes are tested by the suite's tests. A class from a user's file is tried in every run before its first
step, and by `--dry-run` and `preview`: an operator that leaves [0, 1] or draws numbers of its own trains without a
word, and its results cannot be repeated. All errors are InvalidSpec: class, rule, what was seen, cure.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import math
import random
import re
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn

from ablation import distributed
from ablation.datasets import Data, Split
from ablation.methods import Learner
from ablation.operators import Operator
from ablation.operators.base import on_device, transform
from ablation.randomness import generator_at, global_draws_at
from ablation.specs import InvalidSpec, Optimization, Training, content_of, is_ours
from ablation.views import CHUNK, make_batches, make_views, normalize

LARGER = 600  # images of a batch that is larger than any that one operator is given in training on a CPU
IMAGES = 64  # that an operator is tried on: some of the data set, then black, white and noise
# Columns of tables and of learning curves, which a metric of a loss would replace or not reach.
NAMED = {
    "epoch", "loss", "learning_rate", "method", "dataset", "encoder", "shared", "views", "epochs", "batch", "precision",
    "trained_on", "optimizer", "weight_decay", "schedule", "format", "state", "training", "notes", "alignment",
    "uniformity", "training_seconds", "peak_memory_bytes", "energy_joules", "device", "torch", "kornia", "commit",
    "seed",
}  # fmt: skip
ACCURACY = re.compile(r"(^|_)(top-?\d|acc|accuracy)($|_)")
TEST_ACCURACY = re.compile(r"test_(top-?1|acc|accuracy)")
MEASURED = re.compile(r"second|time|memory|bytes|joule|watt")  # in names of metrics that differ from call to call
STEPS = 3  # that a learner takes before its training
ROUNDING = 1e-5  # tolerance for leaving [0, 1], and for a second application on a CPU
ALONE = 1e-3  # tolerance for an image computed among others: kernels round differently
BFLOAT16 = 0.05  # the same of an encoder that runs in bfloat16, as a share of its largest value
DARK = 0.1  # nothing brighter is left of a white image and of noise: as where [0, 1] is divided by 255
SATURATED = 0.9  # the share of values at the ends of [0, 1] that is named
FEW = 1e-3  # the share of an image's values that may differ by more: a threshold turns rounding into a step


def by_a_user(spec: Any) -> bool:
    """Whether a class in the spec is not ours, however deep."""
    if isinstance(spec, (tuple, list)):
        return any(map(by_a_user, spec))
    if isinstance(spec, Mapping):
        return any(map(by_a_user, spec.values()))
    if not dataclasses.is_dataclass(spec) or isinstance(spec, type):
        return False
    return not is_ours(type(spec)) or any(by_a_user(getattr(spec, f.name)) for f in dataclasses.fields(spec))


def parts_by_a_user(training: Training) -> list[Any]:
    """The operators, encoder, method, optimizer and schedule whose class is a user's."""
    optimization = training.optimization
    parts = [*_operators_of(training), training.encoder, training.method]
    return [part for part in (*parts, optimization.optimizer, optimization.schedule) if by_a_user(part)]


def _operators_of(training: Training) -> list[Operator]:
    return [*training.shared, *(operator for view in training.views for operator in view)]


def check_contracts(training: Training, data: Data, build: Callable[[], Learner]) -> list[tuple[Operator, Tensor]]:
    """Of the classes of a user in a training; costs what a few batches do. build: makes its learner, from its seed.

    Returns what each operator of a user makes of the first images, for `check_unchanged`."""
    if not parts_by_a_user(training):
        return []
    some = _first_images(data)
    made = check_views(some, training.shared, training.views)
    _check_as_first(training, made)
    if by_a_user(training.optimization.schedule):
        check_schedule(training.optimization, len(data.training(training.optimization.with_validation)))
    if by_a_user((training.encoder, training.method, training.optimization.optimizer)):
        _check_learner(training, data, some, build)
    return made


_first: dict[tuple, list[Tensor]] = {}  # what operators of a user made in the first run of this process, small
_said: set[tuple] = set()  # the lines that this process has printed, by class


def _say(spec: Any, what: str, about: str = "") -> None:
    """Prints a line, once in each process: what may be on purpose, and must not pass in silence. about: the subject of
    a line that holds numbers, so that a second line on it, with others, does not follow."""
    if (type(spec), about or what) not in _said and distributed.rank() == 0:
        _said.add((type(spec), about or what))
        print(f"ablation: {type(spec).__name__}: {what}", file=sys.stderr, flush=True)


def _check_as_first(training: Training, made: Sequence[tuple[Operator, Tensor]]) -> None:
    """That the operators of a user make in each run of this process what they made in its first one."""
    small = [nn.functional.adaptive_avg_pool2d(images, 4) for _, images in made]
    first = _first.setdefault((content_of(training.dataset), training.dataset, training.shared, training.views), small)
    for (operator, _), one, other in zip(made, first, small, strict=True):
        if (one - other).abs().flatten(1).mean(1).max() > 3 * ALONE:  # more than a pixel that crosses a threshold
            raise _changed(operator, "in a later run")


def _changed(operator: Operator, when: str) -> InvalidSpec:
    return broken(
        operator, "an operator must make the same of the same images and draws at any time",
        f"{when} it makes others than before",
        "Keep nothing from call to call, and ask no clock: what changes an image comes from a field or a draw.",
    )  # fmt: skip


def _with_extremes(stored: Tensor) -> Tensor:
    """uint8 images, and a black one, a white one and noise, as float32 in [0, 1]."""
    noise = torch.randint(256, stored[:1].shape, generator=generator_at("contracts", "noise"), dtype=torch.uint8)
    extremes = [torch.zeros_like(stored[:1]), torch.full_like(stored[:1], 255), noise.to(stored.device)]
    return torch.cat([stored, *extremes]).float().div_(255)


def _first_images(data: Data) -> Tensor:
    rows = torch.arange(min(IMAGES - 3, len(data.train)), device=data.train.labels.device)
    [some] = data.batches(data.train.images, [rows])
    return some


# --------------------------------------------------------------------------------------------------
# Operators


def check_views(
    stored: Tensor, shared: Sequence[Operator], views: Sequence[Sequence[Operator]]
) -> list[tuple[Operator, Tensor]]:
    """The operators of a user, each on what those before it make of uint8 images (B, C, S, S); returns what it made."""
    images = _with_extremes(stored)
    tried: set[tuple[Operator, int]] = set()
    found = []
    for operator, given, make in _through(shared, views, images):
        for each in _operators_in(operator):
            if by_a_user(each) and (each, given.shape[-1]) not in tried:
                check_operator(each, given)
                tried.add((each, given.shape[-1]))
        found += [(operator, make()[: len(stored)].cpu())] if by_a_user(operator) else []
    return found


def _through(
    shared: Sequence[Operator], views: Sequence[Sequence[Operator]], images: Tensor
) -> Iterator[tuple[Operator, Tensor, Callable[[], Tensor]]]:
    """Each operator with the images that those before it make, and what makes of them what the next one gets."""

    def one_after_the_other(operators: Sequence[Operator], images: Tensor) -> Iterator:
        for number, operator in enumerate(operators):
            make = partial(_made, operator, images, number)
            yield operator, images, make
            images = make()
        return images

    common = yield from one_after_the_other(shared, images)
    for view in views:
        yield from one_after_the_other(view, common)


def _made(operator: Operator, images: Tensor, number: int) -> Tensor:
    drawn = operator.draw(len(images), images.shape[-1], generator_at("contracts", "views", number))
    return transform(operator, images, on_device(drawn, images.device))


def check_operator(operator: Operator, images: Tensor) -> None:
    """On images (B, C, S, S) float32 in [0, 1]: what `sample` draws, and what `apply` makes of them together, again,
    in another order and alone."""
    params = _checked_draw(operator, len(images), images.shape[-1])
    gated = type(operator).transform is Operator.transform  # else the class decides itself which images it changes
    if gated and 0 in (operator.p, operator.strength):
        return
    name, step = ("apply", operator.apply) if gated else ("transform", operator.transform)
    params = on_device({n: value for n, value in params.items() if not gated or n != "gate"}, images.device)

    def of(rows: Tensor) -> Tensor:
        given = images[rows]
        with _generators_untouched(operator, name, images.device):
            made = step(given, {n: value[rows] for n, value in params.items()})
        _check_images(operator, name, images[rows], made)
        if not gated and not torch.equal(given, images[rows]):  # apply is given a copy
            raise broken(operator, f"{name} must leave its images alone", "it changes them in place", "Work on a copy.")
        return made

    every = torch.arange(len(images), device=images.device)
    whole, again = of(every), of(every)
    _tell_of_empty_images(operator, images, whole)
    _check_strength(operator, images, whole, step, gated)
    if gated and operator.p < 1:
        _tell_of_second_gate(operator, images, params, whole)
    apart = (whole - again).abs().max().item()
    if apart > (ROUNDING if images.device.type == "cpu" else ALONE):
        raise broken(
            operator, f"{name} must give the same for the same images and parameters",
            f"applied twice it gives values that differ by up to {apart:.2g}",
            "Draw every random number in `sample`, from its generator, and keep nothing from call to call.",
        )  # fmt: skip
    shuffled = torch.randperm(len(images), generator=generator_at("contracts", "order")).to(images.device)
    most = max(len(images), min(LARGER, CHUNK // images[0].numel()))
    larger = every.repeat(-(-most // len(images)))[:most]
    in_what = (shuffled, "in another order"), (every[:1], "alone"), (every[-3:-2], "alone"), (larger, "among more")
    for rows, how in in_what:
        if _differ(of(rows), whole[rows]):
            raise broken(
                operator, f"{name} must make each image from that image and its own parameters",
                f"an image comes out otherwise {how} than in the batch",
                "Take means, extremes and shuffles over the last dimensions, not over the first, the batch.",
            )  # fmt: skip


def _tell_of_empty_images(operator: Operator, images: Tensor, made: Tensor) -> None:
    """Prints a line where the operator changes nothing, or where its images show little or nothing."""
    if made.shape == images.shape and torch.equal(made, images):
        _say(operator, f"{operator.label!r} changes none of {len(images)} images in this place")
    if bool((made.flatten(2) == made.flatten(2)[..., :1]).all()):
        _say(operator, f"{operator.label!r} makes every image one color, in this place")
    elif made.max() < DARK < images.max():
        _say(
            operator,
            f"{operator.label!r} leaves nothing brighter than {DARK:g} of 1 in white, noisy and other images. If it "
            "divides by 255, remove the division: images are in [0, 1] already",
        )
    elif _saturated(made) > SATURATED > 2 * _saturated(images):
        _say(
            operator,
            f"{_saturated(made):.0%} of the values that {operator.label!r} makes are exactly 0 or 1. If its numbers "
            "are of images from 0 to 255, divide them by 255: images are in [0, 1]",
        )


def _check_strength(operator: Operator, images: Tensor, made: Tensor, step: Callable[..., Tensor], gated: bool) -> None:
    """A sweep over a strength that nothing reads would show that it does not matter."""
    if operator.strength == 1:
        return
    full = dataclasses.replace(operator, strength=1.0)
    drawn = full.draw(len(images), images.shape[-1], generator_at("contracts", "draw"))
    drawn = on_device({n: value for n, value in drawn.items() if not gated or n != "gate"}, images.device)
    if torch.equal(getattr(full, step.__name__)(images.clone(), drawn), made):
        raise broken(
            operator, "strength must change what the operator draws or makes",
            f"strength {operator.strength:g} gives the same images as 1",
            "Multiply the operator's magnitudes by self.strength in `sample`, or leave strength at 1.",
        )  # fmt: skip


def _tell_of_second_gate(operator: Operator, images: Tensor, params: Mapping[str, Tensor], made: Tensor) -> None:
    """A sweep over p would be one over its square. params, made: the draws without the gate, and the images, at p."""
    always = dataclasses.replace(operator, p=1.0)
    drawn = always.draw(len(images), images.shape[-1], generator_at("contracts", "draw"))
    drawn.pop("gate")
    alike = set(drawn) == set(params) and all(_equal(drawn[name], params[name].cpu()) for name in drawn)
    if not alike or _differ(always.apply(images.clone(), dict(params)), made):
        _say(
            operator,
            f"what {operator.label!r} draws or makes depends on p, which the base class applies already (it changes an "
            "image with probability p, and leaves it otherwise), so p counts twice. Read self.p in no method, or give "
            "the class a field of another name",
        )


def _saturated(images: Tensor) -> float:
    """The share of the values that are 0 or 1."""
    return ((images == 0) | (images == 1)).float().mean().item()


def _differ(some: Tensor, others: Tensor) -> bool:
    """Whether an image (B, C, S, S) is another one, by more than rounding."""
    return bool((((some - others).abs() > ALONE).flatten(1).float().mean(1) > FEW).any())


def _checked_draw(operator: Operator, batch: int, size: int) -> dict[str, Tensor]:
    own = type(operator).draw is not Operator.draw
    name, step = ("draw", operator.draw) if own else ("sample", operator.sample)
    cpu = torch.device("cpu")
    with _generators_untouched(operator, name, cpu):
        first, second = (step(batch, size, generator_at("contracts", "draw")) for _ in range(2))
        others = [step(batch, size, generator_at("contracts", "another draw", i)) for i in range(8)]
    rule = f"{name} must return a dict of CPU tensors whose first dimension is the batch ({batch} here)"
    cure = 'Write return {"factor": torch.rand(batch, generator=generator)}, or return {} where nothing is random.'
    if not isinstance(first, dict):
        raise broken(operator, rule, f"returned {_shown(first)}", cure)
    for key, value in first.items():
        fits = isinstance(key, str) and isinstance(value, Tensor) and value.device == cpu
        if not fits or value.ndim == 0 or len(value) != batch:
            raise broken(operator, rule, f"{key!r} is {_shown(value)}", cure)
        other = second.get(key)
        if not isinstance(other, Tensor) or not _equal(value, other):
            raise broken(
                operator, f"{name} must draw the same numbers from the same seed", f"{key!r} differs",
                "Draw with the generator that it is given: torch.rand(..., generator=generator).",
            )  # fmt: skip
    for key, value in first.items():
        drawn = [value, *(each[key] for each in others if key in each)]
        varies = not _equal(value, value[:1].expand_as(value))
        if varies and len(drawn) > len(others) and all(_equal(value, each) for each in drawn):
            raise broken(
                operator, f"{name} must draw from the generator that it is given",
                f"{key!r} differs from image to image and is the same for another seed",
                "Draw with that generator: torch.rand(..., generator=generator).",
            )  # fmt: skip
        alike = all(_equal(each, each[:1].expand_as(each)) for each in drawn)
        if batch > 8 and alike and not all(_equal(value, each) for each in drawn):
            _say(operator, f"{key!r} is one draw for the whole batch, so all images of a batch are changed alike")
    if "gate" in first and not own:
        raise broken(operator, f"{name} must not call anything 'gate'", "it does", "The gate is drawn by p; rename it.")
    if own and "gate" not in first and type(operator).transform is Operator.transform:
        raise broken(operator, "draw must return the gate", f"returned {', '.join(first)}", "Call super().draw(...).")
    return operator.draw(batch, size, generator_at("contracts", "draw"))


def _check_images(operator: Operator, name: str, given: Tensor, made: Any) -> None:
    size = operator.output_size(given.shape[-1])
    if not isinstance(made, Tensor):
        raise broken(operator, f"{name} must return images", f"returned {_shown(made)}", "End it with: return images.")
    shape = (*given.shape[:2], size, size)
    if tuple(made.shape) != shape:
        raise broken(
            operator, f"{name} must return images of the shape {shape}", f"returned {tuple(made.shape)}",
            "Keep the shape; where the class changes the size, let its output_size(size) say so.",
        )  # fmt: skip
    if size != given.shape[-1] and operator.p < 1:
        raise broken(operator, "p must be 1 where the size changes", f"is {operator.p:g}", "A batch has one size.")
    if made.dtype != torch.float32 or made.device != given.device:
        raise broken(
            operator, f"{name} must return float32 on the images' device", f"returned {_shown(made)}",
            "Compute in float32: x.float() / 255 where there were bytes.",
        )  # fmt: skip
    wrong = (~made.isfinite()).flatten(1).any(1)
    if wrong.any():
        raise broken(
            operator, f"{name} must return finite numbers", f"gave others for {wrong.sum()} of {len(made)} images",
            "A black and a white one are tried too: look at a division by what may be 0 there; clamp(min=1e-6).",
        )  # fmt: skip
    low, high = made.min().item(), made.max().item()
    if low < -ROUNDING or high > 1 + ROUNDING:
        raise broken(
            operator, f"{name} must return values in [0, 1]", f"gave {low:.4g} to {high:.4g}",
            "End it with .clamp(0, 1), or divide by 255 where there were bytes.",
        )  # fmt: skip


def check_unchanged(training: Training, data: Data, before: Sequence[tuple[Operator, Tensor]]) -> None:
    """After a training: that no operator of a user has changed under way. before: what `check_contracts` returned."""
    if not before:
        return
    images, made = _with_extremes(_first_images(data)), iter(before)
    for operator, _, make in _through(training.shared, training.views, images):
        if by_a_user(operator) and _differ(make()[: len(images) - 3].cpu(), next(made)[1]):
            raise _changed(operator, "after the training")


def operator_without_numbers(
    training: Training, data: Data, images: Tensor, batches: Sequence[Tensor], address: tuple[int | str, ...]
) -> str | None:
    """Of an epoch whose loss is no number: the operator that made a view of it not finite, if one did, as a sentence.

    batches: rows of the uint8 images; batch i has the address (*address, i). Makes the views of the epoch again.
    """
    for number, stored in enumerate(data.batches(images, list(batches))):
        place = (*address, number)
        views = make_views(stored, training.shared, training.views, place)
        if all(view.isfinite().all() for view in views):
            continue
        for length in range(1, len(training.shared) + 1):
            [made] = make_views(stored, training.shared[:length], ((),), place)
            if not made.isfinite().all():
                return _without_numbers(training.shared[length - 1], number)
        for branch, view in enumerate(training.views):
            for length in range(1, len(view) + 1):
                made = make_views(stored, training.shared, (view[:length],) * (branch + 1), place)[branch]
                if not made.isfinite().all():
                    return _without_numbers(view[length - 1], number)
    return None


def _without_numbers(operator: Operator, batch: int) -> str:
    seen = f"gave others in batch {batch + 1} of the epoch, and the loss became no number"
    cure = "Look for a division by what may be 0, or a root or logarithm of it; the learning rate has no part in it."
    return str(broken(operator, "apply must return finite numbers", seen, cure))


# --------------------------------------------------------------------------------------------------
# Encoders, methods, optimizers, schedules


def check_schedule(optimization: Optimization, images: int) -> None:
    """A user's, at every step of a training on so many images, or at 1,000 of them."""
    schedule = optimization.schedule
    steps = optimization.epochs * (images // optimization.batch)
    after = max(1, steps - round(optimization.warmup * steps))
    tried = range(0, after, math.ceil(after / 1000))
    rule = "factor(step, steps) must give the rate as a fraction of the optimizer's, from 0 to 1"
    with _generators_untouched(schedule, "factor", torch.device("cpu")):
        factors = [schedule.factor(step, after) for step in tried]
        again = [schedule.factor(step, after) for step in tried]
    for step, factor in zip(tried, factors, strict=True):
        number = isinstance(factor, (int, float)) and not isinstance(factor, bool)
        if not number or not 0 <= factor <= 1:
            seen = f"gave {_shown(factor)} at step {step} of {after}"
            raise broken(schedule, rule, seen, "Give a Python float; the optimizer has the full learning rate.")
    if factors != again:
        cure = "Compute it from step, steps and fields alone."
        raise broken(
            schedule, "factor must give the same for the same step", "gave other values when asked again", cure
        )
    if not any(factors):
        raise broken(schedule, rule, f"gave 0 at all of {after} steps", "A training needs a rate above 0.")
    if max(factors) < 0.5:
        _say(
            schedule, f"its largest factor is {max(factors):.3g}, so no step has the rate that tables and captions give"
        )


def check_encoder(spec: Any, encoder: Any) -> None:
    """What `build` returned, before a head is put on it."""
    if not isinstance(encoder, nn.Module):
        raise broken(
            spec, "build() must return a torch.nn.Module", f"returned {_shown(encoder)}", "Return the network."
        )
    features = getattr(encoder, "features", None)
    if not isinstance(features, int) or isinstance(features, bool) or features < 1:
        raise broken(
            spec, "build() must return a module with `features`, the dimension of h, as a whole number",
            f"{type(encoder).__name__} has {'none' if features is None else f'features = {_shown(features)}'}",
            "Write encoder.features = 512, say, before return encoder.",
        )  # fmt: skip


def _check_learner(training: Training, data: Data, some: Tensor, build: Callable[[], Learner]) -> None:
    """On views of the first batch in training mode, and on clean images `some` (uint8) in evaluation mode."""
    method, device = training.method, data.device
    learner, again = build(), build()
    if not isinstance(learner, Learner):
        raise broken(
            method, "build(encoder, classes) must return a Learner", f"returned {_shown(learner)}",
            "Let the module inherit from ablation.methods.Learner.",
        )  # fmt: skip
    for part in ("encoder", "head"):
        if not isinstance(getattr(learner, part), nn.Module):
            raise broken(
                method, f"the learner's {part} must be a torch.nn.Module", "it is not", "nn.Identity() is one."
            )
    for part in ("encoder", "head"):
        state = {name: value.contiguous() for name, value in getattr(learner, part).state_dict().items()}
        try:
            save(state)
        except (RuntimeError, TypeError, ValueError) as error:
            cause = str(error).strip().splitlines()[0][:100]
            cure = "Give each layer its own tensor, and keep tensors that can be recomputed out of state_dict."
            spec = training.encoder if part == "encoder" and by_a_user(training.encoder) else method
            raise broken(spec, f"the weights of the learner's {part} must be storable", cause, cure) from error
    for (name, one), other in zip(learner.state_dict().items(), again.state_dict().values(), strict=True):
        if isinstance(one, Tensor) and not _equal(one, other):
            spec = training.encoder if name.startswith("encoder.") else method
            raise broken(
                spec, "build must give the same weights for the same seed", f"{name} differs when it is built again",
                "Draw initial weights with torch, whose generator is set before; not with NumPy or by the clock.",
            )  # fmt: skip
    if by_a_user(training.encoder):
        _check_seeded(training.encoder, training.encoder.build)
    if by_a_user(method):
        _check_seeded(method, lambda: method.build(training.encoder.build(), len(data.classes)))
    learner = learner.to(device, memory_format=torch.channels_last)
    batch = min(training.optimization.batch, len(data.train))
    rows = distributed.share(torch.arange(batch, device=data.train.labels.device))
    [stored] = data.batches(data.train.images, [rows])
    part = (distributed.rank(), distributed.count())
    views = make_batches(stored, training.shared, training.views, [("contracts", "views")], transform, part)[0]
    views = [normalize(view, data.mean, data.std) for view in views]
    clean = normalize(some.float().div_(255), data.mean, data.std)
    bfloat16 = training.optimization.precision == "bfloat16"
    with (
        torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
        torch.autocast(device.type, torch.bfloat16, enabled=bfloat16),
    ):
        if by_a_user(training.encoder):
            _check_h(training.encoder, learner, views[0], clean)
        if by_a_user(method):
            _check_method(method, learner, views, data.train.labels[:batch].clone(), clean)
            _tell_of_unused_views(method, build, views, data.train.labels[:batch])
    if by_a_user(training.optimization.optimizer):
        _check_optimizer(training.optimization.optimizer, learner)
    if method.trains:
        check_steps(training, build, views, data.train.labels[:batch])


_seeded: set[Any] = set()  # specs whose weights were compared in this process


def _check_seeded(spec: Any, build: Callable[[], nn.Module]) -> None:
    """That weights come from the run's seed: what sets another one ends in the same state whatever it began with."""
    if spec in _seeded:
        return
    built, states = [], []
    for seed in range(2):
        with global_draws_at(torch.device("cpu"), "contracts", "seed", seed):
            weights = build().state_dict().values()
            built.append([_content(each) for each in weights if isinstance(each, Tensor) and each.ndim > 1])
            states.append(torch.get_rng_state())
    if torch.equal(*states):
        raise broken(
            spec, "build must not set torch's seed, which is the run's", "it does, so all seeds begin alike",
            "Remove torch.manual_seed.",
        )  # fmt: skip
    if built[0] and built[0] == built[1]:
        _say(spec, "weights begin alike for every seed, so the spread over seeds is that of views and order alone")
    _seeded.add(spec)


@torch.no_grad()
def check_kept(training: Training, data: Data, learner: Learner, build: Callable[[], Learner]) -> None:
    """After a training: that the weights which are kept are all that a user's encoder or method has learned."""
    if not by_a_user((training.encoder, training.method)):
        return
    again = build()
    again.load_state_dict(learner.state_dict())
    again = again.to(data.device, memory_format=torch.channels_last).eval()
    clean = normalize(_first_images(data).float().div_(255), data.mean, data.std)
    for spec, name in (training.encoder, "encoder"), (training.method, "project"):
        kept, found = (getattr(each, name)(clean).float() for each in (again, learner.eval()))
        apart = (kept - found).abs().max().item()
        if not apart <= ALONE * max(1.0, found.abs().max().item()):
            raise broken(
                spec, "all that a training changes must be kept with the weights",
                f"{'h' if name == 'encoder' else 'z'} differs by up to {apart:.2g} when the weights are read again",
                "Write self.register_buffer('centre', tensor) instead of self.centre = tensor.",
            )  # fmt: skip


@torch.no_grad()
def _check_h(spec: Any, learner: Learner, view: Tensor, clean: Tensor) -> None:
    encoder = learner.encoder
    found = {}
    for mode, images in ("training", view), ("evaluation", clean), ("evaluation, again,", clean):
        learner.train(mode == "training")
        with _generators_untouched(spec, "forward", None):
            h = encoder(images)
        _check_matrix(spec, f"in {mode} mode the encoder", h, len(images), encoder.features)
        found[mode] = h.float()
    apart = (found["evaluation"] - found["evaluation, again,"]).abs().max().item()
    if apart > ALONE * max(1.0, found["evaluation"].abs().max().item()):
        raise broken(
            spec, "in evaluation mode the encoder must give the same h for the same images",
            f"h differs by up to {apart:.2g} when it is computed again", "Let dropout and noise follow self.training.",
        )  # fmt: skip
    half = clean.flip(0)[: -(-len(clean) // 2)]
    with _generators_untouched(spec, "forward", None):
        among_others = encoder(half).float()
    largest = found["evaluation"].abs().max().item()
    apart = (among_others - found["evaluation"].flip(0)[: len(half)]).abs().max().item()
    if apart > (BFLOAT16 if torch.is_autocast_enabled(clean.device.type) else ALONE) * max(1.0, largest):
        raise broken(
            spec, "in evaluation mode the encoder must give h of each image from that image alone",
            f"h differs by up to {apart:.2g} among other images",
            "Take means over the last dimensions, not over the first, the batch, and keep the images' order.",
        )  # fmt: skip


def _check_matrix(spec: Any, who: str, found: Any, batch: int, features: int | None) -> None:
    wanted = f"({batch}, {features or 'dimension'})"
    fits = isinstance(found, Tensor) and found.is_floating_point() and found.ndim == 2 and len(found) == batch
    if not fits or (features is not None and found.shape[1] != features):
        raise broken(
            spec, f"{who} must give floating-point numbers of the shape {wanted}", f"gave {_shown(found)}",
            "End with x.flatten(1), and let `features` be what it then has." if features else "End with x.flatten(1).",
        )  # fmt: skip
    if not found.isfinite().all():
        raise broken(spec, f"{who} must give finite numbers", "some are not", "Look at its first layers and weights.")


def _check_method(spec: Any, learner: Learner, views: list[Tensor], labels: Tensor, clean: Tensor) -> None:
    with torch.no_grad():
        _check_matrix(spec, "project", learner.eval().project(clean), len(clean), None)
    with _generators_untouched(spec, "loss", None):
        returned = learner.train().loss(views, labels)
    check_loss(spec, returned)


_viewed: set[Any] = set()  # methods, and with how many views they were tried in this process


def _tell_of_unused_views(spec: Any, build: Callable[[], Learner], views: list[Tensor], labels: Tensor) -> None:
    """A grid over the operators of a view that no loss reads would show that they do not matter."""
    if (spec, len(views)) in _viewed:
        return
    device = labels.device

    def loss_of(some: list[Tensor], training: bool) -> float:
        learner = build().to(device, memory_format=torch.channels_last).train(training)
        with global_draws_at(device, "contracts", "unused views"):
            return learner.loss([view.clone() for view in some], labels.clone())[0].item()

    whole = [loss_of(views, training) for training in (True, False)]
    for number in range(len(views)):
        others = [-view if place == number else view for place, view in enumerate(views)]
        which = f"view {number + 1} of {len(views)}"
        if loss_of(others, True) == whole[0]:
            _say(spec, f"the loss does not depend on {which}, so nor on its operators")
        # In evaluation mode batch norm, which sees all views of a batch, carries nothing from one to the other.
        elif math.isclose(loss_of(others, False), whole[1], rel_tol=1e-6):
            _say(spec, f"the loss depends on {which} through the statistics of batch norm alone; is it read at all?")
    _viewed.add((spec, len(views)))


def check_steps(training: Training, build: Callable[[], Learner], views: list[Tensor], labels: Tensor) -> None:
    """A few steps of two learners that begin alike: their losses are the same, they change the encoder's weights, and
    nothing that no checkpoint keeps."""
    spec = training.method if by_a_user(training.method) else training.encoder
    losses = [_losses_of_steps(training, spec, build(), views, labels) for _ in range(2)]
    apart = max(abs(one - other) / max(1.0, abs(one)) for one, other in zip(*losses, strict=True))
    if apart > (ALONE if views[0].device.type == "cpu" else 0.02):  # also not where both are no number
        raise broken(
            spec, "the loss must be the same for the same weights, views and draws",
            f"it differs by up to {apart:.2g} between two learners that begin alike",
            "Draw with torch's functions, whose generator is set at every step; keep nothing outside of the learner.",
        )  # fmt: skip


def _losses_of_steps(
    training: Training, spec: Any, learner: Learner, views: list[Tensor], labels: Tensor
) -> list[float]:
    optimization, device = training.optimization, views[0].device
    learner = learner.to(device, memory_format=torch.channels_last).train()
    optimizer = optimization.optimizer.build(learner)
    encoder = [parameter for parameter in learner.encoder.parameters() if parameter.requires_grad]
    begun = [parameter.detach().clone() for parameter in encoder]
    losses, states = [], []
    for step in range(STEPS):
        with global_draws_at(device, "contracts", "step", step):
            with torch.autocast(device.type, torch.bfloat16, enabled=optimization.precision == "bfloat16"):
                loss, _ = learner.loss([view.clone() for view in views], labels.clone())
            if step == 0:
                _check_leaves(spec, learner, loss)
            loss.backward()
            if step == 0:
                _check_gradient(spec, learner)
            pulled = any(bool(parameter.grad.any()) for parameter in encoder)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            learner.after_step((step + 1) / 1000)
            states.append(torch.get_rng_state())
        losses.append(loss.item())
        if step == 0:
            kept = _beside_the_weights(learner, optimizer)  # what a first call makes, such as a table, may stay
    if torch.equal(*states[-2:]):
        raise broken(
            spec, "a step must not set torch's seed, which is set at every step", "one does, so all steps draw alike",
            "Remove torch.manual_seed.",
        )  # fmt: skip
    parts = [each for each in (training.optimization.optimizer, spec) if by_a_user(each)]
    # A first gradient may be 0, where the last layer begins with zeros; weight decay moves weights without any.
    if encoder and (not pulled or all(map(torch.equal, begun, encoder))):
        raise broken(
            parts[0], "steps must change the encoder's weights", f"{STEPS} steps leave all of them as they are",
            "Look at the learning rate, at the optimizer's step, and at factors of 0 in the loss.",
        )  # fmt: skip
    for name, content in _beside_the_weights(learner, optimizer).items():
        if kept.get(name) != content:
            of_optimizer = name.startswith("optimizer.")
            rule = "all that steps change must be kept in a checkpoint, so that a training may be continued"
            cure = "Write self.register_buffer('count', torch.zeros(())), say, instead of self.count = 0."
            cure = "Keep it in self.state[parameter]." if of_optimizer else cure
            seen = f"{name} changes from step to step and is in no checkpoint"
            raise broken(optimization.optimizer if of_optimizer else spec, rule, seen, cure)
    return losses


def _beside_the_weights(learner: Learner, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """What a learner and its optimizer hold that is in no state_dict, by name."""
    usual = set(vars(nn.Module())) | {"training"}
    found = {
        f"{name or 'learner'}.{key}": _content(value)
        for name, module in learner.named_modules()
        for key, value in vars(module).items()
        if key not in usual
    }
    plain = set(vars(torch.optim.SGD([torch.zeros(1)], lr=1.0)))
    return found | {f"optimizer.{k}": _content(v) for k, v in vars(optimizer).items() if k not in plain}


def _content(value: Any) -> Any:
    """What two values are compared by; of an object of another kind its class alone."""
    if isinstance(value, Tensor):
        flat = value.detach().cpu().contiguous().flatten()
        return tuple(value.shape), hashlib.sha256(flat.view(torch.uint8).numpy().tobytes()).hexdigest()
    if isinstance(value, np.ndarray):
        return value.shape, hashlib.sha256(value.tobytes()).hexdigest()
    if isinstance(value, nn.Module):
        return _content(value.state_dict())
    if isinstance(value, Mapping):
        return [(repr(key), _content(each)) for key, each in value.items()]
    if isinstance(value, (list, tuple, set, frozenset, deque)):
        return [_content(each) for each in value]
    if isinstance(value, random.Random):
        return value.getstate()
    if isinstance(value, np.random.Generator):
        return repr(value.bit_generator.state)
    if isinstance(value, torch.Generator):
        return value.get_state().tolist()
    return value if isinstance(value, (bool, int, float, complex, str, bytes, type(None))) else type(value).__name__


def _check_leaves(spec: Any, learner: Learner, loss: Tensor) -> None:
    """That the loss trains nothing that is not in a module of the learner."""
    own = {id(parameter) for parameter in learner.parameters()}
    others = [leaf for leaf in _leaves(loss) if id(leaf) not in own]
    if others:
        shapes = ", ".join(str(tuple(leaf.shape)) for leaf in others[:3])
        raise broken(
            spec, "the loss must use no other parameters than the learner's",
            f"{len(others)} are in none of its modules, of the shape {shapes}, so no step would change them",
            "Keep modules in an nn.ModuleList instead of a list, and a tensor as an nn.Parameter of the learner.",
        )  # fmt: skip


def _check_gradient(spec: Any, learner: Learner) -> None:
    """That the loss trains all of the encoder."""
    trained = {name: each for name, each in learner.encoder.named_parameters() if each.requires_grad}
    without = [name for name, parameter in trained.items() if parameter.grad is None]
    if without:
        raise broken(
            spec, "the loss must have a gradient by every parameter of the encoder",
            f"{len(without)} of {len(trained)} get none, among them {without[0]}",
            "Compute the loss from learner.encoder, not from a copy, and detach nothing on the way; set "
            "requires_grad=False on what must not be trained.",
        )  # fmt: skip


def _leaves(loss: Tensor) -> list[Tensor]:
    """The tensors that a backward pass gives a gradient to."""
    leaves, waiting, seen = [], [loss.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            leaves += [node.variable] if hasattr(node, "variable") else []
            waiting += [following for following, _ in node.next_functions]
    return leaves


def check_loss(spec: Any, returned: Any) -> None:
    """What `Learner.loss` returned."""
    rule = "loss must return (loss, metrics), a scalar that has a gradient and a dict"
    cure = "Write return loss, {}; or beside the loss {'accuracy': value.detach()}."
    pair = isinstance(returned, tuple) and len(returned) == 2
    if not pair or not isinstance(returned[0], Tensor) or not isinstance(returned[1], dict):
        raise broken(spec, rule, f"returned {_shown(returned)}", cure)
    loss, metrics = returned
    if loss.ndim or not loss.is_floating_point() or not loss.requires_grad:
        graph = "" if loss.requires_grad else " without a gradient"
        raise broken(spec, rule, f"the loss is {_shown(loss)}{graph}", "Take its mean; detach nothing on the way.")
    if not loss.isfinite():
        seen = f"it is {loss.item()} on the first batch, before any step"
        raise broken(spec, "the loss must be a finite number", seen, "Look at logarithms, roots and divisions.")
    for name, value in metrics.items():
        fits = isinstance(name, str) and isinstance(value, Tensor) and value.ndim == 0 and not value.requires_grad
        if fits and (name in NAMED or name.startswith("validation_")):
            raise broken(
                spec, "metrics must have names that no column has", f"one is called {name!r}", "Give it another name."
            )
        if not fits:
            raise broken(
                spec, "metrics must be 0-dimensional tensors without a gradient, by name",
                f"{name!r} is {_shown(value)}", "Write value.detach(), and its mean where it has more dimensions.",
            )  # fmt: skip


def _check_optimizer(spec: Any, learner: Learner) -> None:
    built = spec.build(learner)
    if not isinstance(built, torch.optim.Optimizer) or not all("lr" in group for group in built.param_groups):
        raise broken(
            spec, "build(module) must return a torch.optim.Optimizer whose groups have a rate `lr`",
            f"returned {_shown(built)}", "Return torch.optim.SGD(module.parameters(), lr=self.learning_rate), say.",
        )  # fmt: skip
    own = {id(parameter): name for name, parameter in learner.named_parameters()}
    given = {id(parameter) for group in built.param_groups for parameter in group["params"]}
    if not given or not given <= set(own):
        raise broken(spec, "build must use the learner's own parameters", "it uses others", "Use module.parameters().")
    stated, rates = getattr(spec, "learning_rate", None), {float(group["lr"]) for group in built.param_groups}
    if isinstance(stated, (int, float)) and not any(math.isclose(stated, rate, rel_tol=1e-6) for rate in rates):
        raise broken(
            spec, "build must use the field learning_rate, which tables and captions give",
            f"it is {stated!r} and the groups have {', '.join(map(repr, sorted(rates)))}",
            "Write lr=self.learning_rate, or give the field another name.",
        )  # fmt: skip
    encoder = {id(parameter) for parameter in learner.encoder.parameters()}
    groups = [group for group in built.param_groups if any(id(each) in encoder for each in group["params"])]
    rates = {float(group["lr"]) for group in groups}
    if isinstance(stated, (int, float)) and not any(math.isclose(stated, rate, rel_tol=1e-6) for rate in rates):
        _say(spec, f"tables and captions give the rate {stated!r}, and the encoder has {sorted(rates)}")
    left = [
        name for name, parameter in learner.named_parameters() if parameter.requires_grad and id(parameter) not in given
    ]
    if left:
        raise broken(
            spec, "every parameter that requires a gradient must be in a group of the optimizer",
            f"{len(left)} of {len(own)} are in none, among them {left[0]}",
            "Use module.parameters(), or set requires_grad=False on what must not be trained.",
        )  # fmt: skip


# --------------------------------------------------------------------------------------------------
# Evaluations


def check_evaluation(evaluation: Any, data: Data) -> None:
    """The operators of a user that an evaluation shows images through, before anything is computed."""
    operators = [operator for operator in _operators_in(evaluation) if by_a_user(operator)]
    if operators:
        check_views(_first_images(data), (), [(operator,) for operator in dict.fromkeys(operators)])


def _operators_in(value: Any) -> Iterator[Operator]:
    """The operators in a spec, those inside others first."""
    if isinstance(value, (tuple, list)):
        for item in value:
            yield from _operators_in(item)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for item in dataclasses.fields(value):
            yield from _operators_in(getattr(value, item.name))
    if isinstance(value, Operator):
        yield value


def check_evaluated(evaluation: Any, returned: Any, labels: Mapping[str, Tensor], classes: int) -> None:
    """What `evaluate` of a user's class returned. labels: of the images of each split."""
    if not by_a_user(evaluation):
        return
    if not isinstance(returned, tuple) or len(returned) != 3:
        raise broken(
            evaluation, "evaluate must return (metrics, predictions, notes)", f"returned {_shown(returned)}",
            'Write return {"test_top1": value}, {}, [].',
        )  # fmt: skip
    metrics, predictions, notes = returned
    rule = "evaluate must return metrics as a dict from names to Python floats, finite or not-a-number"
    if not isinstance(metrics, dict):
        raise broken(evaluation, rule, f"returned {_shown(metrics)}", 'Write {"test_top1": value}.')
    for name, value in metrics.items():
        number = isinstance(value, (int, float)) and not isinstance(value, bool) and not math.isinf(value)
        if not isinstance(name, str) or not number:
            raise broken(evaluation, rule, f"{name!r} is {_shown(value)}", "Write value.item() or float(value).")
    for name, value in metrics.items():
        if ACCURACY.search(name) and 0 < value <= 1 < 100 / classes:
            _say(evaluation, f"{name} is at most 1. If it is a share of one, multiply it by 100: figures show percent")
        if ACCURACY.search(name) and not 0 <= value <= 100 and not math.isnan(value):
            what = f"{name} is {value:g}, and an accuracy is 0 to 100 percent. Correct it, or give it another name"
            _say(evaluation, what, about=f"{name} is no accuracy")
    lengths = {split: len(each) for split, each in labels.items()}
    _check_predictions(evaluation, predictions, lengths, classes)
    for split, predicted in predictions.items():
        stated = metrics.get(f"{split}_top1", math.nan)
        right = predicted.cpu() == labels[split].cpu() if len(predicted) == lengths[split] else torch.zeros(0)
        counted = 100 * right.double().mean().item()
        if abs(stated - counted) > 0.01:
            raise broken(
                evaluation, f"{split}_top1 must be the accuracy of the predictions in percent",
                f"it is {stated:g}, and {right.sum().item()} of {len(right)} predictions are right, {counted:.2f} %",
                "Write 100 * (predicted == labels).double().mean().item(), or give the metric another name.",
            )  # fmt: skip
    if not isinstance(notes, (list, tuple)) or not all(isinstance(note, str) for note in notes):
        raise broken(evaluation, "evaluate must return notes as a list of strings", f"returned {_shown(notes)}", "[].")


def check_repeated(evaluation: Any, returned: tuple, again: tuple, device: torch.device) -> None:
    """That `evaluate` of a user's class gives the same when it is called again, global generators being as before."""
    (metrics, predictions, _), (others, predicted, _) = returned, again
    computed = {name: value for name, value in metrics.items() if not MEASURED.search(name)}
    apart = [n for n, value in computed.items() if not _near(value, others.get(n, math.nan), device)]
    if device.type == "cpu":  # a GPU adds in another order, which may turn single predictions
        apart += [s for s in predictions if s not in predicted or not torch.equal(predictions[s], predicted[s])]
    if apart:
        raise broken(
            evaluation, "evaluate must give the same for the same features and draws",
            f"{apart[0]!r} differs when it is called again",
            "Draw with generator_at(*features.address, ...) or torch's functions, and keep nothing from call to call.",
        )  # fmt: skip


def with_other_test_labels(features: Any, data: Data) -> tuple[Any, Data]:
    """Features and data with permuted test labels, as many of each class, for `check_test_labels`."""
    labels = data.test.labels
    dealt = labels[torch.randperm(len(labels), generator=generator_at("contracts", "test labels")).to(labels.device)]
    other = copy.copy(data)
    object.__setattr__(other, "test", Split(data.test.images, dealt))
    return dataclasses.replace(features, labels={**features.labels, "test": dealt}, data=other), other


def check_test_labels(evaluation: Any, returned: tuple, others: tuple, labels: Tensor) -> None:
    """That `evaluate` of a user's class predicts test images without their labels. others: what it returned of other
    test labels (`with_other_test_labels`); labels: the true ones, (N,)."""
    (metrics, predictions, _), (chance, predicted, _) = returned, others
    if "test" in predictions:
        changed = -1
        if "test" in predicted and predicted["test"].shape == predictions["test"].shape:
            changed = (predictions["test"] != predicted["test"]).sum().item()
        # A GPU adds in another order, which may turn single predictions.
        if not 0 <= changed <= (0 if labels.device.type == "cpu" else 0.02 * len(labels)):
            how_many = f"{changed} of {len(predictions['test'])}" if changed > 0 else "all"
            raise broken(
                evaluation, "evaluate must predict test images without their labels",
                f"with other test labels it predicts {how_many} otherwise",
                "Predict them from the images and labels of train and validation alone. Where test labels are meant to "
                "be used, as to match clusters with classes, return no predictions of test: {}.",
            )  # fmt: skip
        return
    most = 100 * torch.bincount(labels).max().item() / len(labels)
    for name in filter(TEST_ACCURACY.fullmatch, metrics):
        found, left = metrics[name], chance.get(name, math.nan)
        if found - most > 30 and left - most > 0.8 * (found - most):  # of few images chance gives some points too
            _say(
                evaluation,
                f"{name} is {found:.4g}, and {left:.4g} with other test labels. Does it predict test images from their "
                "own labels? Predict them from train and validation alone, and return what it predicts",
                about=f"{name} of other labels",
            )


def _near(one: float, other: float, device: torch.device) -> bool:
    tolerance = 1e-6 if device.type == "cpu" else 0.05
    return (math.isnan(one) and math.isnan(other)) or abs(one - other) <= tolerance * max(1.0, abs(one))


def _check_predictions(evaluation: Any, predictions: Any, lengths: Mapping[str, int], classes: int) -> None:
    rule = f"evaluate must return predictions as a dict from splits ({', '.join(lengths)}) to a whole number an image"
    if not isinstance(predictions, dict):
        raise broken(evaluation, rule, f"returned {_shown(predictions)}", "Write {} where there are none.")
    for split, labels in predictions.items():
        whole = isinstance(labels, Tensor) and not labels.is_floating_point() and not labels.is_complex()
        # A probe that shows every image in several versions predicts one after the other.
        fits = whole and labels.ndim == 1 and split in lengths and len(labels) and len(labels) % lengths[split] == 0
        if not fits:
            seen = f"{split!r} is {_shown(labels)}" + (f" for {lengths[split]} images" if split in lengths else "")
            raise broken(evaluation, rule, seen, "Write scores.argmax(1), a tensor, for all images of the split.")
        # One an image is a class of the data set; where there are several, the evaluation has classes of its own.
        highest = classes - 1 if len(labels) == lengths[split] else torch.iinfo(torch.int16).max
        if labels.min() < 0 or labels.max() > highest:
            raise broken(
                evaluation, f"predictions must be indices of classes, from 0 to {highest}",
                f"{split!r} holds {labels.min().item()} to {labels.max().item()}", "Write scores.argmax(1).",
            )  # fmt: skip


# --------------------------------------------------------------------------------------------------
# Sentences


def broken(spec: Any, rule: str, seen: str, cure: str) -> InvalidSpec:
    label = getattr(spec, "label", None)
    name = type(spec).__name__ + (f" ({label!r})" if isinstance(label, str) else "")
    return InvalidSpec(f"{name}: {rule}, but {seen}. {cure}")


def _shown(value: Any) -> str:
    """ "a tensor (8, 3) of int64 on cpu", "None", "a list"; on one line."""
    if isinstance(value, Tensor):
        kind = str(value.dtype).removeprefix("torch.")
        return f"a tensor {tuple(value.shape)} of {kind} on {value.device.type}"
    if value is None or isinstance(value, (bool, int, float, str)):
        return repr(value)[:80]
    if isinstance(value, tuple):
        return f"({', '.join(map(_shown, value[:4]))})"
    return f"a {type(value).__name__}"


def _equal(one: Tensor, other: Tensor) -> bool:
    """The same numbers; not-a-number equals itself."""
    return one.shape == other.shape and one.dtype == other.dtype and bool(((one == other) | (one != one)).all())


@contextmanager
def _generators_untouched(spec: Any, what: str, device: torch.device | None) -> Iterator[None]:
    """Refuses what draws from a global generator: of NumPy and Python, and of torch unless `device` is None."""
    before = _states(device)
    yield
    used = [name for name, state in _states(device).items() if state != before[name]]
    if used:
        from_where = "addressed, so that a run can be repeated" if device is None else "drawn from its own generator"
        cure = "Use torch's functions." if device is None else "Draw in `sample`, with the generator that it is given."
        raise broken(spec, f"random numbers must be {from_where}", f"{what} uses that of {', '.join(used)}", cure)


def _states(device: torch.device | None) -> dict[str, Any]:
    kind, words, *rest = np.random.get_state()
    states: dict[str, Any] = {"NumPy": (kind, words.tobytes(), *rest), "Python's random": random.getstate()}
    if device is not None:
        states["torch"] = torch.get_rng_state().numpy().tobytes()
    if device is not None and device.type == "cuda":
        states["torch on the GPU"] = torch.cuda.get_rng_state(device).numpy().tobytes()
    return states
