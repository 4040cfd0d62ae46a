"""NNCLR (Dwibedi et al. 2021, arXiv:2104.14548)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from ablation.methods.base import BATCH_NORM, Learner, Method, Metrics, embed_and_predict, mlp
from ablation.methods.contrastive import nt_xent
from ablation.methods.momentum import Queue

NEGATIVES = ("predictions", "both")


@dataclass(frozen=True, kw_only=True)
class NNCLR(Method):
    """Contrasts a view's prediction with the nearest neighbour of the other view's z among earlier z.

    L = (l(N(z1), p2) + l(N(z2), p1)) / 2 with l(N, p) = CE(n(N) n(p)^T / tau, own row), N(z) the row of the queue with
    the largest cosine, n(x) = x / |x| (equation 4). Gradient flows through p only. The first view's z enter the queue
    after both look-ups.

    temperature: tau. queue: its number of z. negatives: those of a neighbour are the other "predictions"; with "both",
    NT-Xent on (N, p) has the other neighbours too, as in lightly's code. layers, hidden, dimension: of the projector,
    whose last layer has batch norm; predictor: its hidden layer.

    Published: lightly's numbers are of negatives="both" and temperature 0.5.
    """

    label = "NNCLR"

    temperature: float = 0.1
    queue: int = 4096
    negatives: str = "predictions"
    layers: int = 2
    hidden: int = 2048
    dimension: int = 256
    predictor: int = 4096
    batch_norm: str = "separate"

    def __post_init__(self):
        self.require_number("temperature", 0, above=True)
        for name in ("queue", "layers", "hidden", "dimension", "predictor"):
            self.require_count(name)
        self.require_choice("negatives", NEGATIVES)
        self.require_choice("batch_norm", BATCH_NORM)

    def build(self, encoder: nn.Module, classes: int) -> NNCLRLearner:
        hidden = [self.hidden] * (self.layers - 1)
        return NNCLRLearner(encoder, mlp(encoder.features, *hidden, self.dimension, last="batch"), self)


class NNCLRLearner(Learner):
    def __init__(self, encoder: nn.Module, head: nn.Module, method: NNCLR):
        super().__init__(encoder, head, method.batch_norm)
        self.method = method
        self.predictor = mlp(method.dimension, method.predictor, method.dimension)
        self.queue = Queue(method.queue, method.dimension)

    def loss(self, views: list[Tensor], labels: Tensor | None) -> tuple[Tensor, Metrics]:
        (z1, z2), (p1, p2) = embed_and_predict(self, self.predictor, views)
        with torch.autocast(z1.device.type, enabled=False):
            halves = [self._half(self._neighbours(z1), p2), self._half(self._neighbours(z2), p1)]
            self.queue.push(normalize(z1.detach(), dim=1))
        loss, accuracy = (sum(values) / 2 for values in zip(*halves, strict=True))
        return loss, {"contrastive_accuracy": accuracy}

    @torch.no_grad()
    def _neighbours(self, z: Tensor) -> Tensor:
        """Of each row of z, (B, D), the nearest row of the queue, of length 1."""
        rows = self.queue.rows.clone()
        return rows[(normalize(z, dim=1) @ rows.T).argmax(1)]

    def _half(self, neighbours: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
        if self.method.negatives == "both":
            loss, metrics = nt_xent(neighbours, p, self.method.temperature)
            return loss, metrics["contrastive_accuracy"]
        logits = neighbours @ normalize(p, dim=1).T / self.method.temperature
        own = torch.arange(len(p), device=p.device)
        return cross_entropy(logits, own), (logits.detach().argmax(1) == own).float().mean()
