"""kNN evaluation (Wu et al. 2018, arXiv:1805.01978, section 3.4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ablation.evaluate.features import Features
from ablation.specs import Spec


@dataclass(frozen=True, kw_only=True)
class KNN(Spec):
    """Votes of the k nearest training images by cosine of h, weighted exp(similarity / temperature).

    Every pair of `k` and `temperature` is reported; the first pair is the protocol's result, the others
    carry their numbers in the names of their metrics. k is capped by the bank. An image is not its own
    neighbour. with_validation: the bank holds the validation images too.
    """

    label: ClassVar[str] = "knn"

    k: tuple[int, ...] = (200,)
    temperature: tuple[float, ...] = (0.1,)
    with_validation: bool = False

    def __post_init__(self):
        self.require_numbers("k", 1, "Write k=(200,).", kind=int)
        self.require_numbers("temperature", 1e-6, "Write temperature=(0.1,).")

    def evaluate(self, features: Features) -> tuple[dict[str, float], dict[str, Tensor], list[str]]:
        """Metrics such as "test_top1", predictions per split of the first pair, notes."""
        bank_splits = ("train", "validation") if self.with_validation else ("train",)
        bank = torch.cat([features.h[split] for split in bank_splits])
        labels = torch.cat([features.labels[split] for split in bank_splits])
        starts = {split: sum(len(features.h[s]) for s in bank_splits[:i]) for i, split in enumerate(bank_splits)}
        limit = len(bank) - 1  # without the image itself
        notes = [
            f"k = {k} is capped at {limit}, the size of the bank without the image itself" for k in self.k if k > limit
        ]
        metrics, predictions = {}, {}
        for split, queries in features.h.items():
            similarity, neighbours = nearest(queries, bank, min(max(self.k), limit), own=starts.get(split))
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
    """Cosine similarities (N, k) in falling order and indices into the bank.

    own: where the queries themselves start in the bank; they are then not their own neighbours.
    """
    bank = normalize(bank, dim=1)
    similarities, indices = [], []
    for start in range(0, len(queries), 1000):
        chunk = normalize(queries[start : start + 1000], dim=1) @ bank.T
        if own is not None:
            rows = torch.arange(len(chunk), device=chunk.device)
            chunk[rows, rows + start + own] = float("-inf")
        top = chunk.topk(k, dim=1)
        similarities.append(top.values)
        indices.append(top.indices)
    return torch.cat(similarities), torch.cat(indices)


def vote(similarity: Tensor, labels: Tensor, temperature: float, classes: int) -> Tensor:
    """(N, classes): the sum of exp(similarity / T) over the neighbours of each class, up to a factor."""
    weights = ((similarity - similarity[:, :1]) / temperature).exp()
    return torch.zeros(len(labels), classes, device=labels.device).scatter_add_(1, labels, weights)


def accuracies(scores: Tensor, labels: Tensor) -> dict[str, float]:
    """Top-1 in percent, and top-5 where there are more than five classes. scores: (N, classes)."""
    found = {"top1": 100 * (scores.argmax(1) == labels).double().mean().item()}
    if scores.shape[1] > 5:
        found["top5"] = 100 * (scores.topk(5, 1).indices == labels[:, None]).any(1).double().mean().item()
    return found
