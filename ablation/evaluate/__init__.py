"""Evaluation of a frozen encoder: the two protocols of the field, probes and invariances."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import nn

from ablation.contracts import check_evaluated, check_evaluation
from ablation.datasets import Data
from ablation.evaluate.features import STATISTICS, extract
from ablation.evaluate.invariance import Invariance
from ablation.evaluate.knn import KNN
from ablation.evaluate.linear import Linear
from ablation.evaluate.probe import Probe
from ablation.randomness import global_draws_at
from ablation.specs import identity

__all__ = ["KNN", "STATISTICS", "Evaluated", "Invariance", "Linear", "Probe", "evaluate"]


@dataclass(frozen=True)
class Evaluated:
    """What an evaluation found. Metrics end in the batch-norm statistics, "test_top1_running"; percent.

    predictions: {"test_running": (N,) integers, ...}; seconds include a share of the features' time.
    """

    metrics: dict[str, float]
    predictions: dict[str, np.ndarray]
    notes: list[str]
    seconds: float


def evaluate(
    evaluations: Sequence, encoder: nn.Module, data: Data, precision: str, head: nn.Module | None = None, seed: int = 0
) -> list[Evaluated]:
    """Each evaluation on the same features of h, and of z where one asks for it, computed once.

    seed: the run's, from which an evaluation draws: with `features.address`, and from torch's global generators, which
    are seeded for each evaluation and left as they were.
    """
    for evaluation in evaluations:
        check_evaluation(evaluation, data)
    start = time.perf_counter()
    on_z = any(evaluation.on == "z" for evaluation in evaluations)
    features = extract(encoder, data, precision, head if on_z else None, seed)
    share = (time.perf_counter() - start) / max(1, len(evaluations))
    results = []
    for evaluation in evaluations:
        start = time.perf_counter()
        metrics: dict[str, float] = {}
        predictions: dict[str, np.ndarray] = {}
        notes: list[str] = []
        for statistics in STATISTICS:
            with global_draws_at(data.device, seed, "evaluation", identity(evaluation)):
                returned = evaluation.evaluate(features[evaluation.on][statistics])
            check_evaluated(evaluation, returned, {split: len(part) for split, part in data.splits().items()})
            found, predicted, said = returned
            metrics |= {f"{name}_{statistics}": value for name, value in found.items()}
            for split, labels in predicted.items():
                predictions[f"{split}_{statistics}"] = labels.cpu().numpy().astype(np.int16)
            notes += [note for note in said if note not in notes]
        results.append(Evaluated(metrics, predictions, notes, share + time.perf_counter() - start))
    return results
