"""Vision transformers (Dosovitskiy et al. 2021, arXiv:2010.11929), pre-norm, with a class token."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, scaled_dot_product_attention

from ablation.spec import InvalidSpec, Spec


@dataclass(frozen=True, kw_only=True)
class ViT(Spec):
    """A transformer on patches of `patch` px. width 192, 384, 768 with heads 3, 6, 12 and 12 blocks are ViT-Ti, -S, -B.

    positions: "learned" (resized bicubically for other image sizes) or "sincos" (fixed, two-dimensional; He et al.
    2022). pool: h is the "class" token after the last norm, or the "mean" of the patch tokens.
    """

    patch: int = 16
    width: int = 384
    blocks: int = 12
    heads: int = 6
    positions: str = "learned"
    pool: str = "class"

    def __post_init__(self):
        for name in ("patch", "width", "blocks", "heads"):
            self.require_count(name)
        self.require("heads", self.width % self.heads == 0, f"divide the width, {self.width}")
        self.require_choice("positions", ("learned", "sincos"))
        self.require("positions", self.positions == "learned" or self.width % 4 == 0, "be learned at this width")
        self.require_choice("pool", ("class", "mean"))

    @property
    def label(self) -> str:
        return f"ViT ({self.width} wide, {self.blocks} blocks, patch {self.patch})"

    @property
    def features(self) -> int:
        """Dimension of h."""
        return self.width

    def check_size(self, size: int) -> None:
        """Raises InvalidSpec for images of `size` pixels that patches do not cover."""
        check_side(size, self.patch)

    def build(self, channels: int = 3, size: int | None = None, classes: int | None = None) -> VisionTransformer:
        if size is None:
            raise InvalidSpec("ViT.build needs the images' side in pixels, but got none. Write build(size=32).")
        self.check_size(size)
        return VisionTransformer(self, channels, size // self.patch, classes)


def check_side(side: int, patch: int) -> None:
    if side % patch:
        largest = max(p for p in range(1, patch) if side % p == 0)
        raise InvalidSpec(
            f"ViT.patch must divide the side of the views and of the stored images, {side} px, but got {patch}: their "
            f"border would be lost. Write patch={largest}, or give the images another size."
        )


class VisionTransformer(nn.Module):
    """forward: (B, C, S, S) to h, from the patches numbered `kept`, if given. tokens: to all tokens."""

    def __init__(self, spec: ViT, channels: int, grid: int, classes: int | None):
        super().__init__()
        self.patch, self.features, self.pool, self.grid = spec.patch, spec.width, spec.pool, grid
        self.embedding = nn.Conv2d(channels, spec.width, spec.patch, spec.patch)
        self.class_token = nn.Parameter(torch.zeros(1, 1, spec.width))
        self.positions = None
        if spec.positions == "learned":
            self.positions = nn.Parameter(torch.zeros(1, 1 + grid**2, spec.width))
        self.blocks = nn.ModuleList(Block(spec.width, spec.heads) for _ in range(spec.blocks))
        self.norm = nn.LayerNorm(spec.width, eps=1e-6)
        self.fc = nn.Linear(spec.width, classes) if classes else nn.Identity()
        initialize(self)

    def tokens(
        self, images: Tensor, kept: Tensor | None = None, mask: Tensor | None = None, fill: Tensor | None = None
    ) -> Tensor:
        """(B, 1 + N, width): the class token first, then the patches row by row from the top left.

        kept: (B, K) numbers of the only patches that enter; the result then has these K (MAE). mask: (B, N) bool,
        patches whose embedding is replaced by `fill`, (width,) (SimMIM).
        """
        check_side(images.shape[-1], self.patch)
        x = self.embedding(images)
        positions = self._positions(x.shape[-1], x)
        x = x.flatten(2).transpose(1, 2)
        if mask is not None:
            x = torch.where(mask[:, :, None], fill.to(x.dtype), x)
        x = x + positions[:, 1:]
        if kept is not None:
            x = x.gather(1, kept[:, :, None].expand(-1, -1, x.shape[2]))
        first = (self.class_token + positions[:, :1]).to(x.dtype).expand(len(x), -1, -1)
        x = torch.cat([first, x], 1)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)

    def forward(self, images: Tensor, kept: Tensor | None = None) -> Tensor:
        tokens = self.tokens(images, kept)
        return self.fc(tokens[:, 0] if self.pool == "class" else tokens[:, 1:].mean(1))

    def _positions(self, grid: int, like: Tensor) -> Tensor:
        if self.positions is None:
            return sincos_positions(grid, self.features, like)
        if grid == self.grid:
            return self.positions
        patches = self.positions[:, 1:].unflatten(1, (self.grid, self.grid)).permute(0, 3, 1, 2)
        patches = interpolate(patches, size=(grid, grid), mode="bicubic").flatten(2).transpose(1, 2)
        return torch.cat([self.positions[:, :1], patches], 1)


class Block(nn.Module):
    """Attention, then two linear layers with GELU, each with a LayerNorm before and a residual connection."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm1(x)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attended = scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = x + self.out(attended)
        return x + self.mlp(self.norm2(x))


def initialize(module: nn.Module) -> None:
    """Xavier for linear layers and the patch projection, 0.02 for tokens and positions (He et al. 2022, App. A)."""
    for name, parameter in module.named_parameters():
        if name.endswith(("token", "positions")):
            nn.init.trunc_normal_(parameter, std=0.02)
    for layer in module.modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            nn.init.xavier_uniform_(layer.weight.view(len(layer.weight), -1))
            nn.init.zeros_(layer.bias)


def sincos_positions(grid: int, width: int, like: Tensor) -> Tensor:
    """(1, 1 + grid^2, width): sines and cosines of the column and of the row; 0 for the class token."""
    frequencies = 10_000 ** -(torch.arange(width // 4, device=like.device) / (width // 4))
    place = torch.arange(grid, device=like.device, dtype=torch.float32)
    angles = place[:, None] * frequencies
    waves = torch.cat([angles.sin(), angles.cos()], 1)  # (grid, width / 2)
    across = waves[None].expand(grid, -1, -1)
    down = waves[:, None].expand(-1, grid, -1)
    positions = torch.cat([across, down], 2).flatten(0, 1)
    return torch.cat([positions.new_zeros(1, width), positions])[None].to(like.dtype)
