"""SwAV (Caron et al. 2020, arXiv:2006.09882), with views of several sizes and a queue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from ablation.methods.base import BATCH_NORM, Learner, Method, Metrics, Progress, mlp
from ablation.methods.momentum import Queue
from ablation.methods.prototypes import Prototypes, cross_entropy_of, sinkhorn


@dataclass(frozen=True, kw_only=True)
class SwAV(Method):
    """Every view predicts the codes of the two large views, which assign a batch evenly to prototypes.

    L = 1/2 sum over the large views a of 1 / (V - 1) sum over the other views v of the cross entropy of Q_a and
    softmax(s_v / tau), s the cosines with the prototypes, Q_a = sinkhorn(s_a / epsilon). The first two views are the
    large ones; the others may be smaller.

    temperature: tau; epsilon, iterations: of sinkhorn. prototypes: their number; frozen: number of first epochs in
    which they stay fixed (1 in the authors' code). queue: number of earlier z of each large view, scored again and
    assigned along with the batch, 0 for none; queue_from: first epoch that uses it (15), when it has long been full.
    hidden, dimension: of the head.

    Published: lightly's prototypes have a bias, and are frozen only with a queue and on ImageNet. Its number on
    ImageNet, 67.2, is of a second queue that held the first view's z.
    """

    label = "SwAV"
    branches: ClassVar[int | None] = None
    least: ClassVar[int] = 2
    multi_crop: ClassVar[bool] = True
    metrics: ClassVar[tuple[str, ...]] = ("prototypes_used",)

    temperature: float = 0.1
    epsilon: float = 0.05
    iterations: int = 3
    prototypes: int = 512
    frozen: int = 1
    queue: int = 0
    queue_from: int = 15
    hidden: int = 512
    dimension: int = 128
    batch_norm: str = "joint"

    def __post_init__(self):
        self.require_number("temperature", 0, above=True)
        self.require_number("epsilon", 0, above=True)
        self.require_count("prototypes", 2)
        for name in ("iterations", "hidden", "dimension"):
            self.require_count(name)
        for name in ("frozen", "queue", "queue_from"):
            self.require_count(name, 0)
        self.require_choice("batch_norm", BATCH_NORM)

    def build(self, encoder: nn.Module, classes: int) -> SwAVLearner:
        return SwAVLearner(encoder, mlp(encoder.features, self.hidden, self.dimension), self)


class SwAVLearner(Learner):
    def __init__(self, encoder: nn.Module, head: nn.Module, method: SwAV):
        super().__init__(encoder, head, method.batch_norm)
        self.method = method
        self.prototypes = Prototypes(method.dimension, method.prototypes)
        if method.queue:
            self.queues = nn.ModuleList(Queue(method.queue, method.dimension) for _ in range(2))
            self.register_buffer("queue_is_used", torch.tensor(method.queue_from == 0))

    def loss(self, views: list[Tensor], labels: Tensor | None) -> tuple[Tensor, Metrics]:
        z = self.embed(views)
        with torch.autocast(z[0].device.type, enabled=False):
            scores = [self.prototypes(each) for each in z]
            codes = [self._codes(a, scores[a].detach()) for a in range(2)]
            others = len(views) - 1
            loss = sum(
                cross_entropy_of(codes[a], scores[v], self.method.temperature) / others
                for a in range(2)
                for v in range(len(views))
                if v != a
            )
        if self.method.queue:
            for queue, large in zip(self.queues, z, strict=False):
                queue.push(normalize(large.detach(), dim=1))
        mean_code = codes[0].mean(0)
        return loss / 2, {"prototypes_used": torch.special.entr(mean_code).sum().exp()}

    def _codes(self, view: int, scores: Tensor) -> Tensor:
        """Codes of the batch's own rows, (B, K)."""
        method = self.method
        alone = sinkhorn(scores, method.epsilon, method.iterations)
        if not method.queue:
            return alone
        beside = self.prototypes(self.queues[view].rows.clone()).detach()
        with_queue = sinkhorn(torch.cat([scores, beside]), method.epsilon, method.iterations)[: len(scores)]
        return torch.where(self.queue_is_used, with_queue, alone)

    def before_update(self, progress: Progress) -> None:
        if progress.epoch < self.method.frozen:
            self.prototypes.weight.grad = None

    def after_step(self, progress: Progress) -> None:
        if progress.epoch >= self.method.frozen:
            self.prototypes.normalize_rows()
        if self.method.queue:
            self.queue_is_used.fill_(progress.epoch >= self.method.queue_from)
