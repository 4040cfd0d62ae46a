"""From a batch of stored images to the views that the method sees.

Shared operators act once per image, then each branch its own tuple of operators; normalization with the
data set's mean and standard deviation comes last, outside the operators, so that each of them sees [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ablation.operators import Operator
from ablation.operators.base import Params, on_device
from ablation.randomness import generator_at

Transform = Callable[[Operator, Tensor, Params], Tensor]


def make_views(
    images: Tensor,
    shared: Sequence[Operator],
    views: Sequence[Sequence[Operator]],
    address: tuple[int | str, ...],
    transform: Transform = Operator.transform,
) -> list[Tensor]:
    """One tensor per branch, (B, 3, S, S) float32 in [0, 1], from images (B, 3, S, S) uint8.

    Every operator draws from its own address: `address`, the branch ("shared", 0, 1, ...), its position in
    the view and its class. `transform` is `Operator.transform` or the same, compiled.
    """
    start = apply_operators(images.float().div_(255), shared, (*address, "shared"), transform)
    return [apply_operators(start, view, (*address, branch), transform) for branch, view in enumerate(views)]


def apply_operators(
    images: Tensor,
    operators: Sequence[Operator],
    address: tuple[int | str, ...],
    transform: Transform = Operator.transform,
) -> Tensor:
    """The operators one after the other; the result does not share memory that an operator may change."""
    for position, operator in enumerate(operators):
        generator = generator_at(*address, position, type(operator).__name__)
        params = operator.draw(len(images), images.shape[-1], generator)
        images = transform(operator, images, on_device(params, images.device))
    return images


def normalize(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """(x - mean) / std per channel, in channels_last layout; mean and std are (3,) on the [0, 1] scale."""
    out = torch.empty_like(images, memory_format=torch.channels_last)
    return torch.sub(images, mean[:, None, None], out=out).div_(std[:, None, None])
