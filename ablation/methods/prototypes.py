"""Prototypes, and codes over them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, normalize


class Prototypes(nn.Module):
    """Scores of z against K learned unit vectors, without a bias (Caron et al. 2020, arXiv:2006.09882).

    `normalize_rows` normalizes them in place after each step, as in the authors' code.
    """

    def __init__(self, dimension: int, count: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(count, dimension))
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)  # as nn.Linear
        self.normalize_rows()

    @torch.no_grad()
    def normalize_rows(self) -> None:
        self.weight.copy_(normalize(self.weight, dim=1))

    def forward(self, z: Tensor) -> Tensor:
        """Cosines, (N, K), of z (N, D) of any length."""
        return linear(normalize(z, dim=1), self.weight)


class NormalizedPrototypes(nn.Module):
    """As `Prototypes`, but rows of any length are normalized in every forward pass, with gradient. decays: whether
    optimizers decay them."""

    def __init__(self, dimension: int, count: int, decays: bool = True):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(count, dimension))
        nn.init.uniform_(self.weight, -(dimension**-0.5), dimension**-0.5)
        self.weight.decays = decays

    def forward(self, z: Tensor) -> Tensor:
        """Cosines, (N, K), of z (N, D) of any length."""
        return linear(normalize(z, dim=1), normalize(self.weight, dim=1))


@torch.no_grad()
def sinkhorn(scores: Tensor, epsilon: float, iterations: int = 3) -> Tensor:
    """Codes Q, (N, K), with rows of sum 1, which use all prototypes about equally (equation 3).

    scores (N, K): cosines. Each iteration equalizes prototypes, then images, so that the rows end with a sum of exactly
    1. float32: exp(1 / 0.05) overflows float16.
    """
    q = torch.exp((scores.float() - scores.max()) / epsilon)
    q = q / q.sum()
    for _ in range(iterations):
        q = q / q.sum(0, keepdim=True) / q.shape[1]
        q = q / q.sum(1, keepdim=True) / q.shape[0]
    return q * q.shape[0]


def cross_entropy_of(codes: Tensor, scores: Tensor, temperature: float) -> Tensor:
    """Mean over rows of -sum_k Q_k log softmax(scores / temperature)_k."""
    return -(codes * (scores.float() / temperature).log_softmax(1)).sum(1).mean()
