"""Horizontal flip."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from kornia.geometry.transform import hflip
from torch import Tensor

from ablation.operators.base import Operator, Params, per_image


@dataclass(frozen=True, kw_only=True)
class Flip(Operator):
    """Mirrors the image left to right with probability 0.5 x strength.

    With strength 1 and p 1 half of the images are flipped, the usual augmentation; strength 2 flips all.
    """

    label = "flip"
    max_strength: ClassVar[float] = 2.0

    def sample(self, batch: int, size: int, generator: torch.Generator) -> Params:
        return {"flip": torch.rand(batch, generator=generator) < 0.5 * self.strength}

    def apply(self, images: Tensor, params: Params) -> Tensor:
        return torch.where(per_image(params["flip"]), hflip(images), images)

    def card(self, size: int) -> str:
        return f"mirrored left to right with probability {0.5 * self.strength:g}"
