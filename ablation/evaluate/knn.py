"""kNN evaluation (Wu et al. 2018, arXiv:1805.01978, section 3.4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from ablation.evaluate.accuracy import accuracies
from ablation.evaluate.base import Evaluation, Features

CHUNK = 500  # queries at a time, to limit the memory for similarities


@dataclass(frozen=True, kw_only=True)
class KNN(Evaluation):
    """Votes of the k nearest training images by cosine of h, weighted exp(similarity / temperature).

    It reports every pair of `k` and `temperature`; the first pair is the protocol's result, the others have their
    numbers in the metrics' names. The bank's size caps k. with_validation: the bank also contains the validation
    images, and no image is its own neighbour. Training images are not classified: no published protocol does it,
    and it would take two thirds of the time.
    """

    name: ClassVar[str] = "knn"
    version: ClassVar[int] = 2

    k: tuple[int, ...] = (200,)
    temperature: tuple[float, ...] = (0.1,)
    with_validation: bool = False

    def __post_init__(self):
        super().__post_init__()
        self.require_numbers("k", 1, "Write k=(200,).", kind=int)
        self.require_numbers("temperature", 1e-6, "Write temperature=(0.1,).")

    @property
    def metrics(self) -> tuple[str, ...]:
        settings = [f"k{k}_t{temperature:g}_" for k in self.k for temperature in self.temperature]
        return tuple(f"{p}{s}_top{k}" for p in ("", *settings[1:]) for s in ("validation", "test") for k in (1, 5))

    def evaluate(self, features: Features) -> tuple[dict[str, float], dict[str, Tensor], list[str]]:
        """Metrics such as "test_top1", predictions per split of the first pair, notes."""
        bank_splits = ("train", "validation") if self.with_validation else ("train",)
        bank = torch.cat([features.h[split] for split in bank_splits])
        labels = torch.cat([features.labels[split] for split in bank_splits])
        limit = len(bank) - 1 if self.with_validation else len(bank)  # excludes the image itself
        notes = [f"k = {k} is capped at {limit}, the size of the bank" for k in self.k if k > limit]
        metrics, predictions = {}, {}
        for split in ("validation", "test"):
            own = len(features.h["train"]) if split in bank_splits else None
            similarity, neighbours = nearest(features.h[split], bank, min(max(self.k), limit), own)
            for k in self.k:
                for temperature in self.temperature:
                    first = k == self.k[0] and temperature == self.temperature[0]
                    prefix = "" if first else f"k{k}_t{temperature:g}_"
                    votes = vote(similarity[:, :k], labels[neighbours[:, :k]], temperature, features.classes)
                    metrics |= {f"{prefix}{split}_{n}": v for n, v in accuracies(votes, features.labels[split]).items()}
                    if first:
                        predictions[split] = votes.argmax(1)
        return metrics, predictions, notes


def nearest(queries: Tensor, bank: Tensor, k: int, own: int | None = None) -> tuple[Tensor, Tensor]:
    """Cosine similarities (N, k) in descending order, and indices into the bank.

    own: the index at which the queries themselves start in the bank; they are then not their own neighbours.
    """
    bank = normalize(bank, dim=1).T.contiguous()
    similarities, indices = [], []
    for start in range(0, len(queries), CHUNK):
        chunk = normalize(queries[start : start + CHUNK], dim=1) @ bank
        if own is not None:
            rows = torch.arange(len(chunk), device=chunk.device)
            chunk[rows, rows + start + own] = float("-inf")
        values, places = _largest(chunk, k)
        similarities.append(values)
        indices.append(places)
    return torch.cat(similarities), torch.cat(indices)


def _largest(similarity: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """`similarity.topk(k, dim=1)`. On a CPU by numpy's vectorized partition, which is four times as fast."""
    if similarity.device.type != "cpu":
        return tuple(similarity.topk(k, dim=1))
    chosen = torch.from_numpy(np.argpartition(similarity.numpy(), -k, axis=1)[:, -k:])
    values, order = similarity.gather(1, chosen).sort(dim=1, descending=True)
    return values, chosen.gather(1, order)


def vote(similarity: Tensor, labels: Tensor, temperature: float, classes: int) -> Tensor:
    """(N, classes): the sum of exp(similarity / T) over the neighbours of each class, up to a factor."""
    weights = ((similarity - similarity[:, :1]) / temperature).exp()
    return torch.zeros(len(labels), classes, device=labels.device).scatter_add_(1, labels, weights)
