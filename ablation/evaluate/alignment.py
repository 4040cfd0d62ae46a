"""Alignment and uniformity of z, which need no labels."""

from __future__ import annotations

import torch
from torch import nn

from ablation.data import Data
from ablation.evaluate.features import BATCH
from ablation.methods import Learner
from ablation.operators.pipeline import make_views, normalize
from ablation.spec import Training
from ablation.training.precision import precision_of


@torch.no_grad()
def alignment_and_uniformity(learner: Learner, training: Training, data: Data) -> dict[str, float]:
    """Of z on the unit sphere (Wang and Isola 2020, arXiv:2005.10242, equations 1 and 2; alpha = 2, t = 2).

    On views of at most 1,000 validation images, in evaluation mode. Alignment is the mean squared distance between
    the first two views of an image (omitted for a single view); uniformity is the log of the mean of
    exp(-2 |z_i - z_j|^2) over pairs of images in the first view.
    """
    learner.eval()
    images = data.validation.images[:1000].to(data.device)
    views = make_views(images, training.shared, training.views, (training.seed, "diagnostics"))[:2]
    with precision_of(training.optimization.precision, images.device):
        parts = [[normalize(part, data.mean, data.std) for part in view.split(BATCH)] for view in views]
        z = [torch.cat([learner.project(part).float() for part in view]) for view in parts]
    z = [nn.functional.normalize(each, dim=1) for each in z]
    metrics = {"uniformity": torch.pdist(z[0]).square().mul(-2).exp().mean().log().item()}
    if len(z) == 2:
        metrics["alignment"] = (z[0] - z[1]).square().sum(1).mean().item()
    return metrics
