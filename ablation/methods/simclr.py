"""SimCLR (Chen et al. 2020, arXiv:2002.05709)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from ablation.methods.base import BATCH_NORM, Learner, Method, mlp


@dataclass(frozen=True, kw_only=True)
class SimCLR(Method):
    """NT-Xent on the projection of two views.

    temperature: tau of equation 1; hidden, dimension: sizes of the projection head's hidden layer and of z.
    batch_norm: "joint" (both branches one batch, the authors' code) or "separate".
    """

    label = "SimCLR"

    temperature: float = 0.5
    hidden: int = 512
    dimension: int = 128
    batch_norm: str = "joint"

    def __post_init__(self):
        self.require_number("temperature", 0, above=True)
        self.require_count("hidden")
        self.require_count("dimension")
        self.require_choice("batch_norm", BATCH_NORM)

    def build(self, encoder: nn.Module, classes: int) -> SimCLRLearner:
        head = mlp(encoder.features, self.hidden, self.dimension)
        return SimCLRLearner(encoder, head, self.batch_norm, self.temperature)


class SimCLRLearner(Learner):
    def __init__(self, encoder: nn.Module, head: nn.Module, batch_norm: str, temperature: float):
        super().__init__(encoder, head, batch_norm)
        self.temperature = temperature

    def loss(self, views: list[Tensor], labels: Tensor) -> Tensor:
        first, second = self.embed(views)
        value, accuracy = nt_xent(first, second, self.temperature)
        self.measured = {"contrastive_accuracy": accuracy}
        return value


def nt_xent(first: Tensor, second: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """The normalized temperature-scaled cross entropy (equation 1), mean over all 2B anchors.

    first, second: z of the two views, (B, D). An anchor's positive is the other view of its image, its
    negatives are the 2B - 2 others. Also returns the contrastive accuracy: the fraction of anchors whose
    positive is the nearest of the 2B - 1.
    """
    # Computed outside autocast: similarities near 1 / temperature need float32.
    with torch.autocast(first.device.type, enabled=False):
        z = normalize(torch.cat([first, second]).float(), dim=1)
        logits = z @ z.T / temperature
        logits.fill_diagonal_(float("-inf"))
        positive = torch.arange(len(z), device=z.device).roll(len(first))
        accuracy = (logits.detach().argmax(1) == positive).float().mean()
        return cross_entropy(logits, positive), accuracy
