"""MAE (He et al. 2022, arXiv:2111.06377)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ablation.methods.base import Learner, Method, Metrics
from ablation.methods.patches import check_patches, mean_over, patchify, standardized
from ablation.models.vit import Block, initialize, sincos_positions
from ablation.operators.base import Annotations
from ablation.system.distributed import gather


@dataclass(frozen=True, kw_only=True)
class MAE(Method):
    """An autoencoder that sees the kept patches of a view and predicts the pixels of the masked ones.

    L is the mean squared error over images, masked patches and pixels (section 3). The view's operator `PatchMask`
    draws the mask; the encoder is a ViT. width, blocks, heads: of the decoder. standardize: whether each target patch
    is standardized by its own mean and deviation.

    Published: lightly's number on Imagenette is of a ViT-B/32 with one block in the decoder, 11 of 49 patches kept,
    and raw pixels as targets.
    """

    label = "MAE"
    branches: ClassVar[int | None] = 1
    transformer: ClassVar[bool] = True
    annotations: ClassVar[tuple[str, ...]] = ("mask", "kept")

    width: int = 512
    blocks: int = 8
    heads: int = 16
    standardize: bool = True

    def __post_init__(self):
        for name in ("width", "blocks", "heads"):
            self.require_count(name)
        self.require("width", self.width % 4 == 0 and self.width % self.heads == 0, "be a multiple of 4 and of heads")
        self.require("standardize", isinstance(self.standardize, bool), "be True or False")

    def check(self, training: Any) -> None:
        check_patches(training)

    def build(self, encoder: nn.Module, classes: int) -> MAELearner:
        return MAELearner(encoder, self)


class MAELearner(Learner):
    def __init__(self, encoder: nn.Module, method: MAE):
        super().__init__(encoder, nn.Identity())
        self.method = method
        self.decoder = Decoder(encoder, method)

    def loss(
        self, views: list[Tensor], labels: Tensor | None, annotations: list[Annotations] | None = None
    ) -> tuple[Tensor, Metrics]:
        [images], [view] = views, annotations
        predicted = self.decoder(self.encoder.tokens(images, kept=view["kept"]), view["kept"], view["mask"].shape[1])
        with torch.autocast(images.device.type, enabled=False):
            target = patchify(images.float(), self.encoder.patch)
            target = standardized(target) if self.method.standardize else target
            errors = (predicted.float() - target).square().mean(2)
            return gather(mean_over(errors, view["mask"])).mean(), {}


class Decoder(nn.Module):
    """Predicts the pixels of all patches from the kept tokens (section 3, "MAE decoder")."""

    def __init__(self, encoder: nn.Module, method: MAE):
        super().__init__()
        channels = encoder.embedding.in_channels
        self.embedding = nn.Linear(encoder.features, method.width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, method.width))
        self.blocks = nn.ModuleList(Block(method.width, method.heads) for _ in range(method.blocks))
        self.norm = nn.LayerNorm(method.width, eps=1e-6)
        self.pixels = nn.Linear(method.width, channels * encoder.patch**2)
        initialize(self)

    def forward(self, tokens: Tensor, kept: Tensor, patches: int) -> Tensor:
        """(B, N, C patch^2) from tokens (B, 1 + K, width) of the patches numbered `kept`, (B, K), among N."""
        tokens = self.embedding(tokens)
        everywhere = self.mask_token.to(tokens.dtype).expand(len(tokens), patches, -1)
        x = everywhere.scatter(1, kept[:, :, None].expand(-1, -1, tokens.shape[2]), tokens[:, 1:])
        x = torch.cat([tokens[:, :1], x], 1) + sincos_positions(round(patches**0.5), x.shape[2], x)
        for block in self.blocks:
            x = block(x)
        return self.pixels(self.norm(x))[:, 1:]
