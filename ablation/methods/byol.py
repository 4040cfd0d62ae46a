"""BYOL (Grill et al. 2020, arXiv:2006.07733)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from ablation.methods.base import BATCH_NORM, Learner, Method, Metrics, Progress, embed, embed_and_predict, mlp
from ablation.methods.momentum import Momentum, rising


@dataclass(frozen=True, kw_only=True)
class BYOL(Method):
    """A predictor maps each view's z to the other view's z from a momentum copy of encoder and projector.

    L = mean |n(p1) - n(t2)|^2 + mean |n(p2) - n(t1)|^2 in [0, 8], n(x) = x / |x|, t of the copy (equation 2).

    momentum, momentum_end: of the copy, along a half cosine. hidden: the hidden layer of projector and predictor;
    dimension: of z and p.

    Published: lightly's numbers with ResNet-18 used SimCLR's views, a constant momentum and -(cos + cos) / 2, a quarter
    of this gradient; on ImageNet the copy starts with another head.
    """

    label = "BYOL"

    momentum: float = 0.99
    momentum_end: float = 1.0
    hidden: int = 4096
    dimension: int = 256
    batch_norm: str = "separate"

    def __post_init__(self):
        self.require_number("momentum", 0, 1)
        self.require_number("momentum_end", 0, 1)
        self.require_count("hidden")
        self.require_count("dimension")
        self.require_choice("batch_norm", BATCH_NORM)

    def build(self, encoder: nn.Module, classes: int) -> BYOLLearner:
        return BYOLLearner(encoder, mlp(encoder.features, self.hidden, self.dimension), self)


class BYOLLearner(Learner):
    def __init__(self, encoder: nn.Module, head: nn.Module, method: BYOL):
        super().__init__(encoder, head, method.batch_norm)
        self.method = method
        self.teacher = Momentum(encoder, head)
        self.predictor = mlp(method.dimension, method.hidden, method.dimension)

    def loss(self, views: list[Tensor], labels: Tensor | None) -> tuple[Tensor, Metrics]:
        _, (p1, p2) = embed_and_predict(self, self.predictor, views)
        t1, t2 = embed(self.teacher, nn.Identity(), views, self.batch_norm)
        with torch.autocast(p1.device.type, enabled=False):
            return _distance(p1, t2) + _distance(p2, t1), {}

    def after_step(self, progress: Progress) -> None:
        momentum = rising(self.method.momentum, self.method.momentum_end, progress.fraction)
        self.teacher.follow(momentum, self.encoder, self.head)


def _distance(p: Tensor, t: Tensor) -> Tensor:
    """The mean over rows of |n(p) - n(t)|^2."""
    return (normalize(p, dim=1) - normalize(t, dim=1)).square().sum(1).mean()
