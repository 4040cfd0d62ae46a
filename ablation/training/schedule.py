"""The learning rate and the weight decay of every step."""

from __future__ import annotations

import math

import torch

from ablation.spec import InvalidSpec, Optimization


class Schedule:
    """Sets the rate of an optimizer's groups, and the weight decay of those that decay, if it changes."""

    def __init__(self, optimizer: torch.optim.Optimizer, optimization: Optimization, steps: int):
        self.optimizer, self.optimization, self.steps = optimizer, optimization, steps
        self.rates = [group["lr"] for group in optimizer.param_groups]
        self.decays = [group.get("weight_decay", 0) for group in optimizer.param_groups]
        if optimization.weight_decay_end is not None and not any(self.decays):
            raise InvalidSpec(
                "Optimization.weight_decay_end needs an optimizer with weight decay, but no parameter group of "
                f"{type(optimization.optimizer).__name__} decays. Give it a weight_decay above 0, the first value."
            )

    def set(self, step: int) -> None:
        factor = self.optimization.rate(step, self.steps)
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor
        end = self.optimization.weight_decay_end
        if end is not None:
            falling = 0.5 * (1 + math.cos(math.pi * step / self.steps))
            for group, first in zip(self.optimizer.param_groups, self.decays, strict=True):
                if first:
                    group["weight_decay"] = end + (first - end) * falling
