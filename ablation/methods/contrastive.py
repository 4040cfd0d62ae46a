"""Contrastive objectives: NT-Xent, NT-Logistic and margin loss (Chen et al. 2020, Table 2).

`loss(first, second)` takes z of the two views, (B, D) each, and returns a float32 scalar and metrics: the contrastive
accuracy, i.e. the fraction of anchors whose positive is nearer than any negative, and for NT-Xent the entropy of the
softmax in nats (their Table 5). All are computed outside autocast: similarities near 1 / temperature need float32.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, logsigmoid, normalize, relu

from ablation.methods.base import Metrics
from ablation.spec import Spec


@dataclass(frozen=True, kw_only=True)
class NTXent(Spec):
    """The normalized temperature-scaled cross entropy (equation 1).

    temperature: tau. l2_normalize: True for cosines, False for dot products (Table 5).
    """

    temperature: float = 0.5
    l2_normalize: bool = True

    @property
    def label(self) -> str:
        return "NT-Xent"

    def __post_init__(self):
        self.require_number("temperature", 0, above=True)

    def loss(self, first: Tensor, second: Tensor) -> tuple[Tensor, Metrics]:
        return nt_xent(first, second, self.temperature, l2_normalize=self.l2_normalize)


@dataclass(frozen=True, kw_only=True)
class NTLogistic(Spec):
    """-log sigmoid(u v+ / tau) - log sigmoid(-u v- / tau), the second a mean over the negatives; u, v on the sphere.

    Negatives are the other images in the other view (App. B.10). semi_hard: one negative per anchor, see `semi_hard`.
    """

    temperature: float = 0.5
    semi_hard: bool = False

    @property
    def label(self) -> str:
        return "NT-Logistic semi-hard" if self.semi_hard else "NT-Logistic"

    def __post_init__(self):
        self.require_number("temperature", 0, above=True)

    def loss(self, first: Tensor, second: Tensor) -> tuple[Tensor, Metrics]:
        positive, negatives, measured = similarities(first, second)
        negatives = semi_hard(positive, negatives) if self.semi_hard else negatives
        attraction = -logsigmoid(positive / self.temperature).mean()
        return attraction - _mean(logsigmoid(-negatives / self.temperature), negatives), measured


@dataclass(frozen=True, kw_only=True)
class Margin(Spec):
    """max(u v- - u v+ + margin, 0), a mean over the negatives (Schroff et al. 2015); u, v on the sphere."""

    margin: float = 0.8
    semi_hard: bool = False

    @property
    def label(self) -> str:
        return "margin semi-hard" if self.semi_hard else "margin"

    def __post_init__(self):
        self.require_number("margin", 0)

    def loss(self, first: Tensor, second: Tensor) -> tuple[Tensor, Metrics]:
        positive, negatives, measured = similarities(first, second)
        negatives = semi_hard(positive, negatives) if self.semi_hard else negatives
        return _mean(relu(negatives - positive[:, None] + self.margin), negatives), measured


def nt_xent(first: Tensor, second: Tensor, temperature: float, *, l2_normalize: bool = True) -> tuple[Tensor, Metrics]:
    """Mean over all 2B anchors. The positive is the image's other view; the 2B - 2 other embeddings are negatives."""
    with torch.autocast(first.device.type, enabled=False):
        z = torch.cat([first, second]).float()
        z = normalize(z, dim=1) if l2_normalize else z
        logits = z @ z.T / temperature
        logits.fill_diagonal_(float("-inf"))
        positive = torch.arange(len(z), device=z.device).roll(len(first))
        with torch.no_grad():
            log_p = logits.log_softmax(1)
            entropy = -(log_p.exp() * log_p.clamp(min=-1e4)).sum(1).mean()  # the anchor itself contributes 0
            accuracy = (logits.argmax(1) == positive).float().mean()
        return cross_entropy(logits, positive), {"contrastive_accuracy": accuracy, "contrastive_entropy": entropy}


def similarities(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor, Metrics]:
    """Cosines of the 2B anchors with their positive, (2B,), and with the other images in the other view, (2B, B).

    In the second, the positive's entry is -infinity.
    """
    with torch.autocast(first.device.type, enabled=False):
        cosines = normalize(first.float(), dim=1) @ normalize(second.float(), dim=1).T
        positive = cosines.diagonal().repeat(2)
        negatives = torch.cat([cosines, cosines.T])
        own = torch.eye(len(first), dtype=torch.bool, device=first.device).repeat(2, 1)
        negatives = negatives.masked_fill(own, float("-inf"))
        accuracy = (negatives.detach().amax(1) < positive.detach()).float().mean()
        return positive, negatives, {"contrastive_accuracy": accuracy}


def semi_hard(positive: Tensor, negatives: Tensor) -> Tensor:
    """(2B, 1): the nearest negative that is farther than the positive, else the farthest negative.

    FaceNet's choice (Schroff et al. 2015, section 3.2), with the fallback of its public implementations.
    """
    farther = negatives.masked_fill(negatives >= positive[:, None], float("-inf"))
    nearest = farther.amax(1, keepdim=True)
    farthest = negatives.masked_fill(negatives.isneginf(), float("inf")).amin(1, keepdim=True)
    return torch.where(nearest.isneginf(), farthest, nearest)


def _mean(terms: Tensor, negatives: Tensor) -> Tensor:
    """The mean over the entries that hold a negative."""
    real = ~negatives.isneginf()
    return torch.where(real, terms, torch.zeros_like(terms)).sum() / real.sum()
