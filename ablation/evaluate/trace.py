"""Numbers that a user's evaluation computes on fixed input, kept beside results; see contracts/trace.py."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import torch
from torch import Tensor, nn

from ablation.contracts.base import by_a_user
from ablation.contracts.evaluations import MEASURED
from ablation.contracts.trace import Trace
from ablation.data import Data, Split
from ablation.evaluate.base import Features
from ablation.spec import is_ours
from ablation.spec.randomness import global_draws_at

EVALUATED = 64  # images of each split
SLOWEST = 5  # seconds; an evaluation that takes longer on so few images has no trace


def has_trace(evaluation: Any) -> bool:
    """Whether a user's class computes: the evaluation's own or that of an operator in it. Data sets have checks of
    their own."""
    parts = (getattr(evaluation, field.name) for field in dataclasses.fields(evaluation) if field.name != "dataset")
    return not hasattr(evaluation, "training") and (not is_ours(type(evaluation)) or any(map(by_a_user, parts)))


def trace_of_evaluation(evaluation: Any, data: Data) -> Trace:
    """A user's metrics of the pooled pixels of a few images, on the CPU; {} if the evaluation needs more than that."""
    if not has_trace(evaluation):
        return {}
    splits = {
        name: Split(split.images[:EVALUATED].cpu(), split.labels[:EVALUATED].cpu() if data.labelled else None)
        for name, split in data.splits().items()
    }
    h = {name: _pixels(split.images) for name, split in splits.items()}
    labels = {name: split.labels for name, split in splits.items() if data.labelled}
    start = time.perf_counter()
    try:
        part = Data(**splits, classes=data.classes)
        with global_draws_at(torch.device("cpu"), "contracts", "trace"):
            metrics, _, _ = evaluation.evaluate(Features(h, labels, len(data.classes), _pixels, part))
        trace = {name: [[float(value)]] for name, value in metrics.items() if not MEASURED.search(name)}
    except Exception:  # it needs an encoder or more images; its results are checked where it has them
        return {}
    return trace if time.perf_counter() - start < SLOWEST else {}


def _pixels(images: Tensor) -> Tensor:
    """(N, C, S, S), uint8 or in [0, 1], to (N, 16 C)."""
    images = images.float().div(255) if images.dtype == torch.uint8 else images.float()
    return nn.functional.adaptive_avg_pool2d(images, 4).flatten(1)
