"""From a batch of stored images to the views that the method sees.

Shared operators act once per image, then each branch its own tuple of operators; normalization with the
data set's mean and standard deviation comes last, outside the operators, so that each of them sees [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor

from ablation.operators import Operator
from ablation.operators.base import Params, on_device, transform
from ablation.randomness import generator_at
from ablation.specs import InvalidSpec, one_size

Transform = Callable[[Operator, Tensor, Params], Tensor]
Address = tuple[int | str, ...]


def make_views(
    images: Tensor,
    shared: Sequence[Operator],
    views: Sequence[Sequence[Operator]],
    address: Address,
    transform: Transform = transform,
) -> list[Tensor]:
    """One tensor per branch, (B, 3, S, S) float32 in [0, 1], from images (B, 3, S, S) uint8.

    Every operator draws from its own address: `address`, the branch ("shared", 0, 1, ...), its position in
    the view and its class. `transform` is that of operators/base.py or the same, compiled.
    """
    return make_batches(images, shared, views, [address], transform)[0]


def make_batches(
    images: Tensor,
    shared: Sequence[Operator],
    views: Sequence[Sequence[Operator]],
    addresses: Sequence[Address],
    transform: Transform = transform,
    part: tuple[int, int] = (0, 1),
) -> list[list[Tensor]]:
    """`make_views` of several batches of equal size, one address each: the same views, made together.

    A CPU spends much of a small batch's time on calling operations, not on computing them. part: (i, n) where the
    images are the i-th of n equal parts of each batch, drawn as the batches' own.
    """
    count, device = len(images), images.device
    drawn = _draw(shared, views, addresses, count, images.shape[-1], device, part)
    whole = _made(images, drawn, 0, transform)
    sizes = [view.shape[-1] for view in whole]
    if len(set(sizes)) > 1:
        raise InvalidSpec(one_size(sizes))
    return [list(batch) for batch in zip(*(each.split(count // len(addresses)) for each in whole), strict=True)]


def make_pieces(
    pieces: Iterable[Tensor],
    count: int,
    size: int,
    views: Sequence[Sequence[Operator]],
    address: Address,
    device: torch.device,
) -> Iterator[list[Tensor]]:
    """`make_views` of `count` images of `size` pixels that come in pieces, without shared operators: the same views,
    a piece at a time."""
    drawn, start = _draw((), views, [address], count, size, device), 0
    for images in pieces:
        yield _made(images, drawn, start, transform)
        start += len(images)


# The numbers in the images that a CPU takes through all operators at a time: as many as the grouping of color by order
# gains from, and not so many that memory grows with the batch (measured: 2**19 to 2**22 are within a tenth). The views
# are the same, since every operator treats each image by itself.
CHUNK = 2**21

Drawn = list[tuple[Operator, Params]]


def _draw(
    shared: Sequence[Operator],
    views: Sequence[Sequence[Operator]],
    addresses: Sequence[Address],
    count: int,
    size: int,
    device: torch.device,
    part: tuple[int, int] = (0, 1),
) -> tuple[Drawn, list[Drawn]]:
    """The random numbers of the shared operators, and of each branch."""
    before = _drawn(shared, addresses, "shared", count, size, device, part)
    for operator in shared:
        size = operator.output_size(size)
    return before, [_drawn(view, addresses, number, count, size, device, part) for number, view in enumerate(views)]


def _made(images: Tensor, drawn: tuple[Drawn, list[Drawn]], first: int, transform: Transform) -> list[Tensor]:
    """One tensor per branch of images for which numbers were drawn from row `first` on."""
    before, branches = drawn
    count = len(images)
    pieces = -(-images.numel() // CHUNK) if images.device.type == "cpu" else 1
    chunk = max(1, -(-count // max(1, min(pieces, count))))
    parts: list[list[Tensor]] = [[] for _ in branches]
    for start in range(0, max(1, count), chunk):
        some = images[start : start + chunk]
        rows = slice(first + start, first + start + len(some))
        common = _applied(some.float().div_(255), before, rows, transform)
        for part, branch in zip(parts, branches, strict=True):
            part.append(_applied(common, branch, rows, transform))
    return [part[0] if len(part) == 1 else torch.cat(part) for part in parts]


def _drawn(
    operators: Sequence[Operator],
    addresses: Sequence[Address],
    branch: int | str,
    count: int,
    size: int,
    device: torch.device,
    part: tuple[int, int],
) -> Drawn:
    """The operators with their random numbers for all images, batch by batch."""
    found = []
    each, (index, parts) = count // len(addresses), part
    own = slice(index * each, (index + 1) * each)
    for i, operator in enumerate(operators):
        place = (branch, i, type(operator).__name__)
        draws = [operator.draw(each * parts, size, generator_at(*a, *place)) for a in addresses]
        draws = draws if parts == 1 else [{name: value[own] for name, value in d.items()} for d in draws]
        params = draws[0] if len(draws) == 1 else {name: torch.cat([d[name] for d in draws]) for name in draws[0]}
        found.append((operator, on_device(params, device)))
        size = operator.output_size(size)
    return found


def _applied(images: Tensor, drawn: Drawn, rows: slice, transform: Transform) -> Tensor:
    """The operators one after the other; the result does not share memory that an operator may change."""
    for operator, params in drawn:
        images = transform(operator, images, {name: value[rows] for name, value in params.items()})
    return images


def normalize(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """(x - mean) / std per channel, in channels_last layout; mean and std are (3,) on the [0, 1] scale."""
    # A channel at a time, as it is moved: a value per channel is slow to spread over channels_last images.
    out = torch.empty_like(images, memory_format=torch.channels_last)
    for channel, (offset, factor) in enumerate(zip(-mean / std, 1 / std, strict=True)):
        torch.addcmul(offset, images[:, channel], factor, out=out[:, channel])
    return out
