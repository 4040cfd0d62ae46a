"""Resizing boxes of images as PIL does, one box per image."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from ablation.operators.base import fixed_shapes

Taps = tuple[Tensor, Tensor]


def taps(start: Tensor, length: Tensor, size: int, out: int, interpolation: str) -> tuple[Tensor, Tensor]:
    """The input pixels (of `size`) and their weights for each of `out` output pixels along one axis, both (B, out, K).
    start, length: of each image's box, (B,), in whole pixels.

    As PIL: a kernel around the half-pixel centre, over the box's own pixels, normalized; if the box is longer
    than the output, the kernel is stretched by length / out.
    """
    longest = max(1.0, size / out)  # upper bound of the stretch, known without asking the device
    half = math.ceil((1 if interpolation == "bilinear" else 2) * longest)
    pixels = torch.arange(out, device=start.device)
    centre = start[:, None] + (pixels + 0.5) * (length / out)[:, None] - 0.5
    first = centre.floor() + (1 - half)
    places = first[:, :, None] + torch.arange(2 * half, device=start.device)
    distance = (places - centre[:, :, None]).abs_()
    if longest > 1:
        distance /= (length / out).clamp(min=1)[:, None, None]
    if interpolation == "bilinear":
        weights = distance.neg_().add_(1).clamp_(min=0)
    else:
        near = ((1.5 * distance - 2.5) * distance) * distance + 1
        far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
        weights = torch.where(distance <= 1, near, torch.where(distance < 2, far, torch.zeros_like(distance)))
    start, last = start[:, None, None], (start + length - 1)[:, None, None]
    weights *= (places >= start) & (places <= last)
    return torch.minimum(torch.maximum(places, start), last).long(), weights.div_(weights.sum(2, keepdim=True))


def resampled(images: Tensor, down: Taps, across: Taps, interpolation: str) -> Tensor:
    """(B, C, S, S) in [0, 1] to (B, C, out, out), with the taps `down` for rows and `across` for columns."""
    size = images.shape[-1]
    if size <= DENSE and not fixed_shapes(images):
        out = _multiply(images, _matrix(*down, size), _matrix(*across, size))
    else:
        rows = _combine_rows(images, *down)
        out = _combine_rows(rows.transpose(2, 3), *across).transpose(2, 3).contiguous()
    return out.clamp_(0, 1) if interpolation == "bicubic" else out


DENSE = 128  # up to this side, a CPU multiplies whole matrices faster than it copies the needed rows


def _matrix(places: Tensor, weights: Tensor, size: int) -> Tensor:
    """The taps of one axis as a matrix, output pixels by input pixels: (B, out, S)."""
    batch, out, _ = places.shape
    return weights.new_zeros((batch, out, size)).scatter_add_(2, places, weights)


def _multiply(images: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """down @ image @ across^T for each channel, in full precision whatever precision the process sets for matmul."""
    batch, channels, size, _ = images.shape
    down, across = down.to(images.dtype), across.to(images.dtype)
    with torch.autocast("cpu", enabled=False), _exact_products():
        wide = torch.bmm(images.reshape(batch, channels * size, size), across.mT).view(batch, channels, size, -1)
        return torch.matmul(down[:, None], wide)


@contextmanager
def _exact_products() -> Iterator[None]:
    """Undoes `torch.set_float32_matmul_precision("medium")`, with which a CPU may multiply in bfloat16."""
    allowed = torch.get_float32_matmul_precision()
    if allowed == "highest":
        yield
        return
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(allowed)


def _combine_rows(images: Tensor, places: Tensor, weights: Tensor) -> Tensor:
    """Row i of the result is the sum over k of weights[:, i, k] times the row places[:, i, k]. Images may be strided.

    Copies whole rows, which takes a fraction of the time of single pixels.
    """
    batch, channels, height, width = images.shape
    flat = images.reshape(-1, width)
    first = (torch.arange(batch * channels, device=images.device) * height).view(batch, channels, 1)
    parts = [
        flat.index_select(0, (first + places[:, None, :, k]).flatten()).mul_(
            weights[:, None, :, k].expand(-1, channels, -1).reshape(-1, 1)
        )
        for k in range(places.shape[2])
    ]
    out = parts[0]
    for part in parts[1:]:
        out.add_(part)
    return out.view(batch, channels, -1, width)
