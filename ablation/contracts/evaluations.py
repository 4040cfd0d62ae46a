"""Checks of the contract of an evaluation (evaluate/base.py)."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ablation.contracts.base import broken, by_a_user, first_images, say, shown
from ablation.contracts.operators import check_views
from ablation.data import Data, Split
from ablation.spec import operators_in
from ablation.spec.metric import reads_as_accuracy
from ablation.spec.randomness import generator_at

TEST_ACCURACY = re.compile(r"test_(top-?1|acc|accuracy)")
MEASURED = re.compile(r"second|time|memory|bytes|joule|watt")  # metrics whose values vary from call to call


def check_evaluation(evaluation: Any, data: Data) -> None:
    """Checks a user's operators inside an evaluation, before anything is computed."""
    operators = [operator for operator in operators_in(evaluation) if by_a_user(operator)]
    if operators:
        check_views(first_images(data), (), [(operator,) for operator in dict.fromkeys(operators)])


def check_evaluated(evaluation: Any, returned: Any, data: Data) -> None:
    """Checks the result of `evaluate` of a user's class on these images."""
    if not by_a_user(evaluation):
        return
    if not isinstance(returned, tuple) or len(returned) != 3:
        raise broken(
            evaluation, "evaluate must return (metrics, predictions, notes)", f"returned {shown(returned)}",
            'Write return {"test_top1": value}, {}, [].',
        )  # fmt: skip
    metrics, predictions, notes = returned
    classes = len(data.classes)
    rule = "evaluate must return metrics as a dict from names to Python floats, finite or not-a-number"
    if not isinstance(metrics, dict):
        raise broken(evaluation, rule, f"returned {shown(metrics)}", 'Write {"test_top1": value}.')
    for name, value in metrics.items():
        number = isinstance(value, (int, float)) and not isinstance(value, bool) and not math.isinf(value)
        if not isinstance(name, str) or not number:
            raise broken(evaluation, rule, f"{name!r} is {shown(value)}", "Write value.item() or float(value).")
    for name, value in metrics.items():
        if reads_as_accuracy(name) and 0 < value <= 1 < 100 / max(1, classes):
            say(evaluation, f"{name} is at most 1. If it is a fraction, multiply it by 100: figures show percent")
        if reads_as_accuracy(name) and not 0 <= value <= 100 and not math.isnan(value):
            line = f"{name} is {value:g}, but an accuracy is 0 to 100 percent. Correct it, or give it another name"
            say(evaluation, line, about=f"{name} is no accuracy")
    lengths = {split: len(each) for split, each in data.splits().items()}
    _check_predictions(evaluation, predictions, lengths, classes)
    for split, predicted in predictions.items() if data.labelled else ():
        labels = data.splits()[split].labels
        stated = metrics.get(f"{split}_top1", math.nan)
        right = predicted.cpu() == labels.cpu() if len(predicted) == lengths[split] else torch.zeros(0)
        counted = 100 * right.double().mean().item()
        if abs(stated - counted) > 0.01:
            raise broken(
                evaluation, f"{split}_top1 must be the accuracy of the predictions in percent",
                f"it is {stated:g}, and {right.sum().item()} of {len(right)} predictions are right, {counted:.2f} %",
                "Write 100 * (predicted == labels).double().mean().item(), or give the metric another name.",
            )  # fmt: skip
    if not isinstance(notes, (list, tuple)) or not all(isinstance(note, str) for note in notes):
        raise broken(evaluation, "evaluate must return notes as a list of strings", f"returned {shown(notes)}",
                     "Return [] for none.")  # fmt: skip


def check_repeated(evaluation: Any, returned: tuple, again: tuple, device: torch.device) -> None:
    """Checks that a second call of `evaluate` of a user's class, with the same global generators, gives the same."""
    (metrics, predictions, _), (others, predicted, _) = returned, again
    computed = {name: value for name, value in metrics.items() if not MEASURED.search(name)}
    apart = [n for n, value in computed.items() if not _near(value, others.get(n, math.nan), device)]
    if device.type == "cpu":  # a GPU adds in another order, which may flip single predictions
        apart += [s for s in predictions if s not in predicted or not torch.equal(predictions[s], predicted[s])]
    if apart:
        raise broken(
            evaluation, "evaluate must give the same result for the same features and draws",
            f"{apart[0]!r} differs at a second call",
            "Draw with torch's functions or a torch.Generator seeded by features.seed; keep no state between calls.",
        )  # fmt: skip


def with_other_test_labels(features: Any) -> Any:
    """Features with permuted test labels, for `check_test_labels`."""
    data = features.data
    labels = data.test.labels
    dealt = labels[torch.randperm(len(labels), generator=generator_at("contracts", "test labels")).to(labels.device)]
    other = dataclasses.replace(data, test=Split(data.test.images, dealt))
    return dataclasses.replace(features, labels={**features.labels, "test": dealt}, data=other)


def check_test_labels(evaluation: Any, returned: tuple, others: tuple, labels: Tensor) -> None:
    """Checks that `evaluate` of a user's class predicts test images without their labels. others: its result with other
    test labels (`with_other_test_labels`). labels: the true ones, (N,)."""
    (metrics, predictions, _), (chance, predicted, _) = returned, others
    if "test" in predictions:
        changed = -1
        if "test" in predicted and predicted["test"].shape == predictions["test"].shape:
            changed = (predictions["test"] != predicted["test"]).sum().item()
        # A GPU adds in another order, which may flip single predictions.
        if not 0 <= changed <= (0 if labels.device.type == "cpu" else 0.02 * len(labels)):
            how_many = f"{changed} of {len(predictions['test'])}" if changed > 0 else "all"
            raise broken(
                evaluation, "evaluate must predict test images without their labels",
                f"with other test labels {how_many} of its predictions change",
                "Predict from the images and labels of train and validation alone. If you use test labels on purpose, "
                "as to match clusters with classes, return no predictions for test: {}.",
            )  # fmt: skip
        return
    most = 100 * torch.bincount(labels).max().item() / len(labels)
    for name in filter(TEST_ACCURACY.fullmatch, metrics):
        true, left = metrics[name], chance.get(name, math.nan)
        if true - most > 30 and left - most > 0.8 * (true - most):  # with few images chance adds some points too
            say(
                evaluation,
                f"{name} is {true:.4g}, and {left:.4g} with other test labels. Does it predict test images from their "
                "own labels? Predict from train and validation alone, and return the predictions",
                about=f"{name} of other labels",
            )


def _near(one: float, other: float, device: torch.device) -> bool:
    tolerance = 1e-6 if device.type == "cpu" else 0.05
    return (math.isnan(one) and math.isnan(other)) or abs(one - other) <= tolerance * max(1.0, abs(one))


def _check_predictions(evaluation: Any, predictions: Any, lengths: Mapping[str, int], classes: int) -> None:
    rule = f"evaluate must return predictions as a dict from splits ({', '.join(lengths)}) to one integer per image"
    if not isinstance(predictions, dict):
        raise broken(evaluation, rule, f"returned {shown(predictions)}", "Write {} for none.")
    for split, labels in predictions.items():
        whole = isinstance(labels, Tensor) and not labels.is_floating_point() and not labels.is_complex()
        # A probe with several versions of every image predicts version after version.
        fits = whole and labels.ndim == 1 and split in lengths and len(labels) and len(labels) % lengths[split] == 0
        if not fits:
            seen = f"{split!r} is {shown(labels)}" + (f" for {lengths[split]} images" if split in lengths else "")
            raise broken(evaluation, rule, seen, "Write scores.argmax(1), a tensor, for all images of the split.")
        # One prediction per image is a class of the data set; several mean that the evaluation has its own classes.
        highest = classes - 1 if classes and len(labels) == lengths[split] else torch.iinfo(torch.int16).max
        if labels.min() < 0 or labels.max() > highest:
            raise broken(
                evaluation, f"predictions must be indices of classes, from 0 to {highest}",
                f"{split!r} holds {labels.min().item()} to {labels.max().item()}", "Write scores.argmax(1).",
            )  # fmt: skip
