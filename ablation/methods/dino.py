"""DINO (Caron et al. 2021, arXiv:2104.14294)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from ablation.methods.base import BATCH_NORM, Learner, Method, Metrics, Progress, embed, mlp
from ablation.methods.momentum import Momentum, rising
from ablation.methods.prototypes import NormalizedPrototypes, cross_entropy_of

NETWORKS = ("teacher", "student")


@dataclass(frozen=True, kw_only=True)
class DINO(Method):
    """Every view predicts the probabilities that a momentum copy gives to the other large views.

    T_a = softmax((t_a - c) / tau_t) for the two large views a, without gradient; L is the mean over the pairs a != v of
    the cross entropy of T_a and softmax(s_v / tau); then c <- m c + (1 - m) mean t, from 0 (Algorithm 1). s and t are
    cosines with prototypes. The first two views are the large ones; the others may be smaller.

    temperature: tau. teacher_temperature, teacher_temperature_end: tau_t, rising linearly over the first `warmup`
    epochs. centre: m. momentum, momentum_end: of the copy, along a half cosine. prototypes: their number. frozen:
    number of first epochs in which the prototypes stay fixed. clip: the largest norm of the gradient of each
    parameter, None for no limit. layers, hidden, dimension: of the head, whose norm is "batch" or None. evaluated: the
    "teacher" (authors) or the "student".

    Published: lightly's copy starts with another head, and its prototypes are never frozen. With ResNet-18 its momentum
    is constant, no gradient is clipped, and the student is evaluated; on Imagenette and ImageNet-100 two layers shared
    one batch norm. On ImageNet it clips the total norm.
    """

    label = "DINO"
    branches: ClassVar[int | None] = None
    least: ClassVar[int] = 2
    multi_crop: ClassVar[bool] = True
    metrics: ClassVar[tuple[str, ...]] = ("prototypes_used",)

    temperature: float = 0.1
    teacher_temperature: float = 0.04
    teacher_temperature_end: float = 0.04
    warmup: int = 30
    centre: float = 0.9
    momentum: float = 0.996
    momentum_end: float = 1.0
    prototypes: int = 2048
    frozen: int = 1
    clip: float | None = 3.0
    layers: int = 2
    hidden: int = 2048
    dimension: int = 256
    norm: str | None = "batch"
    batch_norm: str = "joint"
    evaluated: str = "teacher"

    def __post_init__(self):
        for name in ("temperature", "teacher_temperature", "teacher_temperature_end"):
            self.require_number(name, 0, above=True)
        for name in ("centre", "momentum", "momentum_end"):
            self.require_number(name, 0, 1)
        self.require_count("prototypes", 2)
        for name in ("layers", "hidden", "dimension"):
            self.require_count(name)
        for name in ("warmup", "frozen"):
            self.require_count(name, 0)
        if self.clip is not None:
            self.require_number("clip", 0, above=True)
        self.require("norm", self.norm in ("batch", None), "be 'batch' or None")
        self.require_choice("batch_norm", BATCH_NORM)
        self.require_choice("evaluated", NETWORKS)

    def build(self, encoder: nn.Module, classes: int) -> DINOLearner:
        hidden = [self.hidden] * (self.layers - 1)
        head = mlp(encoder.features, *hidden, self.dimension, norm=self.norm, activation=nn.GELU)
        for layer in head:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
        return DINOLearner(encoder, head, self)

    def teacher_temperature_at(self, epoch: int) -> float:
        """tau_t in an epoch, counted from 0."""
        share = min(1.0, epoch / self.warmup) if self.warmup else 1.0
        return self.teacher_temperature + share * (self.teacher_temperature_end - self.teacher_temperature)


class DINOLearner(Learner):
    def __init__(self, encoder: nn.Module, head: nn.Module, method: DINO):
        super().__init__(encoder, head, method.batch_norm)
        self.method = method
        self.prototypes = NormalizedPrototypes(method.dimension, method.prototypes)
        self.teacher = Momentum(encoder, head, self.prototypes)
        self.register_buffer("centre", torch.zeros(method.prototypes))
        self.register_buffer("teacher_temperature", torch.tensor(method.teacher_temperature_at(0)))

    def loss(self, views: list[Tensor], labels: Tensor | None) -> tuple[Tensor, Metrics]:
        z = self.embed(views)
        teacher_encoder, teacher_head, teacher_prototypes = self.teacher.copies
        with torch.no_grad():
            t = embed(teacher_encoder, teacher_head, views[:2], self.batch_norm)
        with torch.autocast(z[0].device.type, enabled=False):
            s = [self.prototypes(each) for each in z]
            t = [teacher_prototypes(each) for each in t]
            targets = [((each - self.centre) / self.teacher_temperature).softmax(1) for each in t]
            pairs = [(a, v) for a in range(2) for v in range(len(views)) if v != a]
            loss = sum(cross_entropy_of(targets[a], s[v], self.method.temperature) for a, v in pairs) / len(pairs)
        with torch.no_grad():
            mean = torch.stack(t).mean((0, 1))
            self.centre.copy_(self.method.centre * self.centre + (1 - self.method.centre) * mean)
        return loss, {"prototypes_used": torch.special.entr(targets[0].mean(0)).sum().exp()}

    def before_update(self, progress: Progress) -> None:
        if progress.epoch < self.method.frozen:
            self.prototypes.weight.grad = None
        if self.method.clip is not None:
            gradients = [p.grad for p in self.parameters() if p.grad is not None]
            lengths = torch._foreach_norm(gradients)
            factors = [(self.method.clip / (length + 1e-6)).clamp(max=1) for length in lengths]
            torch._foreach_mul_(gradients, factors)

    def after_step(self, progress: Progress) -> None:
        momentum = rising(self.method.momentum, self.method.momentum_end, progress.fraction)
        self.teacher.follow(momentum, self.encoder, self.head, self.prototypes)
        self.teacher_temperature.fill_(self.method.teacher_temperature_at(progress.epoch))

    def evaluated(self) -> tuple[nn.Module, nn.Module]:
        if self.method.evaluated == "student":
            return super().evaluated()
        return self.teacher.copies[0], self.teacher.copies[1]
