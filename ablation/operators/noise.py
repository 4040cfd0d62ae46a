"""Additive Gaussian noise."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ablation.operators.base import Operator, Params, per_image, uniform


@dataclass(frozen=True, kw_only=True)
class Noise(Operator):
    """Additive Gaussian noise, independent per pixel and channel, clamped to [0, 1].

    std: (smallest, largest) standard deviation on the [0, 1] scale, drawn uniformly per image; a pair of
    equal numbers is fixed. strength multiplies it. Figure 5's noise is not published; this is ours.
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
        # A seed for each image, so that an image's noise depends neither on its row nor on its neighbours.
        generator = torch.Generator(images.device)
        noise = torch.empty_like(images, memory_format=torch.contiguous_format)
        for image, seed in zip(noise, params["seed"].tolist(), strict=True):
            image.normal_(generator=generator.manual_seed(seed))
        return noise.mul_(per_image(params["std"])).add_(images).clamp_(0, 1)

    def card(self, size: int) -> str:
        low, high = (s * self.strength for s in self.std)
        return f"additive Gaussian, std U({low:.3g}, {high:.3g}) per image, clamped to [0, 1]"
