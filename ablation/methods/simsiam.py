"""SimSiam (Chen and He 2021, arXiv:2011.10566) and FastSiam (Pototzky et al. 2022)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from ablation.methods.base import BATCH_NORM, Learner, Method, Metrics, embed_and_predict, mlp


@dataclass(frozen=True, kw_only=True)
class SimSiam(Method):
    """A predictor maps each view's z to the other view's, which passes no gradient.

    L = (D(p1, z2) + D(p2, z1)) / 2 with D(p, z) = -mean cos(p, z) (equations 1 and 4).

    layers: of the projector, 3 in the paper, 2 in the authors' CIFAR-10 experiments; its last batch norm has no weight
    and bias. hidden, dimension: of its hidden layers and of z; bottleneck: the predictor's hidden layer. The authors'
    option to keep the predictor's rate constant is not offered.

    Published: lightly's last batch norm has weight and bias at 32 px.
    """

    label = "SimSiam"

    layers: int = 2
    hidden: int = 2048
    dimension: int = 2048
    bottleneck: int = 512
    batch_norm: str = "separate"

    def __post_init__(self):
        for name in ("layers", "hidden", "dimension", "bottleneck"):
            self.require_count(name)
        self.require_choice("batch_norm", BATCH_NORM)

    def build(self, encoder: nn.Module, classes: int) -> SimSiamLearner:
        hidden = [self.hidden] * (self.layers - 1)
        return SimSiamLearner(encoder, mlp(encoder.features, *hidden, self.dimension, last="plain batch"), self)


@dataclass(frozen=True, kw_only=True)
class FastSiam(SimSiam):
    """SimSiam with several views: each predicts the mean z of the others, L = 1/V sum_i D(p_i, mean_{j != i} z_j).

    Two views make SimSiam; the paper uses four. z is not normalized before the mean, as in lightly's code. Fields as
    SimSiam's.

    Published: lightly's numbers on CIFAR-10, 90.6 with batches of 128 and 78.8 with 512, have the same learning rate.
    """

    label = "FastSiam"
    branches: ClassVar[int | None] = None
    least: ClassVar[int] = 2


class SimSiamLearner(Learner):
    def __init__(self, encoder: nn.Module, head: nn.Module, method: SimSiam):
        super().__init__(encoder, head, method.batch_norm)
        self.predictor = mlp(method.dimension, method.bottleneck, method.dimension)

    def loss(self, views: list[Tensor], labels: Tensor | None) -> tuple[Tensor, Metrics]:
        z, p = embed_and_predict(self, self.predictor, views)
        with torch.autocast(p[0].device.type, enabled=False):
            return -sum(cosine_similarity(each, _others(z, i)).mean() for i, each in enumerate(p)) / len(p), {}


def _others(z: list[Tensor], i: int) -> Tensor:
    """The mean of the other views' z, without gradient."""
    return torch.stack([each.detach() for j, each in enumerate(z) if j != i]).mean(0)
