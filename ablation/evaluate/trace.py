"""Numbers that a user's evaluation computes on fixed input, kept beside results; see contracts/trace.py."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import torch
from torch import nn

from ablation.contracts.base import by_a_user
from ablation.contracts.evaluations import MEASURED
from ablation.contracts.trace import Trace, one_thread, with_format
from ablation.data import Data, Split
from ablation.evaluate.features import extract
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
    """A user's metrics of the pooled pixels of a few images, on the CPU; {} if the evaluation needs more than that,
    such as the encoder's training."""
    if not has_trace(evaluation):
        return {}
    splits = {
        name: Split(split.images[:EVALUATED].cpu(), split.labels[:EVALUATED].cpu() if data.labelled else None)
        for name, split in data.splits().items()
    }
    start = time.perf_counter()
    try:
        part = Data(**splits, classes=data.classes)
        pixels = _pixels(part.channels, evaluation.on.startswith("map"))
        features = extract(pixels, part, "float32")["running"]
        with global_draws_at(torch.device("cpu"), "contracts", "trace"), one_thread():
            metrics, _, _ = evaluation.evaluate(features)
        trace = with_format({name: [[float(value)]] for name, value in metrics.items() if not MEASURED.search(name)})
    except Exception:  # its results are checked where it has all that it needs
        return {}
    return trace if time.perf_counter() - start < SLOWEST else {}


def _pixels(channels: int, maps: bool) -> nn.Module:
    """From (N, C, S, S) to (N, 16 C), or with maps to (N, C, 4, 4): means of sixteenths of the image, and weights that
    an evaluation may train, at first the identity."""
    pooled = nn.AdaptiveAvgPool2d(4)
    with torch.random.fork_rng(devices=[]):  # layers draw their first weights
        mixed = nn.Conv2d(channels, channels, 1, bias=False) if maps else nn.Linear(16 * channels, 16 * channels, False)
    (nn.init.dirac_ if maps else nn.init.eye_)(mixed.weight)
    return nn.Sequential(pooled, mixed) if maps else nn.Sequential(pooled, nn.Flatten(), mixed)
