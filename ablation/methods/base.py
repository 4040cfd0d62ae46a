"""What a method is: a spec that builds a learner, the module that owns encoder, heads and objective."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn

from ablation.distributed import gather
from ablation.specs import Spec

BATCH_NORM = ("joint", "separate")
Metrics = dict[str, Tensor]  # detached scalars


@dataclass(frozen=True, kw_only=True)
class Method(Spec):
    """label: its name on an axis; branches: how many views it needs (None: any number, at least one).

    `trains` is False for a baseline whose weights are never changed.
    """

    label: ClassVar[str]
    branches: ClassVar[int | None] = 2
    trains: ClassVar[bool] = True

    def build(self, encoder: nn.Module, classes: int) -> Learner:
        """The learner around `encoder`; `classes` matters only to a method that sees labels."""
        raise NotImplementedError(f"{type(self).__name__} must define build(self, encoder, classes)")


class Learner(nn.Module):
    """An encoder and what the objective needs around it.

    loss(views, labels) -> (loss, metrics): the loss is a float32 scalar, metrics are detached scalars by name, such as
    the contrastive accuracy, {} without any; views is a list of (B, 3, S, S) normalized images, labels (B,) (of the
    global batch) are for supervised methods only. torch's global generators are seeded for each step, at the address
    (seed, "loss", epoch, step), so dropout and masks draw the same whatever the process did before, and after a resume.
    after_step(progress) is called after each optimizer step with the finished fraction of training. What `loss` keeps
    for a later step (a queue, a centre) must be a copy (`.clone()`) in a buffer: where steps are compiled, the next
    one writes into the memory of this one's tensors.
    """

    def __init__(self, encoder: nn.Module, head: nn.Module, batch_norm: str = "joint"):
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.batch_norm = batch_norm

    def project(self, images: Tensor) -> Tensor:
        """z, (B, dimension)."""
        return self.head(self.encoder(images))

    def embed(self, views: list[Tensor]) -> list[Tensor]:
        """z of each view, float32. Batch norm sees all views as one batch ("joint") or one by one ("separate").

        Where several processes train together, the views are this one's part, and z is the global batch's, (B, D).
        """
        if self.batch_norm == "joint":
            parts = self.project(torch.cat(views)).float().chunk(len(views))
        else:
            parts = [self.project(view).float() for view in views]
        return [gather(z) for z in parts]

    def loss(self, views: list[Tensor], labels: Tensor) -> tuple[Tensor, Metrics]:
        raise NotImplementedError

    def after_step(self, progress: float) -> None:
        pass


def mlp(*sizes: int) -> nn.Sequential:
    """Linear layers with batch norm and ReLU between them."""
    layers: list[nn.Module] = []
    for number, (inputs, outputs) in enumerate(pairwise(sizes), start=1):
        last = number == len(sizes) - 1
        layers.append(nn.Linear(inputs, outputs, bias=last))
        if not last:
            layers += [nn.BatchNorm1d(outputs), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)
