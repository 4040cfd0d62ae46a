"""DCL and DCLW (Yeh et al. 2022, arXiv:2110.06848): SimCLR with a decoupled contrastive loss."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ablation.methods.base import Metrics
from ablation.methods.simclr import SimCLR
from ablation.spec import Spec


@dataclass(frozen=True, kw_only=True)
class Decoupled(Spec):
    """NT-Xent without the positive in the denominator (equations 6 and 7).

    temperature: tau. sigma: of the positive's weights w_i = 2 - B softmax_i(u1 . u2 / sigma), which are larger for
    positives that are far apart (0.5 in the paper); None for weights of 1. The loss may be negative.
    """

    temperature: float = 0.1
    sigma: float | None = None

    @property
    def label(self) -> str:
        return "DCL" if self.sigma is None else "DCLW"

    def __post_init__(self):
        self.require_number("temperature", 0, above=True)
        if self.sigma is not None:
            self.require_number("sigma", 0, above=True)

    def loss(self, first: Tensor, second: Tensor) -> tuple[Tensor, Metrics]:
        with torch.autocast(first.device.type, enabled=False):
            first, second = normalize(first.float(), dim=1), normalize(second.float(), dim=1)
            u = torch.cat([first, second])
            cosines, images = u @ u.T, torch.arange(len(first), device=u.device).repeat(2)
            positive = (first * second).sum(1)
            negatives = cosines.masked_fill(images[:, None] == images, float("-inf"))
            repulsion = (negatives / self.temperature).logsumexp(1).mean()
            attraction = (self._weights(positive) * positive / self.temperature).mean()
            accuracy = (negatives.detach().amax(1) < positive.detach().repeat(2)).float().mean()
            return repulsion - attraction, {"contrastive_accuracy": accuracy}

    def _weights(self, positive: Tensor) -> Tensor:
        """w, (B,), of mean 1, without gradient."""
        if self.sigma is None:
            return torch.ones_like(positive)
        return 2 - len(positive) * (positive.detach() / self.sigma).softmax(0)


@dataclass(frozen=True, kw_only=True)
class DCL(SimCLR):
    """SimCLR with the positive left out of the denominator.

    L is the mean over the two views a, with the other view b, and the images i of
    -u_i^a . u_i^b / tau + log sum_{j != i} [exp(u_i^a . u_j^a / tau) + exp(u_i^a . u_j^b / tau)], u = n(z) (equations 6
    and 7). Fields as SimCLR's; objective: `Decoupled`, with tau as its temperature.

    Published: until June 2025, so for every published number, lightly added two logarithms, of the same view's and of
    the other view's exponentials, instead of the logarithm of their sum.
    """

    label = "DCL"

    objective: Any = field(default_factory=Decoupled)


@dataclass(frozen=True, kw_only=True)
class DCLW(SimCLR):
    """DCL with weighted positives.

    L is DCL's with the positive u_i^a . u_i^b / tau times w_i = 2 - B softmax_i(u_i^1 . u_i^2 / sigma), of mean 1 and
    without gradient. Fields as SimCLR's; objective: `Decoupled`, with sigma.

    Published: lightly's numbers as DCL's.
    """

    label = "DCLW"

    objective: Any = field(default_factory=lambda: Decoupled(sigma=0.5))
