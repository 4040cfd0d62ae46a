"""Representations of an image: h, z, or the feature maps of a stage, pooled or whole."""

from __future__ import annotations

import math
import re

from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from ablation.spec import InvalidSpec

NAMES = re.compile(r"h|z|stem|stage[1-9]\d*|map[1-9]\d*")
LARGEST = 9216  # most numbers of a pooled map, as in Goyal et al. 2019 (arXiv:1905.01235)


def representation(encoder: nn.Module, head: nn.Module | None, on: str) -> nn.Module:
    """A module from normalized images, (B, C, S, S), to (B, D): "h", "z" through the head, or a stage of the encoder
    with its maps averaged to at most 9,216 numbers; or to the maps of a stage themselves, "map3", (B, C, H, W)."""
    if on == "h":
        return encoder
    return nn.Sequential(encoder, head) if on == "z" else Stage(encoder, on)


class Stage(nn.Module):
    """name: of the stage, or "map" and its number for maps that are not pooled."""

    def __init__(self, encoder: nn.Module, name: str):
        super().__init__()
        self.encoder, self.name, self.pooled = encoder, name.replace("map", "stage"), not name.startswith("map")
        if not hasattr(encoder, "maps"):
            raise InvalidSpec(
                f"an evaluation on {name!r} needs an encoder with feature maps, but {type(encoder).__name__} has none. "
                'Write on="h", or add a method maps(images) to the encoder.'
            )

    def forward(self, images: Tensor) -> Tensor:
        """(B, C side^2), side the largest with C side^2 <= 9,216: 12, 6, 4, 3, 2 for the stages of a ResNet-50; or the
        maps, (B, C, H, W)."""
        maps = dict(self.encoder.maps(images))
        if self.name not in maps:
            raise InvalidSpec(f"the encoder has no {self.name!r}; its feature maps are {', '.join(maps)}.")
        x = maps[self.name]
        if not self.pooled:
            return x
        side = max(1, min(x.shape[-1], math.isqrt(LARGEST // x.shape[1])))
        return adaptive_avg_pool2d(x, side).flatten(1)
