"""From a batch of stored images to the views that the method sees.

Shared operators act once per image, then each branch its own tuple of operators; normalization with the
data set's mean and standard deviation comes last, outside the operators, so that each of them sees [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ablation.operators import Operator
from ablation.operators.base import Params, on_device, transform
from ablation.randomness import generator_at

Transform = Callable[[Operator, Tensor, Params], Tensor]


def make_views(
    images: Tensor,
    shared: Sequence[Operator],
    views: Sequence[Sequence[Operator]],
    address: tuple[int | str, ...],
    transform: Transform = transform,
) -> list[Tensor]:
    """One tensor per branch, (B, 3, S, S) float32 in [0, 1], from images (B, 3, S, S) uint8.

    Every operator draws from its own address: `address`, the branch ("shared", 0, 1, ...), its position in
    the view and its class. `transform` is that of operators/base.py or the same, compiled.
    """
    batch, size = len(images), images.shape[-1]
    before = _drawn(shared, (*address, "shared"), batch, size, images.device)
    branches = [_drawn(view, (*address, number), batch, size, images.device) for number, view in enumerate(views)]
    pieces = -(-images.numel() // CHUNK) if images.device.type == "cpu" else 1
    chunk = max(1, -(-batch // max(1, min(pieces, batch))))
    parts: list[list[Tensor]] = [[] for _ in views]
    for start in range(0, max(1, batch), chunk):
        rows = slice(start, start + chunk)
        common = _applied(images[rows].float().div_(255), before, rows, transform)
        for part, branch in zip(parts, branches, strict=True):
            part.append(_applied(common, branch, rows, transform))
    return [part[0] if len(part) == 1 else torch.cat(part) for part in parts]


# The numbers in the images that a CPU takes through all operators at a time: as many as the grouping of color by order
# gains from, and not so many that memory grows with the batch (measured: 2**19 to 2**22 are within a tenth). The views
# are the same, since every operator treats each image by itself.
CHUNK = 2**21

Drawn = list[tuple[Operator, Params]]


def _drawn(
    operators: Sequence[Operator], address: tuple[int | str, ...], batch: int, size: int, device: torch.device
) -> Drawn:
    """The operators with their random numbers for the whole batch."""
    return [
        (operator, on_device(operator.draw(batch, size, generator_at(*address, i, type(operator).__name__)), device))
        for i, operator in enumerate(operators)
    ]


def _applied(images: Tensor, drawn: Drawn, rows: slice, transform: Transform) -> Tensor:
    """The operators one after the other; the result does not share memory that an operator may change."""
    for operator, params in drawn:
        images = transform(operator, images, {name: value[rows] for name, value in params.items()})
    return images


def normalize(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """(x - mean) / std per channel, in channels_last layout; mean and std are (3,) on the [0, 1] scale."""
    # In the images' own layout first: a value per channel is slow to spread over channels_last ones.
    out = (images - mean[:, None, None]).div_(std[:, None, None])
    return out.contiguous(memory_format=torch.channels_last)
