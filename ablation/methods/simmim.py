"""SimMIM (Xie et al. 2022, arXiv:2111.09886)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ablation.methods.base import Learner, Method, Metrics
from ablation.methods.patches import check_patches, mean_over, patchify
from ablation.operators.base import Annotations
from ablation.system.distributed import gather


@dataclass(frozen=True, kw_only=True)
class SimMIM(Method):
    """Predicts the pixels of masked patches from all patches, the masked ones replaced by a learned token.

    L is the mean absolute error over images, masked patches and pixels; a single linear layer decodes (section 3). The
    view's operator `PatchMask` draws the mask, of blocks of 32 px in the paper, 60 % of them; the encoder is a ViT.

    Published: the authors' encoder has a relative position bias, layer scale and drop path. lightly's number is of a
    ViT-B/32 that masks 75 % of single patches, with SimCLR's views.
    """

    label = "SimMIM"
    branches: ClassVar[int | None] = 1
    transformer: ClassVar[bool] = True
    annotations: ClassVar[tuple[str, ...]] = ("mask",)

    def check(self, training: Any) -> None:
        check_patches(training)

    def build(self, encoder: nn.Module, classes: int) -> SimMIMLearner:
        return SimMIMLearner(encoder)


class SimMIMLearner(Learner):
    def __init__(self, encoder: nn.Module):
        super().__init__(encoder, nn.Identity())
        self.mask_token = nn.Parameter(torch.empty(encoder.features))
        nn.init.trunc_normal_(self.mask_token, std=0.02)
        self.decoder = nn.Linear(encoder.features, encoder.embedding.in_channels * encoder.patch**2)

    def loss(
        self, views: list[Tensor], labels: Tensor | None, annotations: list[Annotations] | None = None
    ) -> tuple[Tensor, Metrics]:
        [images], [view] = views, annotations
        predicted = self.decoder(self.encoder.tokens(images, mask=view["mask"], fill=self.mask_token)[:, 1:])
        with torch.autocast(images.device.type, enabled=False):
            errors = (predicted.float() - patchify(images.float(), self.encoder.patch)).abs().mean(2)
            return gather(mean_over(errors, view["mask"])).mean(), {}
