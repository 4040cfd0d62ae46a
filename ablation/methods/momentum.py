"""Momentum copies and queues, shared by several methods."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize


class Momentum(nn.Module):
    """A copy of modules that follows them: teacher <- m teacher + (1 - m) student (He et al. 2020, equation 2).

    Runs without gradient, in the student's mode: its batch norms see its own batches and keep their own running
    statistics. Averages all parameters, including batch norm's weight and bias, in float32, since 1 - m is below
    bfloat16's resolution.
    """

    def __init__(self, *modules: nn.Module):
        super().__init__()
        self.copies = nn.ModuleList(copy.deepcopy(module) for module in modules).requires_grad_(False)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        for module in self.copies:
            x = module(x)
        return x

    @torch.no_grad()
    def follow(self, momentum: float, *modules: nn.Module) -> None:
        """One step towards the parameters of `modules`."""
        own = [p for module in self.copies for p in module.parameters()]
        others = [p for module in modules for p in module.parameters()]
        torch._foreach_lerp_(own, others, 1 - momentum)


def rising(start: float, end: float, fraction: float) -> float:
    """A momentum that follows a half cosine from `start` to `end` over the training (Grill et al. 2020, App. F)."""
    return end - (end - start) * (math.cos(math.pi * fraction) + 1) / 2


class Queue(nn.Module):
    """The latest rows, newest first, (size, dimension), in a buffer, so checkpoints include them; at first random ones
    of length 1.

    It shifts rows instead of using a ring, so it is exact even if the batch does not divide the size.
    """

    def __init__(self, size: int, dimension: int):
        super().__init__()
        self.register_buffer("rows", normalize(torch.randn(size, dimension), dim=1))

    @torch.no_grad()
    def push(self, rows: Tensor) -> None:
        self.rows.copy_(torch.cat([rows.detach(), self.rows])[: len(self.rows)])
