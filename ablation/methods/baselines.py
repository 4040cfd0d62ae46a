"""The two baselines that give numbers their meaning: no training, and training with labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ablation.methods.base import BATCH_NORM, Learner, Method, Metrics


@dataclass(frozen=True, kw_only=True)
class Initialization(Method):
    """The encoder as it is initialized, never trained: what a representation is worth that learned nothing."""

    label = "initialization"
    branches: ClassVar[int | None] = None
    trains: ClassVar[bool] = False

    def build(self, encoder: nn.Module, classes: int) -> Learner:
        return Learner(encoder, nn.Identity())


@dataclass(frozen=True, kw_only=True)
class Supervised(Method):
    """Cross entropy with the labels on every view, through one linear layer; z is h."""

    label = "supervised"
    branches: ClassVar[int | None] = None

    batch_norm: str = "joint"

    def __post_init__(self):
        self.require_choice("batch_norm", BATCH_NORM)

    def build(self, encoder: nn.Module, classes: int) -> SupervisedLearner:
        return SupervisedLearner(encoder, classes, self.batch_norm)


class SupervisedLearner(Learner):
    def __init__(self, encoder: nn.Module, classes: int, batch_norm: str):
        super().__init__(encoder, nn.Identity(), batch_norm)
        self.classifier = nn.Linear(encoder.features, classes)

    def loss(self, views: list[Tensor], labels: Tensor) -> tuple[Tensor, Metrics]:
        features = torch.cat(self.embed(views))
        with torch.autocast(labels.device.type, enabled=False):
            logits = self.classifier(features)
        targets = labels.repeat(len(views))
        accuracy = (logits.detach().argmax(1) == targets).float().mean()
        return cross_entropy(logits, targets), {"training_accuracy": accuracy}
