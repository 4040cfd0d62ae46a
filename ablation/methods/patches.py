"""Images as patches, for methods that predict the masked ones."""

from __future__ import annotations

import torch
from torch import Tensor


def patchify(images: Tensor, patch: int) -> Tensor:
    """(B, C, S, S) to (B, N, C patch^2), patches row by row from the top left."""
    batch, channels, side, _ = images.shape
    grid = side // patch
    x = images.reshape(batch, channels, grid, patch, grid, patch)
    return x.permute(0, 2, 4, 1, 3, 5).reshape(batch, grid**2, channels * patch**2)


def standardized(patches: Tensor) -> Tensor:
    """(x - mean) / deviation of each patch (He et al. 2022, section 3, "Reconstruction target"); (B, N, D)."""
    variance, mean = torch.var_mean(patches, 2, keepdim=True)
    return (patches - mean) / (variance + 1e-6).sqrt()


def mean_over(errors: Tensor, mask: Tensor) -> Tensor:
    """(B,): the mean of `errors` (B, N) over the patches where `mask` is True."""
    return (errors * mask).sum(1) / mask.sum(1)
