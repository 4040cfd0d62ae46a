"""Images as patches, for masked methods."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ablation.spec import InvalidSpec


def check_patches(training: Any) -> None:
    """Raises InvalidSpec unless the encoder has patches, of the size of the views' masks."""
    patch, name = getattr(training.encoder, "patch", None), type(training.method).__name__
    masks = [o for o in training.operators if "mask" in o.annotates]
    if patch is None or any(mask.patch != patch for mask in masks):
        patches = "without patches" if patch is None else f"with patches of {patch} px"
        sizes = ", ".join(str(mask.patch) for mask in masks)
        raise InvalidSpec(
            f"Training.encoder: {name} needs an encoder with the mask's patch size, but got {training.encoder.label} "
            f"{patches} and masks of {sizes} px. Write encoder=ViT(patch=4) and PatchMask(patch=4)."
        )


def patchify(images: Tensor, patch: int) -> Tensor:
    """(B, C, S, S) to (B, N, C patch^2), patches row by row from the top left."""
    batch, channels, side, _ = images.shape
    grid = side // patch
    x = images.reshape(batch, channels, grid, patch, grid, patch)
    return x.permute(0, 2, 4, 1, 3, 5).reshape(batch, grid**2, channels * patch**2)


def standardized(patches: Tensor) -> Tensor:
    """(x - mean) / deviation of each patch (He et al. 2022, section 3, "Reconstruction target"); (B, N, D)."""
    centred = patches - patches.mean(2, keepdim=True)
    variance = centred.square().sum(2, keepdim=True) / (patches.shape[2] - 1)  # torch.var is four times as slow here
    return centred / (variance + 1e-6).sqrt()


def mean_over(errors: Tensor, mask: Tensor) -> Tensor:
    """(B,): the mean of `errors` (B, N) over the patches where `mask` is True."""
    return (errors * mask).sum(1) / mask.sum(1)
