"""Resizing the whole image."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ablation.operators.base import Operator, Params
from ablation.operators.resample import resampled, taps


@dataclass(frozen=True, kw_only=True)
class Resize(Operator):
    """The whole image resized to `size` x `size`, antialiased as PIL's; nothing is random.

    For the branch beside one with `Crop(size=128)`, since all views of a run have the same size. p and strength are 1.

    Kornia: its Resize differs from PIL's by up to 0.24 from 160 to 128 px, antialiased or not.
    """

    label = "resize"

    size: int = 128  # for images stored at 160 px
    interpolation: str = "bilinear"

    def __post_init__(self):
        super().__post_init__()
        self.require_count("size")
        self.require_choice("interpolation", ("bilinear", "bicubic"))
        for name in ("p", "strength"):
            rule = "be 1, since an unchanged image would keep its size"
            self.require(name, getattr(self, name) == 1, rule, "Remove it.")

    def output_size(self, size: int | None) -> int | None:
        return self.size

    def sample(self, batch: int, size: int, generator: torch.Generator) -> Params:
        return {}

    def transform(self, images: Tensor, params: Params) -> Tensor:
        return self.apply(images, params)

    def apply(self, images: Tensor, params: Params) -> Tensor:
        size = images.shape[-1]
        start = torch.zeros(1, device=images.device)
        axis = tuple(
            each.expand(len(images), -1, -1) for each in taps(start, start + size, size, self.size, self.interpolation)
        )
        return resampled(images, axis, axis, self.interpolation)

    def describe(self, size: int) -> str:
        return f"the whole image, resized {self.interpolation} to {self.size} px"
