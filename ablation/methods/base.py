"""A method is a spec that builds a learner, the module that owns encoder, heads and objective."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ablation.operators.base import Annotations
from ablation.spec import InvalidSpec, Spec
from ablation.system.distributed import gather

BATCH_NORM = ("joint", "separate")
Metrics = dict[str, Tensor]  # detached scalars


@dataclass(frozen=True)
class Progress:
    """Progress of a training. step: finished optimizer steps; epoch: finished epochs; fraction: of steps, in [0, 1].
    `before_update` first gets step 0, `after_step` step 1."""

    step: int
    epoch: int
    fraction: float


START = Progress(0, 0, 0.0)


@dataclass(frozen=True, kw_only=True)
class Method(Spec):
    """label: its name on an axis.

    branches: the number of views, None for any number from `least` on. multi_crop: whether views may have several
    sizes; the first two are then the large ones. annotations: those that `loss` reads ("box", "mask"; see
    operators/pipeline.py). masked: numbers of the views that have a mask, None for all, if `loss` reads one.
    metrics: names that `loss` measures beside those of spec/metric.py, so that figures may show them.
    transformer: whether the encoder must have patches, as ViT has.
    trains: False for a baseline that never changes its weights. needs_labels: whether `loss` uses labels; data sets
    without labels then refuse the method.
    """

    label: ClassVar[str]
    branches: ClassVar[int | None] = 2
    least: ClassVar[int] = 1
    multi_crop: ClassVar[bool] = False
    annotations: ClassVar[tuple[str, ...]] = ()
    masked: ClassVar[tuple[int, ...] | None] = None
    metrics: ClassVar[tuple[str, ...]] = ()
    transformer: ClassVar[bool] = False
    trains: ClassVar[bool] = True
    needs_labels: ClassVar[bool] = False

    def check(self, training: Any) -> None:
        """Raises InvalidSpec if other parts of the training do not suit the method."""

    def build(self, encoder: nn.Module, classes: int) -> Learner:
        """The learner around `encoder`. classes: their number, for methods that use labels."""
        raise NotImplementedError(f"{type(self).__name__} must define build(self, encoder, classes)")


class Learner(nn.Module):
    """An encoder, with the heads and state that the objective needs.

    loss(views, labels) -> (loss, metrics): the loss is a float32 scalar, metrics are detached scalars by name, such as
    the contrastive accuracy, or {}; views is a list of normalized images (B, C, S, S); labels, (B,) of the global
    batch, None without labels, are for supervised methods only. A method that names `annotations` has
    loss(views, labels, annotations), with one dictionary per view. torch's global generators are seeded for each step
    at the address (seed, "loss", epoch, step), so dropout and masks draw the same numbers whatever the process did
    before, and after a resume; each of several processes has its own.

    The loop calls before_update(progress) between the backward pass and the optimizer's step (drop a `.grad` to freeze
    its parameter), and after_step(progress) after it (move a momentum copy, set the next step's schedules). What they
    draw from torch's global generators is the same in all processes. State that
    `loss` keeps for a later step (a queue, a centre) must be a copy (`.clone()`) in a buffer, and a number that changes
    from step to step a 0-dimensional buffer: the next compiled step overwrites the memory of this one's tensors, and a
    changing Python number triggers a recompilation.
    """

    def __init__(self, encoder: nn.Module, head: nn.Module, batch_norm: str = "joint"):
        super().__init__()
        if batch_norm not in BATCH_NORM:
            raise InvalidSpec(
                f"{type(self).__name__}: batch_norm must be {' or '.join(map(repr, BATCH_NORM))}, but got "
                f"{batch_norm!r}. Write super().__init__(encoder, head, 'joint')."
            )
        self.encoder = encoder
        self.head = head
        self.batch_norm = batch_norm

    def project(self, images: Tensor) -> Tensor:
        """z of the evaluated encoder and head, (B, dimension)."""
        encoder, head = self.evaluated()
        return head(encoder(images))

    def embed(self, views: list[Tensor]) -> list[Tensor]:
        """z of each view, float32. Batch norm sees views one by one ("separate") or together ("joint"): consecutive
        views of one size in the encoder, all views in the head.

        If several processes train together, the views are this process's part, and z, (B, D), is the global batch's.
        """
        return embed(self.encoder, self.head, views, self.batch_norm)

    def loss(
        self, views: list[Tensor], labels: Tensor | None, annotations: list[Annotations] | None = None
    ) -> tuple[Tensor, Metrics]:
        raise NotImplementedError

    def before_update(self, progress: Progress) -> None:
        pass

    def after_step(self, progress: Progress) -> None:
        pass

    def evaluated(self) -> tuple[nn.Module, nn.Module]:
        """The encoder and head to keep and evaluate."""
        return self.encoder, self.head


def embed(encoder: nn.Module, head: nn.Module, views: list[Tensor], batch_norm: str) -> list[Tensor]:
    """z of each view, by any encoder and head; see `Learner.embed`."""
    return [gather(z) for z in _own_rows(encoder, head, views, batch_norm)]


def embed_and_predict(learner: Learner, predictor: nn.Module, views: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """z of each view, and p = predictor(z), float32, of the global batch."""
    z = _own_rows(learner.encoder, learner.head, views, learner.batch_norm)
    together = learner.batch_norm == "joint"
    p = predictor(torch.cat(z)).chunk(len(z)) if together else [predictor(each) for each in z]
    return [gather(each) for each in z], [gather(each.float()) for each in p]


def _own_rows(encoder: nn.Module, head: nn.Module, views: list[Tensor], batch_norm: str) -> list[Tensor]:
    """z of each view, of the images of this process."""
    if batch_norm == "joint":
        h = [encoder(torch.cat(some)) for some in of_one_size(views)]
        return list(head(h[0] if len(h) == 1 else torch.cat(h)).float().chunk(len(views)))
    return [head(encoder(view)).float() for view in views]


def of_one_size(views: list[Tensor]) -> Iterator[list[Tensor]]:
    """Groups of consecutive views that have one size."""
    for _, some in groupby(views, key=lambda view: view.shape[-1]):
        yield list(some)


def mlp(*sizes: int, norm: str | None = "batch", activation: type[nn.Module] = nn.ReLU, last: str | None = None):
    """Linear layers with a norm ("batch", "layer", None) and an activation between them.

    last: the norm after the last layer, None, "batch", or "plain batch" (without weight and bias). A linear layer has a
    bias only if no norm follows.
    """
    norms = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm, "plain batch": lambda n: nn.BatchNorm1d(n, affine=False)}
    layers: list[nn.Module] = []
    for number, (inputs, outputs) in enumerate(pairwise(sizes), start=1):
        after = last if number == len(sizes) - 1 else norm
        layers.append(nn.Linear(inputs, outputs, bias=after is None))
        layers += [norms[after](outputs)] if after else []
        if number < len(sizes) - 1:
            layers.append(activation(inplace=True) if activation is nn.ReLU else activation())
    return nn.Sequential(*layers)
