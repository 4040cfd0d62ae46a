"""TiCo (Zhu et al. 2022, arXiv:2206.10698)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from ablation.methods.base import Learner, Method, Metrics, Progress, embed, mlp
from ablation.methods.momentum import Momentum, rising


@dataclass(frozen=True, kw_only=True)
class TiCo(Method):
    """Pulls the first view's z to that of the second by a momentum copy, and out of the directions that z has used.

    u = n(z1), v = n(t2), C_t = beta C_{t-1} + (1 - beta) u^T u / B from C_0 = 0, not centred;
    L = 1 - mean u . v + rho mean u C_t u^T (section 3).

    covariance: rho, the weight of the second term; memory: beta. through_covariance: whether gradient flows through
    this step's u^T u (as in a public port; lightly's code stops it since January 2024). momentum, momentum_end: of the
    copy, along a half cosine. hidden, dimension: of the projector.

    Published: lightly's number on Imagenette is of covariance=20 and SimCLR's views; in its number on ImageNet, 49.7,
    its maintainers suspected a fault.
    """

    label = "TiCo"
    metrics = ("invariance", "covariance")

    covariance: float = 8.0
    memory: float = 0.9
    through_covariance: bool = True
    momentum: float = 0.99
    momentum_end: float = 1.0
    hidden: int = 1024
    dimension: int = 256

    def __post_init__(self):
        self.require_number("covariance", 0)
        for name in ("memory", "momentum", "momentum_end"):
            self.require_number(name, 0, 1)
        self.require("through_covariance", isinstance(self.through_covariance, bool), "be True or False")
        self.require_count("hidden")
        self.require_count("dimension")

    def build(self, encoder: nn.Module, classes: int) -> TiCoLearner:
        return TiCoLearner(encoder, mlp(encoder.features, self.hidden, self.dimension), self)


class TiCoLearner(Learner):
    def __init__(self, encoder: nn.Module, head: nn.Module, method: TiCo):
        super().__init__(encoder, head, "separate")
        self.method = method
        self.teacher = Momentum(encoder, head)
        self.register_buffer("covariance", torch.zeros(method.dimension, method.dimension))

    def loss(self, views: list[Tensor], labels: Tensor | None) -> tuple[Tensor, Metrics]:
        method = self.method
        [z] = self.embed(views[:1])
        [t] = embed(self.teacher, nn.Identity(), views[1:], self.batch_norm)
        with torch.autocast(z.device.type, enabled=False):
            u, v = normalize(z, dim=1), normalize(t, dim=1)
            now = u if method.through_covariance else u.detach()
            covariance = method.memory * self.covariance.clone() + (1 - method.memory) * now.T @ now / len(u)
            invariance = 1 - (u * v).sum(1).mean()
            spread = (u @ covariance * u).sum(1).mean()
        with torch.no_grad():
            self.covariance.copy_(covariance)
        metrics = {"invariance": invariance.detach(), "covariance": spread.detach()}
        return invariance + method.covariance * spread, metrics

    def after_step(self, progress: Progress) -> None:
        momentum = rising(self.method.momentum, self.method.momentum_end, progress.fraction)
        self.teacher.follow(momentum, self.encoder, self.head)
