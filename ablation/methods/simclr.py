"""SimCLR (Chen et al. 2020, arXiv:2002.05709), with the paper's alternative heads and objectives."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from ablation.methods.base import BATCH_NORM, Learner, Method, Metrics, mlp
from ablation.methods.contrastive import NTXent
from ablation.spec import added_later

HEADS = ("nonlinear", "linear", "none")


@dataclass(frozen=True, kw_only=True)
class SimCLR(Method):
    """A contrastive objective on the projection of two views.

    L is the mean over all 2B z of the cross entropy that finds an image's other view among the 2B - 1 other z by
    cosine / tau (NT-Xent, equation 1).

    objective: NTXent, with tau as its temperature, or NTLogistic or Margin (Table 2). head (section 4.2): "nonlinear"
    (one hidden layer with batch norm and ReLU), "linear", or "none" (z is h); hidden, dimension: sizes of its hidden
    layer and of z; output_norm: "batch" for batch norm after its last layer (lightly), else None. batch_norm: "joint"
    (both branches as one batch, the authors' code) or "separate".

    Published: lightly's head ends with batch norm, output_norm="batch".
    """

    label = "SimCLR"

    objective: Any = field(default_factory=NTXent)
    head: str = "nonlinear"
    hidden: int = 512
    dimension: int = 128
    output_norm: str | None = added_later(default=None)
    batch_norm: str = "joint"

    def __post_init__(self):
        self.require("objective", hasattr(self.objective, "loss"), "be an objective such as NTXent(temperature=0.5)")
        self.require_choice("head", HEADS)
        self.require_count("hidden")
        self.require_count("dimension")
        self.require("output_norm", self.output_norm in (None, "batch"), "be None or 'batch'")
        self.require_choice("batch_norm", BATCH_NORM)

    def build(self, encoder: nn.Module, classes: int) -> SimCLRLearner:
        sizes = {"nonlinear": (self.hidden, self.dimension), "linear": (self.dimension,), "none": ()}[self.head]
        return SimCLRLearner(
            encoder, mlp(encoder.features, *sizes, last=self.output_norm), self.batch_norm, self.objective
        )


class SimCLRLearner(Learner):
    def __init__(self, encoder: nn.Module, head: nn.Module, batch_norm: str, objective: Any):
        super().__init__(encoder, head, batch_norm)
        self.objective = objective

    def loss(self, views: list[Tensor], labels: Tensor | None) -> tuple[Tensor, Metrics]:
        return self.objective.loss(*self.embed(views))
