"""Points of a learning curve, on validation images."""

from __future__ import annotations

from torch import Tensor, nn

from ablation.data import Data
from ablation.evaluate.accuracy import accuracies
from ablation.evaluate.collapse import spread_of
from ablation.evaluate.features import embed
from ablation.evaluate.knn import nearest, vote
from ablation.evaluate.linear import fit, principal_components, scores
from ablation.methods import Learner

CURVE_PENALTY, CURVE_TOLERANCE = 1e-3, 1e-3  # of the learning curve's linear classifier, which should be cheap


def curve_points(learner: Learner, data: Data, precision: str) -> dict[str, float]:
    """All points of an epoch: `validation_points` and the spread of z."""
    return validation_points(learner.evaluated()[0], data, precision) | spread_of(learner, data, precision)


def validation_points(encoder: nn.Module, data: Data, precision: str) -> dict[str, float]:
    """Top-1 in percent on the validation images, by classifiers on the training images' h with running statistics; {}
    without labels.

    validation_knn: k = 200, T = 0.1. validation_linear: logistic regression with one penalty and ten times the
    tolerance of `Linear`.
    """
    if not data.labelled:
        return {}
    h = {"train": embed(encoder, data.train.images, data, precision)}
    h["validation"] = embed(encoder, data.validation.images, data, precision)
    similarity, neighbours = nearest(h["validation"], h["train"], min(200, len(data.train)))
    votes = vote(similarity, data.train.labels[neighbours], 0.1, len(data.classes))
    scored = {"validation_knn": votes, "validation_linear": linear_point(h, data)}
    return {name: accuracies(each, data.validation.labels)["top1"] for name, each in scored.items()}


def linear_point(h: dict[str, Tensor], data: Data) -> Tensor:
    """Scores (N, classes) of the validation images, by logistic regression on the training images' h."""
    x = principal_components(h)
    weights, _ = fit(x["train"], data.train.labels, len(data.classes), CURVE_PENALTY, CURVE_TOLERANCE)
    return scores(x["validation"], weights)
