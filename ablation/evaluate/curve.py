"""Points of a learning curve, on validation images and, for published numbers, on test images."""

from __future__ import annotations

from torch import Tensor

from ablation.data import Data
from ablation.evaluate.accuracy import accuracies
from ablation.evaluate.collapse import spread_of
from ablation.evaluate.features import embed
from ablation.evaluate.knn import nearest, vote
from ablation.evaluate.linear import fit, principal_components, scores
from ablation.methods import Learner

TEST_NEIGHBOURS = (200, 20)
CURVE_PENALTY, CURVE_TOLERANCE = 1e-3, 1e-3  # of the learning curve's linear classifier, which should be cheap


def curve_points(learner: Learner, data: Data, precision: str, on_test: bool = False) -> dict[str, float]:
    """All points of an epoch: the spread of z and, with labels, `validation_points` and, if asked for,
    `points_on_test`."""
    points = spread_of(learner, data, precision)
    if not data.labelled:
        return points
    encoder, splits = learner.evaluated()[0], data.splits()
    needed = splits if on_test else {name: splits[name] for name in ("train", "validation")}
    h = {name: embed(encoder, split.images, data, precision) for name, split in needed.items()}
    return validation_points(h, data) | points | (points_on_test(h, data) if on_test else {})


def points_on_test(h: dict[str, Tensor], data: Data) -> dict[str, float]:
    """Top-1 in percent on the test images by kNN on the training images' h, T = 0.1.

    test_knn_k200, test_knn_k20: lightly's pages state k = 20 for ImageNet-100 and Imagenette, where the script of the
    latter has 200.
    """
    found = {}
    for k in TEST_NEIGHBOURS:
        similarity, neighbours = nearest(h["test"], h["train"], min(k, len(data.train)))
        votes = vote(similarity, data.train.labels[neighbours], 0.1, len(data.classes))
        found[f"test_knn_k{k}"] = accuracies(votes, data.test.labels)["top1"]
    return found


def best_on_test(history: list[dict[str, float]]) -> dict[str, float]:
    """The maximum over epochs of each of `points_on_test`, named test_knn_k200_maximum; {} if none was measured."""
    rows = [row for row in history if f"test_knn_k{TEST_NEIGHBOURS[0]}" in row]
    names = [f"test_knn_k{k}" for k in TEST_NEIGHBOURS]
    return {f"{name}_maximum": max(row[name] for row in rows) for name in names} if rows else {}


def validation_points(h: dict[str, Tensor], data: Data) -> dict[str, float]:
    """Top-1 in percent on the validation images, by classifiers on the training images' h with running statistics.

    validation_knn: k = 200, T = 0.1. validation_linear: logistic regression with one penalty and ten times the
    tolerance of `Linear`.
    """
    similarity, neighbours = nearest(h["validation"], h["train"], min(200, len(data.train)))
    votes = vote(similarity, data.train.labels[neighbours], 0.1, len(data.classes))
    scored = {"validation_knn": votes, "validation_linear": linear_point(h, data)}
    return {name: accuracies(each, data.validation.labels)["top1"] for name, each in scored.items()}


def linear_point(h: dict[str, Tensor], data: Data) -> Tensor:
    """Scores (N, classes) of the validation images, by logistic regression on the training images' h."""
    x = principal_components(h)
    weights, _ = fit(x["train"], data.train.labels, len(data.classes), CURVE_PENALTY, CURVE_TOLERANCE)
    return scores(x["validation"], weights)
