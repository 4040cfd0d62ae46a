"""h and z of clean images, with running and with recalibrated batch-norm statistics."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from ablation.datasets import Data
from ablation.encoders import recalibrate_batch_norm
from ablation.specs import InvalidSpec, Spec
from ablation.views import Address, make_pieces, normalize

STATISTICS = ("running", "recalibrated")
REPRESENTATIONS = ("h", "z")
BATCH = 500


@dataclass(frozen=True, kw_only=True)
class Evaluation(Spec):
    """Base of the evaluations. on: "h", the encoder's output, or "z", the projection head's.

    `name` begins the columns of the table; evaluations on z say so there ("linear_z_test_top1_recalibrated").
    `evaluate(features)` gives metrics, predictions per split, and notes.
    """

    name: ClassVar[str]

    on: str = "h"

    def __post_init__(self):
        self.require_choice("on", REPRESENTATIONS)

    @property
    def label(self) -> str:
        return self.name if self.on == "h" else f"{self.name}_{self.on}"

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names of all that `evaluate` may measure; () where they are not known beforehand."""
        return ()

    def columns(self) -> list[str]:
        """The columns of numbers that it has in a table, as far as they are known beforehand."""
        return [f"{self.label}_{metric}_{statistics}" for metric in self.metrics for statistics in STATISTICS]


@dataclass(frozen=True)
class Features:
    """One representation: h (or z) of each split, (N, D) float32, and labels (N,). They lie on the device whole; the
    images, `data`, may not.

    represent: the same representation of other images, (N, 3, S, S) float32 in [0, 1]. seed: the run's; what an
    evaluation draws has an address that begins with it, so that the draws' noise is in the spread over seeds.
    """

    h: dict[str, Tensor]
    labels: dict[str, Tensor]
    classes: int
    represent: Callable[[Tensor], Tensor] | None = None
    data: Data | None = None
    seed: int = 0


@contextmanager
def precision_of(name: str, device: torch.device) -> Iterator[None]:
    """Autocast to bfloat16, or nothing."""
    with torch.autocast(device.type, torch.bfloat16, enabled=name == "bfloat16"):
        yield


def embed(encoder: nn.Module, images: Tensor, data: Data, precision: str) -> Tensor:
    """h of uint8 images, or of float ones in [0, 1], without augmentation, in evaluation mode."""
    modes = [(module, module.training) for module in encoder.modules()]
    encoder.eval()
    pieces = images.split(BATCH) if images.is_floating_point() else data.pieces(images, BATCH)
    with torch.no_grad(), precision_of(precision, data.device):
        parts = [encoder(_clean(piece, data)).float() for piece in pieces]
    for module, training in modes:
        module.training = training
    return torch.cat(parts)


def extract(
    encoder: nn.Module, data: Data, precision: str, head: nn.Module | None = None, seed: int = 0
) -> dict[str, dict[str, Features]]:
    """Features of every split: {representation: {statistics: features}}, "z" only with a head.

    Both modules are left as they were.
    """
    models = {"h": encoder} if head is None else {"h": encoder, "z": nn.Sequential(encoder, head)}
    found = {}
    for representation, model in models.items():
        recalibrated = copy.deepcopy(model)
        whole = len(data.train) // BATCH * BATCH or len(data.train)
        batches = (_clean(piece, data) for piece in data.pieces(data.train.images[:whole], BATCH))
        with precision_of(precision, data.device):
            recalibrate_batch_norm(recalibrated, batches)
        found[representation] = {
            "running": _features(model, data, precision, f"{representation}, running batch-norm statistics", seed),
            "recalibrated": _features(
                recalibrated, data, precision, f"{representation}, recalibrated statistics", seed
            ),
        }
    return found


def _features(model: nn.Module, data: Data, precision: str, what: str, seed: int) -> Features:
    h = {split: embed(model, part.images, data, precision) for split, part in data.splits().items()}
    if not all(torch.isfinite(each).all() for each in h.values()):
        raise FloatingPointError(
            f"{what}, of the encoder must be numbers, but some are not, with precision={precision!r}; try "
            "precision='float32' or a smaller learning rate"
        )
    labels = {split: part.labels for split, part in data.splits().items()}
    return Features(h, labels, len(data.classes), lambda images: embed(model, images, data, precision), data, seed)


def need_images(spec: Spec, features: Features) -> tuple[Callable[[Tensor], Tensor], Data]:
    """For an evaluation that looks at changed images."""
    if features.represent is None or features.data is None:
        raise InvalidSpec(f"{type(spec).__name__} must be given features with their images and encoder (`extract`)")
    return features.represent, features.data


def represent_views(spec: Spec, features: Features, split: str, views: Sequence, address: Address) -> list[Tensor]:
    """The representation of every image of a split in each of the views, (N, D) per view; drawn at (seed, *address) as
    `make_views` draws for all images at once, made for some at a time."""
    represent, data = need_images(spec, features)
    images = data.splits()[split].images
    address = (features.seed, *address)
    pieces = make_pieces(data.pieces(images, BATCH), len(images), data.size, views, address, data.device)
    parts = [[represent(view) for view in made] for made in pieces]
    return [torch.cat(part) for part in zip(*parts, strict=True)]


def _clean(images: Tensor, data: Data) -> Tensor:
    images = images if images.is_floating_point() else images.float().div_(255)
    return normalize(images, data.mean, data.std)
