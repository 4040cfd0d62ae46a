"""A representation of clean images, with running and with recalibrated batch-norm statistics, and of their views."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from ablation.data import Data
from ablation.evaluate.base import Features, need_images
from ablation.models.batch_norm import recalibrate_batch_norm
from ablation.models.representation import representation
from ablation.operators.pipeline import Address, normalize, render_pieces
from ablation.spec import Spec
from ablation.spec.metric import STATISTICS
from ablation.spec.randomness import generator_at
from ablation.training.precision import precision_of

BATCH = 500


def embed(encoder: nn.Module, images: Tensor, data: Data, precision: str) -> Tensor:
    """h of uint8 images, or of float images in [0, 1], without augmentation, in evaluation mode."""
    modes = [(module, module.training) for module in encoder.modules()]
    encoder.eval()
    pieces = images.split(BATCH) if images.is_floating_point() else data.pieces(images, BATCH)
    with torch.no_grad(), precision_of(precision, data.device):
        parts = [encoder(_clean(piece, data)).float() for piece in pieces]
    for module, training in modes:
        module.training = training
    return torch.cat(parts)


def extract(
    encoder: nn.Module, data: Data, precision: str, head: nn.Module | None = None, seed: int = 0, on: str = "h"
) -> dict[str, Features]:
    """Features of every split by batch-norm statistics: {"running": ..., "recalibrated": ...}, equal if there are no
    batch norms. Does not change the modules."""
    model = representation(encoder, head, on)
    running = _features(model, data, precision, f"{on}, running batch-norm statistics", seed)
    if not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules()):
        return dict.fromkeys(STATISTICS, running)
    recalibrated = copy.deepcopy(model)
    batches = (_clean(piece, data) for piece in _mixed_batches(data))
    with precision_of(precision, data.device):
        recalibrate_batch_norm(recalibrated, batches)
    again = _features(recalibrated, data, precision, f"{on}, recalibrated statistics", seed)
    return {"running": running, "recalibrated": again}


def _mixed_batches(data: Data) -> Iterator[Tensor]:
    """The training images in whole batches, for batch norm's statistics: in their order if it mixes the classes, else
    in a fixed random one, since the statistics of batches of one class are not those of the data. Without labels, the
    order is not known to mix anything."""
    images, labels = data.train.images, data.train.labels
    whole = len(images) // BATCH * BATCH or len(images)
    if data.labelled and _mixes(labels):
        return data.pieces(images[:whole], BATCH)
    order = torch.randperm(len(images), generator=generator_at("recalibration")).to(data.device)
    return data.batches(images, order[:whole].split(BATCH))


def _mixes(labels: Tensor) -> bool:
    """Whether neighbours differ in class at least half as often as in a random order."""
    shares = labels.bincount() / len(labels)
    return ((labels[1:] != labels[:-1]).float().mean() >= (1 - shares.square().sum()) / 2).item()


def _features(model: nn.Module, data: Data, precision: str, name: str, seed: int) -> Features:
    h = {split: embed(model, part.images, data, precision) for split, part in data.splits().items()}
    if not all(torch.isfinite(each).all() for each in h.values()):
        raise FloatingPointError(
            f"some values of {name}, are not finite, with precision={precision!r}. Try precision='float32' or a "
            "smaller learning rate."
        )
    labels = {split: part.labels for split, part in data.splits().items()} if data.labelled else {}
    represent = partial(embed, model, data=data, precision=precision)
    return Features(h, labels, len(data.classes), represent, data, seed, partial(copy.deepcopy, model))


def represent_views(spec: Spec, features: Features, split: str, views: Sequence, address: Address) -> list[Tensor]:
    """The representation of all images of a split in each of the views, (N, D) per view. Draws at (seed, *address) as
    `make_views` for all images at once, but computes in pieces."""
    represent, data = need_images(spec, features)
    images = data.splits()[split].images
    address = (features.seed, *address)
    pieces = render_pieces(data.pieces(images, BATCH), len(images), data.size, views, address, data.device)
    parts = [[represent(view) for view in made] for made in pieces]
    return [torch.cat(part) for part in zip(*parts, strict=True)]


def _clean(images: Tensor, data: Data) -> Tensor:
    images = images if images.is_floating_point() else images.float().div_(255)
    return normalize(images, data.mean, data.std)
