"""Horizontal flip."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from kornia.geometry.transform import hflip
from torch import Tensor

from ablation.operators.base import Annotations, Operator, Params, per_image


@dataclass(frozen=True, kw_only=True)
class Flip(Operator):
    """Mirrors the image left to right with probability 0.5 x strength.

    Strength 1 and p 1 flip half of the images, the usual augmentation; strength 2 flips all.

    Kornia: uses its function hflip; the draw is ours.
    """

    label = "flip"
    max_strength: ClassVar[float] = 2.0
    moves_pixels: ClassVar[bool] = True
    annotates: ClassVar[tuple[str, ...]] = ("flip",)

    def sample(self, batch: int, size: int, generator: torch.Generator) -> Params:
        return {"flip": torch.rand(batch, generator=generator) < 0.5 * self.strength}

    def apply(self, images: Tensor, params: Params) -> Tensor:
        return torch.where(per_image(params["flip"]), hflip(images), images)

    def annotate(self, annotations: Annotations, params: Params, size: int) -> Annotations:
        return annotations | {"flip": annotations["flip"] ^ params["flip"]}

    def describe(self, size: int) -> str:
        return f"mirrored left to right with probability {0.5 * self.strength:g}"
