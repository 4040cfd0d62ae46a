"""MoCo v2 (He et al. 2020, arXiv:1911.05722; Chen et al. 2020, arXiv:2003.04297), symmetric as at CIFAR-10."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from ablation.methods.base import Learner, Method, Metrics, Progress, mlp
from ablation.methods.momentum import Momentum, Queue
from ablation.models.batch_norm import average_statistics, with_split_batch_norm
from ablation.system.distributed import gather, local_rows


@dataclass(frozen=True, kw_only=True)
class MoCo(Method):
    """Contrasts queries with keys of earlier batches from a momentum copy of the encoder.

    L = (l(q1, k2) + l(q2, k1)) / 2 with l(q, k) = CE([q . k_own, q . queue] / tau, 0): both halves see the queue
    before the step, then both views' keys enter it.

    temperature: tau; queue: number of keys; momentum: of the copy, which moves before it computes the keys. splits:
    number of groups into which the encoder's batch norms split a batch, 0 for none (8 in the authors' CIFAR-10 code,
    so that the batch's statistics do not reveal the positive); the keys' groups differ from the queries'. Several
    processes share the groups of a batch among them, so their number must divide `splits`, and `splits` the batch.
    hidden, dimension: of the head, which has no batch norm.

    Published: with ResNet-18, lightly's keys of the first view enter the queue before the second half of the loss, so a
    query's own view is among its negatives; above 32 px it splits no batch norm. On ImageNet its loss is one half, as
    in the paper, and the copy starts with another head. The authors' CIFAR-10 code adds the halves.
    """

    label = "MoCo v2"
    version: ClassVar[int] = 3

    temperature: float = 0.1
    queue: int = 4096
    momentum: float = 0.99
    splits: int = 8
    hidden: int = 512
    dimension: int = 128

    def __post_init__(self):
        self.require_number("temperature", 0, above=True)
        self.require_number("momentum", 0, 1)
        for name in ("queue", "hidden", "dimension"):
            self.require_count(name)
        self.require_count("splits", 0)

    def build(self, encoder: nn.Module, classes: int) -> MoCoLearner:
        head = mlp(encoder.features, self.hidden, self.dimension, norm=None)
        return MoCoLearner(with_split_batch_norm(encoder, self.splits) if self.splits else encoder, head, self)


class MoCoLearner(Learner):
    def __init__(self, encoder: nn.Module, head: nn.Module, method: MoCo):
        super().__init__(encoder, head, "separate")
        self.method = method
        self.teacher = Momentum(encoder, head)
        self.queue = Queue(method.queue, method.dimension)

    def loss(self, views: list[Tensor], labels: Tensor | None) -> tuple[Tensor, Metrics]:
        first, second = self.embed(views)
        keys = [self._keys(view) for view in views]
        halves = [self._half(first, keys[1]), self._half(second, keys[0])]
        self.queue.push(torch.cat(keys))
        loss = (halves[0][0] + halves[1][0]) / 2
        return loss, {"contrastive_accuracy": (halves[0][1] + halves[1][1]) / 2}

    def _keys(self, view: Tensor) -> Tensor:
        """The teacher's normalized z, (B, dimension), with other groups of images than the queries'."""
        if not self.method.splits:
            return normalize(gather(self.teacher(view).float()), dim=1)
        images = gather(view)  # a group has images of all processes, as in the authors' code
        order = _regrouped(len(images), self.method.splits).to(view.device)
        keys = gather(self.teacher(images[local_rows(order)]).float())[order.argsort()]
        return normalize(keys, dim=1)

    def _half(self, queries: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        return info_nce(queries, keys, self.queue.rows, self.method.temperature)

    def after_step(self, progress: Progress) -> None:
        average_statistics(self)
        self.teacher.follow(self.method.momentum, self.encoder, self.head)


def info_nce(queries: Tensor, keys: Tensor, queue: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """CE([q . k, q . queue] / tau, 0), and the fraction of queries whose own key is the nearest.

    queries (B, D), of any length; keys (B, D) and queue (K, D) on the unit sphere.
    """
    with torch.autocast(queries.device.type, enabled=False):
        q = normalize(queries.float(), dim=1)
        logits = torch.cat([(q * keys).sum(1, keepdim=True), q @ queue.clone().T], 1) / temperature
        target = torch.zeros(len(q), dtype=torch.long, device=q.device)
        return cross_entropy(logits, target), (logits.detach().argmax(1) == 0).float().mean()


def _regrouped(count: int, splits: int) -> Tensor:
    """A permutation that spreads each of the `splits` groups of neighbours over all groups. Batches are already in
    random order, so one fixed permutation is enough."""
    images = torch.arange(count)
    return torch.cat([images[group::splits] for group in range(splits)])
