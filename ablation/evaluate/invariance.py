"""Invariance of a representation to operators."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import cosine_similarity

from ablation.evaluate.base import Evaluation, Features
from ablation.evaluate.features import represent_views


@dataclass(frozen=True, kw_only=True)
class Invariance(Evaluation):
    """The mean cosine of h (or z) before and after each operator, over test images, both centred on the clean
    test images' mean: 1 if the representation ignores the change, about 0 if before and after are as unlike as two
    different images.

    Centred, because units after a ReLU are positive, which makes all cosines large.
    """

    name: ClassVar[str] = "invariance"
    needs_labels: ClassVar[bool] = False
    version: ClassVar[int] = 2

    operators: tuple

    def __post_init__(self):
        super().__post_init__()
        labels = [getattr(operator, "label", None) for operator in self.operators]
        good = bool(labels) and None not in labels and len(set(labels)) == len(labels)
        self.require("operators", good, "be a tuple of operators with different labels", "Write (Crop(), Blur()).")

    @property
    def metrics(self) -> tuple[str, ...]:
        return tuple(f"test_{operator.label}" for operator in self.operators)

    def evaluate(self, features: Features) -> tuple[dict[str, float], dict[str, Tensor], list[str]]:
        """Metrics "test_<operator>"; no predictions, no notes."""
        clean = features.h["test"]
        mean = clean.mean(0)
        metrics = {}
        for operator in self.operators:
            (changed,) = represent_views(self, features, "test", ((operator,),), ("invariance", operator.label))
            cosine = cosine_similarity(clean - mean, changed - mean)
            metrics[f"test_{operator.label}"] = cosine.double().mean().item()
        return metrics, {}, []
