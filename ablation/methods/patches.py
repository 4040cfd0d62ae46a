"""Images as patches, for masked methods."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ablation.operators.patch_mask import PatchMask
from ablation.spec import InvalidSpec


def check_patches(training: Any) -> None:
    """Raises InvalidSpec unless the encoder has patches, of the size of the views' masks, and the masks fit the views
    and the method."""
    patch, name = getattr(training.encoder, "patch", None), type(training.method).__name__
    masks = [o for o in training.operators if isinstance(o, PatchMask)]
    if patch is None or any(mask.patch != patch for mask in masks):
        patches = "without patches" if patch is None else f"with patches of {patch} px"
        sizes = ", ".join(str(mask.patch) for mask in masks)
        cure = "encoder=ViT(patch=4) and PatchMask(patch=4)" if patch is None else f"PatchMask(patch={patch})"
        raise InvalidSpec(
            f"Training.encoder: {name} needs an encoder with the mask's patch size, but got {training.encoder.label} "
            f"{patches} and masks of {sizes} px. Write {cure}."
        )
    for number, view in enumerate(training.views):
        operators = (*training.shared, *view)
        for place, operator in enumerate(operators):
            if isinstance(operator, PatchMask):
                sides = training.size_of(operators[:place]), training.size_of(operators)
                _check_mask(f"Training.views[{number}]", training.method, operator, *sides)


def _check_mask(where: str, method: Any, mask: PatchMask, before: int | None, after: int | None) -> None:
    """before, after: the side of images at the mask and of the view, None if unknown."""
    if before != after:
        sizes = [side or "unknown" for side in (before, after)]
        raise InvalidSpec(
            f"{where}: PatchMask must have the view's patches, but its images have {sizes[0]} px and the view's "
            f"{sizes[1]}. Write it last: (Crop(size={after}), PatchMask())."
        )
    few = mask.ratio * mask.strength == 0 if after is None else mask.kept(after) == mask.cells(after) ** 2
    if few and "mask" in method.annotations:
        share = f"ratio={mask.ratio:g} and strength={mask.strength:g}"
        raise InvalidSpec(
            f"{where}: {type(method).__name__} predicts masked patches, but PatchMask with {share} masks none. Raise "
            "ratio or strength, or take smaller patches."
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
