"""Evaluation of a frozen encoder: the two protocols of the field, probes and invariances."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor, nn

from ablation.contracts import (
    broken,
    by_a_user,
    check_evaluated,
    check_evaluation,
    check_repeated,
    check_test_labels,
    with_other_test_labels,
)
from ablation.datasets import Data
from ablation.datasets.cache import lent
from ablation.evaluate.features import STATISTICS, Features, extract
from ablation.evaluate.invariance import Invariance
from ablation.evaluate.knn import KNN
from ablation.evaluate.linear import Linear
from ablation.evaluate.probe import Probe
from ablation.randomness import global_draws_at
from ablation.specs import identity, is_ours

__all__ = ["KNN", "STATISTICS", "Evaluated", "Invariance", "Linear", "Probe", "evaluate", "evaluate_each"]


@dataclass(frozen=True)
class Evaluated:
    """What an evaluation found. Metrics end in the batch-norm statistics, "test_top1_running"; percent.

    predictions: {"test_running": (N,) integers, ...}; seconds include a share of the features' time.
    """

    metrics: dict[str, float]
    predictions: dict[str, np.ndarray]
    notes: list[str]
    seconds: float


REPEATED = 60  # seconds: a user's evaluation that takes less is called three times, once in each process
_repeated: set = set()  # those that were


def evaluate(
    evaluations: Sequence, encoder: nn.Module, data: Data, precision: str, head: nn.Module | None = None, seed: int = 0
) -> list[Evaluated]:
    """As `evaluate_each`, all of them. Raises what one of them raises."""
    results = list(evaluate_each(evaluations, encoder, data, precision, head, seed))
    for result in results:
        if isinstance(result, Exception):
            raise result
    return results


def evaluate_each(
    evaluations: Sequence, encoder: nn.Module, data: Data, precision: str, head: nn.Module | None = None, seed: int = 0
) -> Iterator[Evaluated | Exception]:
    """Each evaluation on the same features of h, and of z where one asks for it, computed once; of one that fails, what
    it raised.

    seed: the run's, from which an evaluation draws: with `features.address`, and from torch's global generators, which
    are seeded for each evaluation and left as they were.
    """
    if not evaluations:
        return
    start = time.perf_counter()
    on_z = any(getattr(evaluation, "on", "h") == "z" for evaluation in evaluations)
    features = extract(encoder, data, precision, head if on_z else None, seed)
    share = (time.perf_counter() - start) / len(evaluations)
    for evaluation in evaluations:
        try:
            yield _evaluated(evaluation, features, data, seed, share)
        except Exception as error:
            yield error


def _evaluate(evaluation, features: Features, data: Data) -> tuple:
    """A user's class may work in place: it gets features and data of its own, and images that change are noticed."""
    if is_ours(type(evaluation)):
        return evaluation.evaluate(features)
    own = {split: h.clone() for split, h in features.h.items()}
    labels = {split: each.clone() for split, each in features.labels.items()}
    with lent(data) as own_data:
        images = [split.images for split in own_data.splits().values()]
        before = [each._version for each in images]
        returned = evaluation.evaluate(replace(features, h=own, labels=labels, data=own_data))
        changed = [each._version for each in images] != before
    if changed:
        raise broken(evaluation, "evaluate must leave the images alone", "it changes them in place", "Work on a copy.")
    return returned


def _collapsed(h: Tensor) -> bool:
    """Whether the images' features, (N, d), differ by rounding only."""
    return len(h) > 1 and bool((h - h.mean(0)).abs().max() <= 1e-5 * h.abs().max())


def _evaluated(evaluation, features: dict[str, dict[str, Features]], data: Data, seed: int, share: float) -> Evaluated:
    """share: seconds that the features took, of this evaluation."""
    start = time.perf_counter()
    check_evaluation(evaluation, data)
    metrics: dict[str, float] = {}
    predictions: dict[str, np.ndarray] = {}
    notes = [f"{evaluation.on} is the same for all test images: it has collapsed"] * _collapsed(
        features[evaluation.on]["running"].h["test"]
    )

    def called(given: Features, data: Data) -> tuple:
        with global_draws_at(data.device, seed, "evaluation", identity(evaluation)):
            return _evaluate(evaluation, given, data)

    for statistics in STATISTICS:
        given = features[evaluation.on][statistics]
        returned, called_at = called(given, data), time.perf_counter()
        labels = {split: part.labels for split, part in data.splits().items()}
        check_evaluated(evaluation, returned, labels, len(data.classes))
        if by_a_user(evaluation) and evaluation not in _repeated and called_at - start < REPEATED:
            check_repeated(evaluation, returned, called(given, data), data.device)
            others = called(*with_other_test_labels(given, data))
            check_test_labels(evaluation, returned, others, data.test.labels)
            _repeated.add(evaluation)
            start += time.perf_counter() - called_at  # no part of what the evaluation costs
        found, predicted, said = returned
        metrics |= {f"{name}_{statistics}": float(value) for name, value in found.items()}
        for split, labels in predicted.items():
            predictions[f"{split}_{statistics}"] = labels.cpu().numpy().astype(np.int16)
        notes += [note for note in said if note not in notes]
    return Evaluated(metrics, predictions, notes, share + time.perf_counter() - start)
