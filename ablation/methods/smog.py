"""SMoG (Pang et al. 2022, arXiv:2207.06167), as lightly reads it; the authors have published no code."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from scipy.cluster.vq import kmeans2
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize, one_hot

from ablation.methods.base import Learner, Method, Metrics, Progress, embed, embed_and_predict, mlp
from ablation.methods.momentum import Momentum, Queue
from ablation.spec.randomness import address_seed
from ablation.system import distributed


@dataclass(frozen=True, kw_only=True)
class SMoG(Method):
    """Contrasts a view's prediction with groups, which follow the z that they win in every step.

    For z of one view, p = predictor(z) and t of the other view by a momentum copy: c_i = argmax_k cos(t_i, G_k),
    d_i = argmax_k cos(z_i, G_k), G'_k = beta G_k + (1 - beta) mean_{d_i = k} z_i (unchanged if it wins none),
    L = CE(n(p) n(G')^T / tau, c), with gradient through p and G'; then G' replaces G. The student sees the first view
    in even steps, the second in odd ones.

    temperature: tau. groups: their number; inertia: beta. Every `renewal` steps k-means of the last `bank` z makes new
    groups, and the copy is set equal to the student. momentum: of the copy. hidden, dimension: of projector (its last
    batch norm has no weight and bias) and predictor.

    Published: lightly's groups start in one orthant, with cosines of 0.75 among them, until the first renewal.
    """

    label = "SMoG"
    metrics = ("groups_used",)

    temperature: float = 0.1
    groups: int = 300
    inertia: float = 0.99
    renewal: int = 300
    bank: int = 10_000
    momentum: float = 0.99
    hidden: int = 2048
    dimension: int = 128

    def __post_init__(self):
        self.require_number("temperature", 0, above=True)
        for name in ("inertia", "momentum"):
            self.require_number(name, 0, 1)
        self.require_count("groups", 2)
        for name in ("renewal", "bank", "hidden", "dimension"):
            self.require_count(name)
        rule = f"hold at least a z for each of the {self.groups} groups"
        self.require("bank", self.bank >= self.groups, rule, "Raise bank or lower groups.")

    def build(self, encoder: nn.Module, classes: int) -> SMoGLearner:
        return SMoGLearner(encoder, mlp(encoder.features, self.hidden, self.dimension, last="plain batch"), self)


class SMoGLearner(Learner):
    def __init__(self, encoder: nn.Module, head: nn.Module, method: SMoG):
        super().__init__(encoder, head, "separate")
        self.method = method
        self.predictor = mlp(method.dimension, method.hidden, method.dimension)
        self.teacher = Momentum(encoder, head)
        self.bank = Queue(method.bank, method.dimension)
        self.number = int(torch.randint(2**62, ()))  # by the seed of the training, so that a resumed one has the same
        self.register_buffer("groups", normalize(torch.randn(method.groups, method.dimension), dim=1))
        self.register_buffer("swapped", torch.tensor(False))
        self.register_buffer("seen", torch.tensor(0))  # z that have entered the bank

    def loss(self, views: list[Tensor], labels: Tensor | None) -> tuple[Tensor, Metrics]:
        student, teacher = (torch.where(self.swapped, b, a) for a, b in (views, views[::-1]))
        [z], [p] = embed_and_predict(self, self.predictor, [student])
        [t] = embed(self.teacher, nn.Identity(), [teacher], self.batch_norm)
        with torch.autocast(z.device.type, enabled=False):
            groups = self._moved(z)
            logits = normalize(p, dim=1) @ normalize(groups, dim=1).T / self.method.temperature
            loss = cross_entropy(logits, nearest(t, self.groups.clone()))
        with torch.no_grad():
            self.groups.copy_(groups)
        self.bank.push(z)
        self.seen.add_(len(z))
        used = one_hot(logits.detach().argmax(1), len(groups)).float().mean(0)
        return loss, {"groups_used": torch.special.entr(used).sum().exp()}

    def _moved(self, z: Tensor) -> Tensor:
        """G', (groups, dimension), with gradient into z."""
        before, beta = self.groups.clone(), self.method.inertia
        won = one_hot(nearest(z, before), len(before)).float()
        counts = won.sum(0)[:, None]
        means = won.T @ z / counts.clamp(min=1)
        return torch.where(counts > 0, beta * before + (1 - beta) * means, before)

    def after_step(self, progress: Progress) -> None:
        self.swapped.fill_(progress.step % 2 == 1)
        self.teacher.follow(self.method.momentum, self.encoder, self.head)
        if progress.step % self.method.renewal == 0 and self.seen >= self.method.bank:
            self.groups.copy_(distributed.broadcast(self._centres(progress.step) if distributed.rank() == 0 else None))
            self.teacher.follow(0.0, self.encoder, self.head)

    def _centres(self, step: int) -> Tensor:
        """Of the bank, by ten iterations of k-means from k-means++, then with length 1."""
        rows, seed = self.bank.rows.cpu().double().numpy(), address_seed(self.number, step) % 2**32
        centres, _ = kmeans2(rows, self.method.groups, minit="++", seed=seed)
        return normalize(torch.as_tensor(centres, dtype=torch.float32), dim=1)


@torch.no_grad()
def nearest(rows: Tensor, groups: Tensor) -> Tensor:
    """For each row, (B, D), the number of the group, (K, D), with the largest cosine; (B,)."""
    return (normalize(rows, dim=1) @ normalize(groups, dim=1).T).argmax(1)
