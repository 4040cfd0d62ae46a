"""Two baselines for comparison: no training, and training with labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ablation.methods.base import BATCH_NORM, Learner, Method, Metrics
from ablation.spec import added_later


@dataclass(frozen=True, kw_only=True)
class Initialization(Method):
    """The untrained encoder."""

    label = "initialization"
    branches: ClassVar[int | None] = None
    trains: ClassVar[bool] = False

    def build(self, encoder: nn.Module, classes: int) -> Learner:
        return Learner(encoder, nn.Identity())


@dataclass(frozen=True, kw_only=True)
class Supervised(Method):
    """Cross entropy with the labels on every view, through one linear layer; z is h.

    head: the layer's initial weights, "random" (torch's) or "zeros" (fine-tuning). frozen: whether to train the layer
    alone, with the encoder unchanged in evaluation mode.
    """

    label = "supervised"
    branches: ClassVar[int | None] = None
    needs_labels: ClassVar[bool] = True

    batch_norm: str = "joint"
    head: str = added_later(default="random")
    frozen: bool = added_later(default=False)

    def __post_init__(self):
        self.require_choice("batch_norm", BATCH_NORM)
        self.require_choice("head", ("random", "zeros"))
        self.require("frozen", isinstance(self.frozen, bool), "be True or False")

    def build(self, encoder: nn.Module, classes: int) -> SupervisedLearner:
        return SupervisedLearner(encoder, classes, self)


class SupervisedLearner(Learner):
    def __init__(self, encoder: nn.Module, classes: int, method: Supervised):
        super().__init__(encoder, nn.Identity(), method.batch_norm)
        self.frozen = method.frozen
        self.classifier = nn.Linear(encoder.features, classes)
        if method.head == "zeros":
            nn.init.zeros_(self.classifier.weight)
            nn.init.zeros_(self.classifier.bias)
        if self.frozen:
            encoder.requires_grad_(False)

    def train(self, mode: bool = True) -> SupervisedLearner:
        super().train(mode)
        if self.frozen:
            self.encoder.eval()
        return self

    def loss(self, views: list[Tensor], labels: Tensor) -> tuple[Tensor, Metrics]:
        features = torch.cat(self.embed(views))
        with torch.autocast(labels.device.type, enabled=False):
            logits = self.classifier(features)
        targets = labels.repeat(len(views))
        accuracy = (logits.detach().argmax(1) == targets).float().mean()
        return cross_entropy(logits, targets), {"training_accuracy": accuracy}
