"""h of clean images, with running and with recalibrated batch-norm statistics."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ablation.datasets import Data
from ablation.encoders import recalibrate_batch_norm
from ablation.views import normalize

STATISTICS = ("running", "recalibrated")
BATCH = 500


@dataclass(frozen=True)
class Features:
    """h (N, D) float32 and labels (N,) of each split."""

    h: dict[str, Tensor]
    labels: dict[str, Tensor]
    classes: int


@contextmanager
def precision_of(name: str, device: torch.device) -> Iterator[None]:
    """Autocast to bfloat16, or nothing."""
    with torch.autocast(device.type, torch.bfloat16, enabled=name == "bfloat16"):
        yield


def embed(encoder: nn.Module, images: Tensor, data: Data, precision: str) -> Tensor:
    """h of uint8 images, without augmentation, in evaluation mode."""
    training = encoder.training
    encoder.eval()
    with torch.no_grad(), precision_of(precision, images.device):
        parts = [encoder(_clean(chunk, data)).float() for chunk in images.split(BATCH)]
    encoder.train(training)
    return torch.cat(parts)


def extract(encoder: nn.Module, data: Data, precision: str) -> dict[str, Features]:
    """Features of every split for each of STATISTICS; the encoder is left as it was."""
    recalibrated = copy.deepcopy(encoder)
    whole = len(data.train) // BATCH * BATCH or len(data.train)
    batches = (_clean(chunk, data) for chunk in data.train.images[:whole].split(BATCH))
    with precision_of(precision, data.train.images.device):
        recalibrate_batch_norm(recalibrated, batches)
    found = {}
    for name, model in zip(STATISTICS, (encoder, recalibrated), strict=True):
        h = {split: embed(model, part.images, data, precision) for split, part in data.splits().items()}
        if not all(torch.isfinite(each).all() for each in h.values()):
            raise FloatingPointError(
                f"h of the encoder must be numbers, but some are not, with {name} batch-norm statistics and "
                f"precision={precision!r}; try precision='float32' or a smaller learning rate"
            )
        labels = {split: part.labels for split, part in data.splits().items()}
        found[name] = Features(h, labels, len(data.classes))
    return found


def _clean(images: Tensor, data: Data) -> Tensor:
    return normalize(images.float().div_(255), data.mean, data.std)
