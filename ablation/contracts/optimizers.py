"""Checks of the contracts of optimizers and schedules."""

from __future__ import annotations

import math
from typing import Any

import torch

from ablation.contracts.base import broken, generators_untouched, say, shown
from ablation.methods import Learner
from ablation.spec import Optimization


def check_schedule(optimization: Optimization, images: int) -> None:
    """Checks a user's schedule at every step of a training on `images` images, or at 1,000 of them."""
    schedule = optimization.schedule
    steps = optimization.epochs * (images // optimization.batch)
    after = max(1, steps - round(optimization.warmup * steps))
    tried = range(0, after, math.ceil(after / 1000))
    rule = "factor(step, steps) must return the rate as a fraction of the optimizer's, from 0 to 1"
    with generators_untouched(schedule, "factor", torch.device("cpu")):
        factors = [schedule.factor(step, after) for step in tried]
        again = [schedule.factor(step, after) for step in tried]
    for step, factor in zip(tried, factors, strict=True):
        number = isinstance(factor, (int, float)) and not isinstance(factor, bool)
        if not number or not 0 <= factor <= 1:
            seen = f"returned {shown(factor)} at step {step} of {after}"
            raise broken(schedule, rule, seen, "Return a Python float; the optimizer has the full learning rate.")
    if factors != again:
        cure = "Compute it from step, steps and fields alone."
        raise broken(
            schedule, "factor must return the same for the same step", "returned other values at a second call", cure
        )
    if not any(factors):
        raise broken(schedule, rule, f"returned 0 at all of {after} steps", "A training needs a rate above 0.")
    if max(factors) < 0.5:
        say(
            schedule,
            f"its largest factor is {max(factors):.3g}, so no step reaches the rate that tables and captions show",
        )


def check_optimizer(spec: Any, learner: Learner) -> None:
    built = spec.build(learner)
    if not isinstance(built, torch.optim.Optimizer) or not all("lr" in group for group in built.param_groups):
        raise broken(
            spec, "build(module) must return a torch.optim.Optimizer whose groups have a rate `lr`",
            f"returned {shown(built)}", "Return torch.optim.SGD(module.parameters(), lr=self.learning_rate), say.",
        )  # fmt: skip
    own = {id(parameter): name for name, parameter in learner.named_parameters()}
    given = {id(parameter) for group in built.param_groups for parameter in group["params"]}
    if not given or not given <= set(own):
        raise broken(spec, "build must use the learner's own parameters", "it uses others", "Use module.parameters().")
    stated, rates = getattr(spec, "learning_rate", None), {float(group["lr"]) for group in built.param_groups}
    if isinstance(stated, (int, float)) and not any(math.isclose(stated, rate, rel_tol=1e-6) for rate in rates):
        raise broken(
            spec, "build must use the field learning_rate, which tables and captions show",
            f"it is {stated!r} and the groups have {', '.join(map(repr, sorted(rates)))}",
            "Write lr=self.learning_rate, or give the field another name.",
        )  # fmt: skip
    encoder = {id(parameter) for parameter in learner.encoder.parameters()}
    groups = [group for group in built.param_groups if any(id(each) in encoder for each in group["params"])]
    rates = {float(group["lr"]) for group in groups}
    if isinstance(stated, (int, float)) and not any(math.isclose(stated, rate, rel_tol=1e-6) for rate in rates):
        say(spec, f"tables and captions show the rate {stated!r}, but the encoder has {sorted(rates)}")
    left = [
        name for name, parameter in learner.named_parameters() if parameter.requires_grad and id(parameter) not in given
    ]
    if left:
        raise broken(
            spec, "every parameter that requires a gradient must be in a group of the optimizer",
            f"{len(left)} of {len(own)} are in none, among them {left[0]}",
            "Use module.parameters(), or set requires_grad=False on frozen parameters.",
        )  # fmt: skip
