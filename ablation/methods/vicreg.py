"""VICReg (Bardes et al. 2022, arXiv:2105.04906)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss, relu

from ablation.methods.base import BATCH_NORM, Learner, Method, Metrics, mlp
from ablation.spec import added_later


@dataclass(frozen=True, kw_only=True)
class VICReg(Method):
    """Makes the two views' z similar (invariance), each dimension vary over the batch (variance), and different
    dimensions uncorrelated (covariance).

    L = lambda s + mu (v1 + v2) / 2 + nu (c1 + c2): s the mean of (z1 - z2)^2 over batch and dimensions; v the mean over
    dimensions of max(0, 1 - sqrt(Var + 1e-4)); c the sum of squared covariances of different dimensions, divided by D
    (equations 1 to 6; equation 5 has no mean over dimensions, the authors' code has).

    invariance, variance, covariance: lambda, mu and nu (section 4.2). The variance term is the mean over
    the two views, as in the authors' code; equation 6 has their sum, twice this weight. layers, hidden, dimension:
    number of the head's layers, and sizes of the hidden ones and of z. batch_norm: "separate" (the authors' code) or
    "joint".

    Published: on ImageNet lightly's head has two layers, and batch norm takes both views together. By its comment,
    training diverges without LARS.
    """

    label = "VICReg"
    metrics = ("invariance", "variance", "covariance")

    invariance: float = 25.0
    variance: float = 25.0
    covariance: float = 1.0
    hidden: int = 2048
    dimension: int = 2048
    layers: int = added_later(default=3)
    batch_norm: str = "separate"

    def __post_init__(self):
        for name in ("invariance", "variance", "covariance"):
            self.require_number(name, 0)
        self.require_count("hidden")
        self.require_count("dimension", 2)
        self.require_count("layers")
        self.require_choice("batch_norm", BATCH_NORM)

    def build(self, encoder: nn.Module, classes: int) -> VICRegLearner:
        head = mlp(encoder.features, *[self.hidden] * (self.layers - 1), self.dimension)
        return VICRegLearner(encoder, head, self)


class VICRegLearner(Learner):
    def __init__(self, encoder: nn.Module, head: nn.Module, method: VICReg):
        super().__init__(encoder, head, method.batch_norm)
        self.method = method

    def loss(self, views: list[Tensor], labels: Tensor | None) -> tuple[Tensor, Metrics]:
        first, second = self.embed(views)
        with torch.autocast(first.device.type, enabled=False):
            invariance = mse_loss(first, second)
            (v1, c1), (v2, c2) = variance_and_covariance(first), variance_and_covariance(second)
            variance, covariance = (v1 + v2) / 2, c1 + c2
        weights = self.method
        loss = weights.invariance * invariance + weights.variance * variance + weights.covariance * covariance
        return loss, {
            "invariance": invariance.detach(),
            "variance": variance.detach(),
            "covariance": covariance.detach(),
        }


def variance_and_covariance(z: Tensor) -> tuple[Tensor, Tensor]:
    """v(Z) and c(Z) of equations 1, 3 and 4, averaged over the leading dimensions of z, (..., N, D).

    v: the mean over dimensions of max(0, 1 - sqrt(Var + 1e-4)), Var unbiased. c: the sum of squared covariances of
    different dimensions, divided by D.
    """
    variances, squares = SecondMoments.apply(z.float())
    others = squares - variances.square().sum(-1)
    return relu(1 - torch.sqrt(variances + 1e-4)).mean(), others.mean() / z.shape[-1]


class SecondMoments(torch.autograd.Function):
    """Variances (..., D), and the sum of all squared covariances (...), of z (..., N, D), both unbiased.

    With C the covariances and Z the centred z, the gradient is 2 / (N - 1) Z (2 g C + diag(v)): one product, where
    autograd would take two and more passes over C.
    """

    @staticmethod
    def forward(ctx: Any, z: Tensor) -> tuple[Tensor, Tensor]:
        centred = z - z.mean(-2, keepdim=True)
        covariance = (centred.mT @ centred).div_(z.shape[-2] - 1)
        ctx.save_for_backward(centred, covariance)
        return covariance.diagonal(dim1=-2, dim2=-1).clone(), covariance.square().sum((-2, -1))

    @staticmethod
    def backward(ctx: Any, of_variances: Tensor, of_squares: Tensor) -> Tensor:
        centred, covariance = ctx.saved_tensors
        inner = covariance * (2 * of_squares[..., None, None])
        inner.diagonal(dim1=-2, dim2=-1).add_(of_variances)
        return (centred @ inner).mul_(2 / (centred.shape[-2] - 1))
