"""How far z spreads over the sphere, which shows whether a method has collapsed; needs no labels."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from ablation.data import Data
from ablation.evaluate.features import embed
from ablation.methods import Learner

IMAGES = 1000  # of the validation split, at most


def spread_of(learner: Learner, data: Data, precision: str) -> dict[str, float]:
    """`spread` of the validation images' z, in evaluation mode with running batch-norm statistics."""
    return spread(embed(nn.Sequential(*learner.evaluated()), data.validation.images[:IMAGES], data, precision))


def spread(z: Tensor) -> dict[str, float]:
    """Of z, (N, D), normalized to length 1.

    z_deviation: the mean over dimensions of the standard deviation over images, times sqrt(D) (Chen and He 2021,
    arXiv:2011.10566, section 4.1): 1 for z spread evenly over the sphere, 0 if all images have one z. z_rank: the
    effective rank of the centred z, exp of the entropy of its normalized singular values (Roy and Vetterli 2007), from
    1 to min(N - 1, D); 0 if all images have one z.
    """
    z = normalize(z.double().cpu(), dim=1)
    values = torch.linalg.svdvals(z - z.mean(0))
    shares = values / values.sum()
    return {
        "z_deviation": (z.std(0, correction=0).mean() * z.shape[1] ** 0.5).item(),
        "z_rank": torch.special.entr(shares).sum().exp().item() if values.sum() > 1e-6 * len(z) else 0.0,
    }
