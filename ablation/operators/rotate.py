"""Rotation by quarter turns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ablation.operators.base import Operator, Params, fixed_shapes, per_image


@dataclass(frozen=True, kw_only=True)
class Rotate(Operator):
    """Rotation by 90, 180 or 270 degrees, equally likely, exact (Chen et al. 2020, Figure 4).

    There is no weaker quarter turn, so strength is the probability that the image is turned.
    """

    label = "rotate"
    max_strength: ClassVar[float] = 1.0

    def sample(self, batch: int, size: int, generator: torch.Generator) -> Params:
        turns = torch.randint(1, 4, (batch,), generator=generator)
        return {"turns": turns * (torch.rand(batch, generator=generator) < self.strength)}

    def apply(self, images: Tensor, params: Params) -> Tensor:
        out = images.clone()
        for k in (1, 2, 3):
            chosen = params["turns"] == k
            if fixed_shapes(images):
                out = torch.where(per_image(chosen), images.rot90(k, (2, 3)), out)
                continue
            rows = chosen.nonzero().squeeze(1)
            out.index_copy_(0, rows, images[rows].rot90(k, (2, 3)))
        return out

    def card(self, size: int) -> str:
        return f"90, 180 or 270 degrees, equally likely, exact; probability {self.strength:g}"
