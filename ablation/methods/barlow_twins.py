"""Barlow Twins (Zbontar et al. 2021, arXiv:2103.03230)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ablation.methods.base import BATCH_NORM, Learner, Method, Metrics, mlp
from ablation.spec import added_later


@dataclass(frozen=True, kw_only=True)
class BarlowTwins(Method):
    """Pulls the cross-correlation matrix of the two views' z to the identity.

    L = sum_i (1 - C_ii)^2 + lambda sum_{i != j} C_ij^2, C = A^T A' / B, A and A' the two views' z, standardized over
    the batch (equations 1 and 2).

    trade_off: lambda; layers, hidden, dimension: number of the head's layers, and sizes of the hidden ones and of z.
    batch_norm: "separate" (one branch after the other, the authors' code) or "joint".

    Published: lightly's numbers with ResNet-18 used SimCLR's views.
    """

    label = "Barlow Twins"

    trade_off: float = 5e-3
    hidden: int = 2048
    dimension: int = 2048
    layers: int = added_later(default=3)
    batch_norm: str = "separate"

    def __post_init__(self):
        self.require_number("trade_off", 0)
        self.require_count("hidden")
        self.require_count("dimension")
        self.require_count("layers")
        self.require_choice("batch_norm", BATCH_NORM)

    def build(self, encoder: nn.Module, classes: int) -> BarlowTwinsLearner:
        head = mlp(encoder.features, *[self.hidden] * (self.layers - 1), self.dimension)
        return BarlowTwinsLearner(encoder, head, self.batch_norm, self.trade_off)


class BarlowTwinsLearner(Learner):
    def __init__(self, encoder: nn.Module, head: nn.Module, batch_norm: str, trade_off: float):
        super().__init__(encoder, head, batch_norm)
        self.trade_off = trade_off

    def loss(self, views: list[Tensor], labels: Tensor | None) -> tuple[Tensor, Metrics]:
        first, second = self.embed(views)
        return barlow_twins(first, second, self.trade_off), {}


def barlow_twins(first: Tensor, second: Tensor, trade_off: float) -> Tensor:
    """sum_i (1 - C_ii)^2 + lambda sum_{i != j} C_ij^2, C = A^T B / N (equations 1 and 2).

    first, second: z of the two views, (N, D); A and B are the same, standardized along the batch (population
    variance plus 1e-5, as the authors' batch norm without affine parameters).
    """
    with torch.autocast(first.device.type, enabled=False):
        correlation = _standardize(first.float()).T @ _standardize(second.float()) / len(first)
        on_diagonal = correlation.diagonal()
        invariance = (1 - on_diagonal).square().sum()
        redundancy = correlation.square().sum() - on_diagonal.square().sum()
        return invariance + trade_off * redundancy


def _standardize(z: Tensor) -> Tensor:
    variance, mean = torch.var_mean(z, 0, correction=0)
    return (z - mean) * torch.rsqrt(variance + 1e-5)
