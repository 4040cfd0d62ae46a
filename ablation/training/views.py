"""The views of a training's batches, in order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing

import torch
from torch import Tensor

from ablation.data import Data
from ablation.operators.base import Annotations
from ablation.operators.base import transform as plain_transform
from ablation.operators.pipeline import CHUNK, annotate, normalize, render, sample
from ablation.spec import Training, check_sizes
from ablation.system import distributed
from ablation.training.compile import compiled_transform

TOGETHER = 512  # images per call on a CPU: small batches spend their time on calls, not on arithmetic
Batch = tuple[list[Tensor], list[Annotations] | None]  # normalized views, and the annotations that the method reads


def batches_together(images: Tensor, batch: int, device: torch.device) -> int:
    """The number of batches that go through the operators at once. A batch's views are bit-exact only within the same
    group of batches, so checkpoints fall between groups."""
    most = min(TOGETHER, CHUNK // images[0].numel())
    return max(1, most // batch) if device.type == "cpu" else 1


def training_views(
    images: Tensor,
    batches: Sequence[Tensor],
    training: Training,
    data: Data,
    address: tuple[int | str, ...],
    *,
    compiled: bool = False,
    first: int = 0,
) -> Iterator[Batch]:
    """The views of each batch from batch `first` on, which must start a group (`batches_together`).

    batches: indices into the uint8 images; batch i has the address (*address, i).
    """
    transform = compiled_transform() if compiled else plain_transform
    together = batches_together(images, len(batches[0]), data.device)
    starts = range(first, len(batches), together)
    groups = [batches[start : start + together] for start in starts]
    rows = [torch.cat([distributed.local_rows(batch) for batch in group]) for group in groups]
    part = (distributed.rank(), distributed.count())
    with closing(data.batches(images, rows)) as chosen:
        for start, group, stored in zip(starts, groups, chosen, strict=True):
            addresses = [(*address, start + i) for i in range(len(group))]
            own = len(stored) // len(group)
            sampled = sample(training.shared, training.views, addresses, own, stored.shape[-1], stored.device, part)
            views = render(stored, sampled, transform=transform)
            check_sizes(training.method, [view.shape[-1] for view in views])
            beside = annotate(sampled) if getattr(training.method, "annotations", ()) else None
            for i in range(len(group)):
                chunk = slice(i * own, (i + 1) * own)
                normalized = [normalize(view[chunk], data.mean, data.std) for view in views]
                yield normalized, [{n: v[chunk] for n, v in each.items()} for each in beside] if beside else None
