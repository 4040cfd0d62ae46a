"""Checks of the contract of an operator (operators/base.py)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ablation.contracts.base import (
    ALONE,
    DARK,
    FEW,
    LARGER,
    ROUNDING,
    SATURATED,
    broken,
    by_a_user,
    equal,
    first_images,
    generators_untouched,
    say,
    shown,
    with_extremes,
)
from ablation.data import Data
from ablation.operators import FromKornia, Operator
from ablation.operators.base import on_device, transform
from ablation.operators.pipeline import CHUNK, make_views
from ablation.spec import InvalidSpec, Training, content_of, operators_in
from ablation.spec.randomness import generator_at

_first: dict[tuple, list[Tensor]] = {}  # small results of a user's operators in the first run of this process


def check_as_first(training: Training, results: Sequence[tuple[Operator, Tensor]]) -> None:
    """Checks that a user's operators give the same results as in the first run of this process."""
    small = [nn.functional.adaptive_avg_pool2d(images, 4) for _, images in results]
    first = _first.setdefault((content_of(training.dataset), training.dataset, training.shared, training.views), small)
    for (operator, _), one, other in zip(results, first, small, strict=True):
        if (one - other).abs().flatten(1).mean(1).max() > 3 * ALONE:  # more than one pixel crossing a threshold
            raise _changed(operator, "in a later run")


def _changed(operator: Operator, when: str) -> InvalidSpec:
    return broken(
        operator, "an operator must always give the same result for the same images and draws",
        f"{when} its result differs from before",
        "Keep no state between calls and use no clock: results may depend only on fields and draws.",
    )  # fmt: skip


def check_views(
    stored: Tensor, shared: Sequence[Operator], views: Sequence[Sequence[Operator]]
) -> list[tuple[Operator, Tensor]]:
    """Checks each of a user's operators on the results of those before it, starting from uint8 images (B, C, S, S).
    Returns their results."""
    images = with_extremes(stored)
    tried: set[tuple[Operator, int]] = set()
    results = []
    for operator, given, apply in _through(shared, views, images):
        for each in reversed(list(operators_in(operator))):  # inner before outer
            if by_a_user(each) and (each, given.shape[-1]) not in tried:
                check_operator(each, given)
                tried.add((each, given.shape[-1]))
        results += [(operator, apply()[: len(stored)].cpu())] if by_a_user(operator) else []
    return results


def results_of(
    stored: Tensor, shared: Sequence[Operator], views: Sequence[Sequence[Operator]]
) -> Iterator[tuple[Operator, Tensor]]:
    """Each operator with its result, on the results of those before it, starting from uint8 images (B, C, S, S)."""
    for operator, _, apply in _through(shared, views, stored.float().div_(255)):
        yield operator, apply()


def _through(
    shared: Sequence[Operator], views: Sequence[Sequence[Operator]], images: Tensor
) -> Iterator[tuple[Operator, Tensor, Callable[[], Tensor]]]:
    """Each operator with its input images, and a function that applies it to them."""

    def in_sequence(operators: Sequence[Operator], images: Tensor) -> Iterator:
        for number, operator in enumerate(operators):
            apply = partial(_applied, operator, images, number)
            yield operator, images, apply
            images = apply()
        return images

    common = yield from in_sequence(shared, images)
    for view in views:
        yield from in_sequence(view, common)


def _applied(operator: Operator, images: Tensor, number: int) -> Tensor:
    """The operator on images (B, C, S, S) float32 in [0, 1], with fixed draws, one set for each number."""
    drawn = operator.draw(len(images), images.shape[-1], generator_at("contracts", "views", number))
    return transform(operator, images, on_device(drawn, images.device))


class _Draws(dict):
    """The numbers of `sample`, which explain themselves if another one is read."""

    def __init__(self, operator: Operator, function: str, draws: Mapping[str, Tensor]):
        super().__init__(draws)
        self.operator, self.function = operator, function

    def __missing__(self, name: str) -> Tensor:
        raise broken(
            self.operator, f"{self.function} may read only numbers that sample returns",
            f"it reads {name!r}, and sample returned {', '.join(map(repr, self)) or 'none'}",
            "Add it to the dict in sample, or correct the name.",
        )  # fmt: skip


def check_operator(operator: Operator, images: Tensor) -> None:
    """Checks the draws of `sample`, and `apply` on images (B, C, S, S) float32 in [0, 1]: together, again, in another
    order and alone."""
    params = _checked_draw(operator, len(images), images.shape[-1])
    gated = type(operator).transform is Operator.transform  # otherwise the class itself selects the images to change
    if gated and 0 in (operator.p, operator.strength):
        return
    name, step = ("apply", operator.apply) if gated else ("transform", operator.transform)
    params = on_device({n: value for n, value in params.items() if not gated or n != "gate"}, images.device)

    def result_of(rows: Tensor) -> Tensor:
        given = images[rows]
        with generators_untouched(operator, name, images.device):
            result = step(given, _Draws(operator, name, {n: value[rows] for n, value in params.items()}))
        _check_images(operator, name, images[rows], result)
        if not gated and not torch.equal(given, images[rows]):  # apply gets a copy
            raise broken(operator, f"{name} must not change its images", "it does so in place", "Work on a copy.")
        return result

    every = torch.arange(len(images), device=images.device)
    whole, again = result_of(every), result_of(every)
    _warn_of_empty_images(operator, images, whole)
    _check_strength(operator, images, whole, step, gated)
    if gated and operator.p < 1:
        _warn_of_second_gate(operator, images, params, whole)
    apart = (whole - again).abs().max().item()
    if apart > (ROUNDING if images.device.type == "cpu" else ALONE):
        raise broken(
            operator, f"{name} must give the same result for the same images and parameters",
            f"a second call differs by up to {apart:.2g}",
            "Draw all random numbers in `sample`, from its generator, and keep no state between calls.",
        )  # fmt: skip
    shuffled = torch.randperm(len(images), generator=generator_at("contracts", "order")).to(images.device)
    most = max(len(images), min(LARGER, CHUNK // images[0].numel()))
    larger = every.repeat(-(-most // len(images)))[:most]
    batches = (shuffled, "in another order"), (every[:1], "alone"), (every[-3:-2], "alone"), (larger, "among more")
    for rows, batch in batches:
        if _differ(result_of(rows), whole[rows]):
            raise broken(
                operator, f"{name} must compute each image from that image and its own parameters",
                f"an image has another result {batch} than in the batch",
                "Take means, extremes and shuffles over the last dimensions, not over the batch (the first).",
            )  # fmt: skip


def _warn_of_empty_images(operator: Operator, images: Tensor, result: Tensor) -> None:
    """Warns if the operator changes nothing, or if its results show little or nothing."""
    if result.shape == images.shape and torch.equal(result, images):
        say(operator, f"{operator.label!r} changes none of {len(images)} images in this place")
    if bool((result.flatten(2) == result.flatten(2)[..., :1]).all()):
        say(operator, f"{operator.label!r} makes every image one color, in this place")
    elif result.max() < DARK < images.max():
        say(
            operator,
            f"{operator.label!r} makes all images, even a white one, darker than {DARK:g} of 1. If it divides by 255, "
            "remove the division: images are in [0, 1] already",
        )
    elif _saturated(result) > SATURATED > 2 * _saturated(images):
        say(
            operator,
            f"{_saturated(result):.0%} of the values from {operator.label!r} are exactly 0 or 1. If its constants are "
            "for images from 0 to 255, divide them by 255: images are in [0, 1]",
        )


def _check_strength(
    operator: Operator, images: Tensor, result: Tensor, step: Callable[..., Tensor], gated: bool
) -> None:
    """Checks that strength has an effect: otherwise a sweep over it would find that it does not matter."""
    if operator.strength == 1:
        return
    full = dataclasses.replace(operator, strength=1.0)
    drawn = full.draw(len(images), images.shape[-1], generator_at("contracts", "draw"))
    drawn = on_device({n: value for n, value in drawn.items() if not gated or n != "gate"}, images.device)
    if torch.equal(getattr(full, step.__name__)(images.clone(), drawn), result):
        raise broken(
            operator, "strength must change the operator's draws or results",
            f"strength {operator.strength:g} gives the same images as 1",
            "Multiply the operator's magnitudes by self.strength in `sample`, or leave strength at 1.",
        )  # fmt: skip


def _warn_of_second_gate(operator: Operator, images: Tensor, params: Mapping[str, Tensor], result: Tensor) -> None:
    """Warns about a class that applies p itself: a sweep over p would be one over its square. params, result: the draws
    without the gate, and the resulting images, at p."""
    always = dataclasses.replace(operator, p=1.0)
    drawn = always.draw(len(images), images.shape[-1], generator_at("contracts", "draw"))
    drawn.pop("gate")
    alike = set(drawn) == set(params) and all(equal(drawn[name], params[name].cpu()) for name in drawn)
    if not alike or _differ(always.apply(images.clone(), dict(params)), result):
        say(
            operator,
            f"draws or results of {operator.label!r} depend on p, but the base class already applies p (it changes an "
            "image with probability p), so p counts twice. Do not read self.p in any method, or give the class a "
            "field of another name",
        )


def _saturated(images: Tensor) -> float:
    """The share of values that are 0 or 1."""
    return ((images == 0) | (images == 1)).float().mean().item()


def _differ(some: Tensor, others: Tensor) -> bool:
    """Whether any image (B, C, S, S) differs by more than rounding."""
    return bool((((some - others).abs() > ALONE).flatten(1).float().mean(1) > FEW).any())


def _checked_draw(operator: Operator, batch: int, size: int) -> dict[str, Tensor]:
    own = type(operator).draw is not Operator.draw
    name, step = ("draw", operator.draw) if own else ("sample", operator.sample)
    cpu = torch.device("cpu")
    with generators_untouched(operator, name, cpu):
        first, second = (step(batch, size, generator_at("contracts", "draw")) for _ in range(2))
        others = [step(batch, size, generator_at("contracts", "another draw", i)) for i in range(8)]
    rule = f"{name} must return a dict of CPU tensors whose first dimension is the batch ({batch} here)"
    cure = 'Write return {"factor": torch.rand(batch, generator=generator)}, or return {} if nothing is random.'
    if not isinstance(first, dict):
        raise broken(operator, rule, f"returned {shown(first)}", cure)
    for key, value in first.items():
        fits = isinstance(key, str) and isinstance(value, Tensor) and value.device == cpu
        if not fits or value.ndim == 0 or len(value) != batch:
            raise broken(operator, rule, f"{key!r} is {shown(value)}", cure)
        other = second.get(key)
        if not isinstance(other, Tensor) or not equal(value, other):
            raise broken(
                operator, f"{name} must draw the same numbers from the same seed", f"{key!r} differs",
                "Draw from its argument: torch.rand(..., generator=generator).",
            )  # fmt: skip
    for key, value in first.items():
        drawn = [value, *(each[key] for each in others if key in each)]
        varies = not equal(value, value[:1].expand_as(value))
        if varies and len(drawn) > len(others) and all(equal(value, each) for each in drawn):
            raise broken(
                operator, f"{name} must draw from its argument `generator`",
                f"{key!r} varies over images and is the same for another seed",
                "Write torch.rand(..., generator=generator).",
            )  # fmt: skip
        alike = all(equal(each, each[:1].expand_as(each)) for each in drawn)
        if batch > 8 and alike and not all(equal(value, each) for each in drawn):
            whose = f"{key!r} of {operator.label!r} is one draw for the whole batch"
            say(operator, f"{whose}, so all images of a batch change alike")
    if "gate" in first and not own:
        cure = "Rename it: the base class draws the gate."
        raise broken(operator, f"{name} must not return a draw named 'gate'", "it does", cure)
    if own and "gate" not in first and type(operator).transform is Operator.transform:
        raise broken(operator, "draw must return the gate", f"returned {', '.join(first)}", "Call super().draw(...).")
    return operator.draw(batch, size, generator_at("contracts", "draw"))


def _check_images(operator: Operator, name: str, given: Tensor, result: Any) -> None:
    size = operator.output_size(given.shape[-1])
    if not isinstance(result, Tensor):
        raise broken(operator, f"{name} must return images", f"returned {shown(result)}", "End it with: return images.")
    shape = (*given.shape[:2], size, size)
    if tuple(result.shape) != shape:
        raise broken(
            operator, f"{name} must return images of shape {shape}", f"returned {tuple(result.shape)}",
            "Keep the shape, or return the new size from output_size(size).",
        )  # fmt: skip
    if size != given.shape[-1] and operator.p < 1:
        raise broken(operator, "p must be 1 if the size changes", f"is {operator.p:g}", "A batch has one size.")
    if result.dtype != torch.float32 or result.device != given.device:
        raise broken(
            operator, f"{name} must return float32 on the images' device", f"returned {shown(result)}",
            "Compute in float32; convert bytes by x.float() / 255.",
        )  # fmt: skip
    wrong = (~result.isfinite()).flatten(1).any(1)
    if wrong.any():
        raise broken(
            operator, f"{name} must return finite numbers", f"{wrong.sum()} of {len(result)} images have others",
            "The check includes a black and a white image: look for a division by 0 there; clamp(min=1e-6).",
        )  # fmt: skip
    low, high = result.min().item(), result.max().item()
    if low < -ROUNDING or high > 1 + ROUNDING:
        raise broken(
            operator, f"{name} must return values in [0, 1]", f"returned {low:.4g} to {high:.4g}",
            "Set clamp=True, which clips them." if isinstance(operator, FromKornia) else
            "End it with .clamp(0, 1); divide bytes by 255.",
        )  # fmt: skip


def check_unchanged(training: Training, data: Data, before: Sequence[tuple[Operator, Tensor]]) -> None:
    """After a training: checks that no user's operator changed meanwhile. before: the result of `check_contracts`."""
    if not before:
        return
    images, earlier = with_extremes(first_images(data)), iter(before)
    for operator, _, apply in _through(training.shared, training.views, images):
        if by_a_user(operator) and _differ(apply()[: len(images) - 3].cpu(), next(earlier)[1]):
            raise _changed(operator, "after the training")


def operator_without_numbers(
    training: Training, data: Data, images: Tensor, batches: Sequence[Tensor], address: tuple[int | str, ...]
) -> str | None:
    """For an epoch with a loss that is not finite: a sentence about the operator that made a view not finite, if any.

    batches: rows of the uint8 images; batch i has the address (*address, i). Computes the epoch's views again.
    """
    for number, stored in enumerate(data.batches(images, list(batches))):
        place = (*address, number)
        views = make_views(stored, training.shared, training.views, place)
        if all(view.isfinite().all() for view in views):
            continue
        for length in range(1, len(training.shared) + 1):
            [result] = make_views(stored, training.shared[:length], ((),), place)
            if not result.isfinite().all():
                return _without_numbers(training.shared[length - 1], number)
        for branch, view in enumerate(training.views):
            for length in range(1, len(view) + 1):
                result = make_views(stored, training.shared, (view[:length],) * (branch + 1), place)[branch]
                if not result.isfinite().all():
                    return _without_numbers(view[length - 1], number)
    return None


def _without_numbers(operator: Operator, batch: int) -> str:
    seen = f"batch {batch + 1} of the epoch has others, and so has the loss"
    cure = "Look for a division by 0, or a root or logarithm of 0; the learning rate is not the cause."
    return str(broken(operator, "apply must return finite numbers", seen, cure))
