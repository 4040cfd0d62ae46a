"""Linear evaluation: multinomial logistic regression on frozen h, to convergence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor
from torch.nn.functional import cross_entropy

from ablation.evaluate.features import Features
from ablation.evaluate.knn import accuracies
from ablation.specs import Spec


@dataclass(frozen=True, kw_only=True)
class Linear(Spec):
    """Logistic regression on features standardized with the training images' mean and deviation.

    Minimizes mean cross entropy + penalty / 2 * |W|^2 (biases are free; scikit-learn's C is
    1 / (N penalty)) by L-BFGS until the largest component of the gradient is below `tolerance`. Of
    `penalties` the one with the best validation top-1 is used, the larger one of two equals; the weights are
    those fitted on the training images without the validation images.
    """

    label: ClassVar[str] = "linear"

    penalties: tuple[float, ...] = (1e-1, 1e-2, 1e-3, 1e-4)
    tolerance: float = 1e-4

    def __post_init__(self):
        self.require_numbers("penalties", 1e-12, "Write penalties=(0.1, 0.01).")
        falling = list(self.penalties) == sorted(self.penalties, reverse=True)
        self.require("penalties", falling, "be in falling order", "Write the largest first.")
        self.require_number("tolerance", 0, above=True)

    @property
    def chooses_on_validation(self) -> bool:
        return len(self.penalties) > 1

    def evaluate(self, features: Features) -> tuple[dict[str, float], dict[str, Tensor], list[str]]:
        """Metrics such as "test_top1" and the chosen penalty, predictions per split, notes."""
        deviation, mean = torch.std_mean(features.h["train"].double(), 0, correction=0)
        standardized = {split: (h.double() - mean) / deviation.clamp(min=1e-6) for split, h in features.h.items()}
        weights, notes, best = None, [], None
        for penalty in self.penalties:  # from the smoothest on, each starting where the last ended
            weights, converged = fit(
                standardized["train"], features.labels["train"], features.classes, penalty, self.tolerance, weights
            )
            if not converged:
                notes.append(f"logistic regression with penalty {penalty:g} did not converge")
            score = accuracies(scores(standardized["validation"], weights), features.labels["validation"])["top1"]
            if best is None or score > best[0]:
                best = (score, penalty, weights)
        _, penalty, weights = best
        metrics, predictions = {"penalty": penalty}, {}
        for split, x in standardized.items():
            logits = scores(x, weights)
            metrics |= {f"{split}_{n}": v for n, v in accuracies(logits, features.labels[split]).items()}
            predictions[split] = logits.argmax(1)
        return metrics, predictions, notes


def scores(x: Tensor, weights: Tensor) -> Tensor:
    """Logits (N, classes); weights (D + 1, classes), the last row the biases."""
    return x @ weights[:-1] + weights[-1]


def fit(
    x: Tensor, labels: Tensor, classes: int, penalty: float, tolerance: float, start: Tensor | None = None
) -> tuple[Tensor, bool]:
    """Weights (D + 1, classes) float64 of the regularized logistic regression, and whether it converged."""
    shape = (x.shape[1] + 1, classes)
    initial = np.zeros(shape) if start is None else start.cpu().numpy()

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights = torch.from_numpy(flat.reshape(shape)).to(x.device)
        logits = scores(x, weights)
        loss = cross_entropy(logits, labels) + penalty / 2 * weights[:-1].square().sum()
        residual = logits.softmax(1)
        residual[torch.arange(len(x), device=x.device), labels] -= 1
        residual /= len(x)
        gradient = torch.cat([x.T @ residual + penalty * weights[:-1], residual.sum(0, keepdim=True)])
        return loss.item(), gradient.cpu().numpy().ravel()

    options = {"gtol": tolerance, "ftol": 0.0, "maxiter": 2000, "maxcor": 20}
    result = minimize(objective, initial.ravel(), jac=True, method="L-BFGS-B", options=options)
    converged = bool(np.abs(result.jac).max() <= tolerance)
    return torch.from_numpy(result.x.reshape(shape)).to(x.device), converged
