"""From stored images to the views of a method.

Shared operators act once per image, then each branch's own operators. Normalization with the data set's mean and
standard deviation comes last, outside the operators, so that every operator sees [0, 1]. `sample` draws all random
numbers, `render` computes the views from them, `annotate` locates the views in the stored images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ablation.operators.base import Annotations, Operator, Params, on_device, per_row, transform
from ablation.spec.randomness import generator_at

Transform = Callable[[Operator, Tensor, Params], Tensor]
Address = tuple[int | str, ...]
Draws = list[tuple[Operator, Params]]

# Values (pixels x channels) that a CPU takes through all operators at a time: enough for color's grouping by order to
# pay off, few enough that memory does not grow with the batch (measured: 2**19 to 2**22 are within a tenth). The views
# do not depend on it, since operators treat each image independently.
CHUNK = 2**21


@dataclass(frozen=True)
class Sampled:
    """The random numbers of N images, (N, ...) each, for the shared operators and for every branch. size: the side of
    the stored images."""

    shared: Draws
    branches: list[Draws]
    size: int


def make_views(
    images: Tensor,
    shared: Sequence[Operator],
    views: Sequence[Sequence[Operator]],
    address: Address,
    transform: Transform = transform,
) -> list[Tensor]:
    """One tensor per branch, (B, C, S, S) float32 in [0, 1], from images (B, C, S, S) uint8.

    Every operator draws from its own address: `address`, the branch ("shared", 0, 1, ...), its position in
    the view and its class. transform: the one of operators/base.py, plain or compiled.
    """
    sampled = sample(shared, views, [address], len(images), images.shape[-1], images.device)
    return render(images, sampled, transform=transform)


def sample(
    shared: Sequence[Operator],
    views: Sequence[Sequence[Operator]],
    addresses: Sequence[Address],
    batch: int,
    size: int,
    device: torch.device,
    part: tuple[int, int] = (0, 1),
) -> Sampled:
    """The random numbers of one batch per address, concatenated, on `device`.

    batch: the number of images per batch in this process. part: (i, n) if they are the i-th of n equal parts of each
    batch; the numbers are drawn for the whole batch.
    """

    def draws(operators: Sequence[Operator], branch: int | str, size: int) -> Draws:
        drawn = []
        own = slice(part[0] * batch, (part[0] + 1) * batch)
        for position, operator in enumerate(operators):
            place = (branch, position, type(operator).__name__)
            each = [operator.draw(batch * part[1], size, generator_at(*address, *place)) for address in addresses]
            params = {name: _joined([draw[name][own] for draw in each]) for name in each[0]}
            drawn.append((operator, on_device(params, device)))
            size = operator.output_size(size)
        return drawn

    before = draws(shared, "shared", size)
    cropped = _size_after(before, size)
    return Sampled(before, [draws(view, number, cropped) for number, view in enumerate(views)], size)


def render(images: Tensor, sampled: Sampled, first: int = 0, transform: Transform = transform) -> list[Tensor]:
    """One tensor per branch, float32 in [0, 1], from uint8 images. Their numbers start at row `first` of `sampled`."""
    count = len(images)
    pieces = -(-images.numel() // CHUNK) if images.device.type == "cpu" else 1
    chunk = max(1, -(-count // max(1, min(pieces, count))))
    parts: list[list[Tensor]] = [[] for _ in sampled.branches]
    for start in range(0, max(1, count), chunk):
        some = images[start : start + chunk]
        rows = slice(first + start, first + start + len(some))
        common = _applied(some.float().div_(255), sampled.shared, rows, transform)
        for part, draws in zip(parts, sampled.branches, strict=True):
            part.append(_applied(common, draws, rows, transform))
    return [_joined(part) for part in parts]


def render_pieces(
    pieces: Iterable[Tensor], count: int, size: int, views: Sequence[Sequence[Operator]], address: Address, device
) -> Iterator[list[Tensor]]:
    """`make_views` for `count` images of `size` pixels that come in pieces, without shared operators: the same views,
    one piece at a time."""
    sampled, start = sample((), views, [address], count, size, device), 0
    for images in pieces:
        yield render(images, sampled, start)
        start += len(images)


def annotate(sampled: Sampled) -> list[Annotations]:
    """For each branch, annotations of its images: `box`, (N, 4), top, left, height and width in pixels of the stored
    image; `flip`, (N,), whether it is mirrored; and any that an operator adds, such as `mask`."""
    everything = [params for draws in (sampled.shared, *sampled.branches) for _, params in draws]
    tensors = [tensor for params in everything for tensor in params.values()]
    if not tensors:
        return [{} for _ in sampled.branches]
    count, device = len(tensors[0]), tensors[0].device
    box = torch.tensor([0.0, 0.0, sampled.size, sampled.size], device=device).expand(count, 4)
    whole = {"box": box, "flip": torch.zeros(count, dtype=torch.bool, device=device)}
    common = _annotated(whole, sampled.shared, sampled.size)
    size = _size_after(sampled.shared, sampled.size)
    return [_annotated(common, draws, size) for draws in sampled.branches]


def _annotated(annotations: Annotations, draws: Draws, size: int) -> Annotations:
    for operator, params in draws:
        # Strength 0 leaves the image where it is; a mask of no patch is still a mask.
        changes = operator.strength or operator.only_annotates
        added = operator.annotate(annotations, params, size) if changes else annotations
        if "gate" in params:
            added = {
                name: torch.where(per_row(params["gate"], value), value, annotations[name])
                if name in annotations
                else value
                for name, value in added.items()
            }
        annotations, size = added, operator.output_size(size)
    return annotations


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _size_after(draws: Draws, size: int) -> int:
    for operator, _ in draws:
        size = operator.output_size(size)
    return size


def _applied(images: Tensor, draws: Draws, rows: slice, transform: Transform) -> Tensor:
    """Applies the operators in order."""
    for operator, params in draws:
        images = transform(operator, images, {name: value[rows] for name, value in params.items()})
    return images


def normalize(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """(x - mean) / std per channel, in channels_last layout; mean and std are (C,) on the [0, 1] scale."""
    # One channel at a time, during the copy: broadcasting a value per channel over channels_last images is slow.
    out = torch.empty_like(images, memory_format=torch.channels_last)
    for channel, (offset, factor) in enumerate(zip(-mean / std, 1 / std, strict=True)):
        torch.addcmul(offset, images[:, channel], factor, out=out[:, channel])
    return out
