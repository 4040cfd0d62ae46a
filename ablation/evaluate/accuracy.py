"""Top-1 and top-5 accuracy."""

from __future__ import annotations

from torch import Tensor


def accuracies(scores: Tensor, labels: Tensor) -> dict[str, float]:
    """Top-1 in percent, and top-5 if there are more than five classes. scores: (N, classes)."""
    metrics = {"top1": 100 * (scores.argmax(1) == labels).double().mean().item()}
    if scores.shape[1] > 5:
        metrics["top5"] = 100 * (scores.topk(5, 1).indices == labels[:, None]).any(1).double().mean().item()
    return metrics
