"""The learning rate of every step."""

from __future__ import annotations

import torch

from ablation.spec import Optimization


class Schedule:
    """Sets the rate of an optimizer's groups."""

    def __init__(self, optimizer: torch.optim.Optimizer, optimization: Optimization, steps: int):
        self.optimizer, self.optimization, self.steps = optimizer, optimization, steps
        self.rates = [group["lr"] for group in optimizer.param_groups]

    def set(self, step: int) -> None:
        factor = self.optimization.rate(step, self.steps)
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor
