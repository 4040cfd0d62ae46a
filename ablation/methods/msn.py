"""MSN (Assran et al. 2022, arXiv:2204.07141) and PMSN (Assran et al. 2023, arXiv:2210.07277)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ablation.methods.base import Learner, Method, Metrics, Progress, embed, mlp, of_one_size
from ablation.methods.momentum import Momentum
from ablation.methods.patches import check_patches
from ablation.methods.prototypes import NormalizedPrototypes, sinkhorn
from ablation.operators.base import Annotations
from ablation.system.distributed import gather

STRETCH = 1.25  # the momentum's line ends after 1.25 trainings (authors' code)


@dataclass(frozen=True, kw_only=True)
class MSN(Method):
    """A masked view and small views predict the prototypes that a momentum copy gives to another view of the image.

    T = sinkhorn(softmax(t / tau_t)) of the first view, by the copy, without gradient; P = softmax(s / tau) of each
    other view; s and t are cosines with prototypes. L = mean over those views and images of -sum T log P, plus
    lambda KL(mean P || pi) (equations 1 and 2), pi uniform. The second view is large and has a `PatchMask`; the
    encoder, a ViT, sees only its kept patches. Further views may be smaller.

    temperature: tau; teacher_temperature: tau_t. prototypes: their number. regularization: lambda. power: of pi, with
    pi_k ~ k^-power. momentum: of the copy, rising linearly to 1 over 1.25 trainings. hidden, dimension: of the head's
    two hidden layers and of z.

    Published: the authors clip the gradient's norm at 3 and mask the same patches in all images of a batch. In
    lightly's code prototypes stay at their random start, the small views are masked, too, the last patch is never seen,
    and the momentum is constant.
    """

    label = "MSN"
    branches: ClassVar[int | None] = None
    least: ClassVar[int] = 2
    multi_crop: ClassVar[bool] = True
    transformer: ClassVar[bool] = True
    annotations: ClassVar[tuple[str, ...]] = ("kept",)
    masked: ClassVar[tuple[int, ...] | None] = (1,)
    metrics: ClassVar[tuple[str, ...]] = ("regularizer",)

    temperature: float = 0.1
    teacher_temperature: float = 0.025
    prototypes: int = 1024
    regularization: float = 1.0
    power: float = 0.0
    momentum: float = 0.996
    hidden: int = 2048
    dimension: int = 256

    def __post_init__(self):
        for name in ("temperature", "teacher_temperature"):
            self.require_number(name, 0, above=True)
        for name in ("regularization", "power"):
            self.require_number(name, 0)
        self.require_number("momentum", 0, 1)
        self.require_count("prototypes", 2)
        for name in ("hidden", "dimension"):
            self.require_count(name)

    def check(self, training: Any) -> None:
        check_patches(training)

    def build(self, encoder: nn.Module, classes: int) -> MSNLearner:
        sizes = (encoder.features, self.hidden, self.hidden, self.dimension)
        return MSNLearner(encoder, mlp(*sizes, activation=nn.GELU), self)


@dataclass(frozen=True, kw_only=True)
class PMSN(MSN):
    """MSN with a power law as the prior of the prototypes, pi_k ~ k^-power (equation 2 with another pi).

    Fields as MSN's.

    Published: lightly's number has MSN's differences, and its divergence is reversed and took probabilities for
    logarithms.
    """

    label = "PMSN"

    power: float = 0.25


class MSNLearner(Learner):
    def __init__(self, encoder: nn.Module, head: nn.Module, method: MSN):
        super().__init__(encoder, head)
        self.method = method
        self.prototypes = NormalizedPrototypes(method.dimension, method.prototypes, decays=False)
        self.teacher = Momentum(encoder, head)
        prior = torch.arange(1, method.prototypes + 1, dtype=torch.float64) ** -method.power
        self.register_buffer("prior", (prior / prior.sum()).float())

    def loss(
        self, views: list[Tensor], labels: Tensor | None, annotations: list[Annotations] | None = None
    ) -> tuple[Tensor, Metrics]:
        method = self.method
        z = self._anchors(views, annotations[1]["kept"])
        [t] = embed(self.teacher, nn.Identity(), views[:1], self.batch_norm)
        with torch.autocast(z.device.type, enabled=False):
            log_p = (self.prototypes(z) / method.temperature).log_softmax(1)
            targets = self._targets(t).repeat(len(views) - 1, 1)
            prediction = -(targets * log_p).sum(1).mean()
            mean = log_p.exp().mean(0)
            regularizer = (mean * (mean.log() - self.prior.log())).sum()
        return prediction + method.regularization * regularizer, {"regularizer": regularizer.detach()}

    def _anchors(self, views: list[Tensor], kept: Tensor) -> Tensor:
        """z of all views but the first, one after another, of the global batch."""
        h = [self.encoder(views[1], kept=kept), *(self.encoder(torch.cat(some)) for some in of_one_size(views[2:]))]
        return torch.cat([gather(z) for z in self.head(torch.cat(h)).float().chunk(len(views) - 1)])

    @torch.no_grad()
    def _targets(self, t: Tensor) -> Tensor:
        scores = self.prototypes(t) / self.method.teacher_temperature
        return sinkhorn(scores.log_softmax(1), 1.0)

    def after_step(self, progress: Progress) -> None:
        momentum = self.method.momentum + (1 - self.method.momentum) * progress.fraction / STRETCH
        self.teacher.follow(momentum, self.encoder, self.head)

    def evaluated(self) -> tuple[nn.Module, nn.Module]:
        return self.teacher.copies[0], self.teacher.copies[1]
