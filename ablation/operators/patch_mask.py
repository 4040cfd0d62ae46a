"""Random masks over an image's patches, for masked methods."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

import torch
from torch import Tensor

from ablation.operators.base import Annotations, Operator, Params


@dataclass(frozen=True, kw_only=True)
class PatchMask(Operator):
    """Masks a random share of the image's patches (He et al. 2022, arXiv:2111.06377, section 3); the pixels stay.

    A masked method reads the annotation `mask` of its views. ratio: the masked share, times the strength; of N
    patches int(N (1 - ratio)) are kept, computed exactly. patch: the side in pixels, equal to the encoder's. block:
    the side of blocks that are masked as a whole, a multiple of `patch` (SimMIM masks blocks of 32 px).

    Kornia: has none; its containers have no such annotation.
    """

    label = "mask"
    max_strength: ClassVar[float] = 100.0
    annotates: ClassVar[tuple[str, ...]] = ("mask", "kept")
    only_annotates: ClassVar[bool] = True

    ratio: float = 0.75
    patch: int = 4
    block: int | None = None

    def __post_init__(self):
        super().__post_init__()
        self.require_number("ratio", 0, 1)
        self.require_count("patch")
        self.require("p", self.p == 1, "be 1, since all images of a batch keep equally many patches", "Change ratio.")
        share = self.ratio * self.strength
        self.require("strength", share < 1, "leave a patch (strength x ratio < 1)", "Lower ratio or strength.")
        if self.block is not None:
            self.require_count("block")
            self.require("block", self.block % self.patch == 0, f"be a multiple of the patch, {self.patch}")

    def cells(self, size: int) -> int:
        """The number of patches, or blocks, along a side of an image of `size` pixels."""
        side = self.block or self.patch
        name = "block" if self.block else "patch"
        self.require(name, size % side == 0, f"divide the image's side, {size} px", "Change it or the image's size.")
        return size // side

    def kept(self, size: int) -> int:
        """The number of an image's patches, or blocks, that are kept."""
        masked = Fraction(str(self.ratio)) * Fraction(str(self.strength))
        return max(1, int(self.cells(size) ** 2 * (1 - masked)))

    def sample(self, batch: int, size: int, generator: torch.Generator) -> Params:
        return {"scores": torch.rand(batch, self.cells(size) ** 2, generator=generator)}

    def apply(self, images: Tensor, params: Params) -> Tensor:
        return images

    def annotate(self, annotations: Annotations, params: Params, size: int) -> Annotations:
        """mask: (B, patches) bool, True if masked, row by row from the top left; kept: (B, K), the others' numbers."""
        scores, cells = params["scores"], self.cells(size)
        order = scores.argsort(1)
        mask = torch.ones_like(scores, dtype=torch.bool).scatter(1, order[:, : self.kept(size)], False)
        times = (self.block or self.patch) // self.patch
        mask = mask.view(-1, cells, cells).repeat_interleave(times, 1).repeat_interleave(times, 2).flatten(1)
        kept = mask.int().argsort(dim=1, stable=True)[:, : self.kept(size) * times**2]
        return annotations | {"mask": mask, "kept": kept}

    def describe(self, size: int) -> str:
        cells = f"blocks of {self.block} px" if self.block else f"patches of {self.patch} px"
        return f"{1 - self.kept(size) / self.cells(size) ** 2:.0%} of the {cells} masked; the pixels stay"
