"""EMP-SSL (Tong et al. 2023, arXiv:2304.03977)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, normalize

from ablation.methods.base import BATCH_NORM, Learner, Method, Metrics, mlp


@dataclass(frozen=True, kw_only=True)
class EMPSSL(Method):
    """Pulls the z of many views of an image to their mean, and spreads each view's z over the batch.

    L = -1/V sum_v [lambda mean cos(z_v, zbar) + R(Z_v)], zbar the mean of an image's z,
    R(Z) = 1/2 logdet(I + D / (B epsilon) Z^T Z) the total coding rate, z of length 1 (equation 4). The paper has 20 to
    200 views of a quarter of the image.

    invariance: lambda. epsilon: epsilon^2 of the paper, epsilon of its code. hidden, dimension: of the head's two
    hidden layers and of z.

    Published: the authors' numbers are of a mean of the projector's first hidden layer over 128 views of each image,
    ours of h of the whole image, as for every method. lightly's loss has the coding rate with the opposite sign, so it
    minimizes it.
    """

    label = "EMP-SSL"
    branches: ClassVar[int | None] = None
    least: ClassVar[int] = 2
    metrics: ClassVar[tuple[str, ...]] = ("similarity", "coding_rate")

    invariance: float = 200.0
    epsilon: float = 0.2
    hidden: int = 4096
    dimension: int = 1024
    batch_norm: str = "joint"

    def __post_init__(self):
        self.require_number("invariance", 0)
        self.require_number("epsilon", 0, above=True)
        self.require_count("hidden")
        self.require_count("dimension")
        self.require_choice("batch_norm", BATCH_NORM)

    def build(self, encoder: nn.Module, classes: int) -> EMPSSLLearner:
        return EMPSSLLearner(encoder, mlp(encoder.features, self.hidden, self.hidden, self.dimension), self)


class EMPSSLLearner(Learner):
    def __init__(self, encoder: nn.Module, head: nn.Module, method: EMPSSL):
        super().__init__(encoder, head, method.batch_norm)
        self.method = method

    def loss(self, views: list[Tensor], labels: Tensor | None) -> tuple[Tensor, Metrics]:
        z = torch.stack(self.embed(views))
        with torch.autocast(z.device.type, enabled=False):
            z = normalize(z, dim=2)
            similarity = cosine_similarity(z, z.mean(0), dim=2).mean()
            rate = coding_rate(z, self.method.epsilon).mean()
        loss = -self.method.invariance * similarity - rate
        return loss, {"similarity": similarity.detach(), "coding_rate": rate.detach()}


def coding_rate(z: Tensor, epsilon: float) -> Tensor:
    """R(Z) of each of z, (V, B, D); (V,). By the smaller of the two Gram matrices, which have the same determinant."""
    rows, columns = z.shape[-2:]
    gram = z.mT @ z if columns <= rows else z @ z.mT
    matrix = torch.eye(len(gram[0]), device=z.device) + columns / (rows * epsilon) * gram
    return torch.linalg.cholesky_ex(matrix).L.diagonal(dim1=-2, dim2=-1).log().sum(-1)
