"""Linear evaluation: multinomial logistic regression on frozen h, to convergence."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from ablation.evaluate.accuracy import accuracies
from ablation.evaluate.base import Evaluation, Features


@dataclass(frozen=True, kw_only=True)
class Linear(Evaluation):
    """Logistic regression on features standardized with the training images' mean and deviation.

    Minimizes mean cross entropy + penalty / 2 * |W|^2 (biases are free; scikit-learn's C is
    1 / (N penalty)) by L-BFGS until the largest component of the gradient, along the features' principal axes, is
    below `tolerance`. Chooses the penalty with the best validation top-1, the larger one in a tie, and keeps the
    weights fitted on the training images without the validation images.
    """

    name: ClassVar[str] = "linear"
    version: ClassVar[int] = 2

    penalties: tuple[float, ...] = (1e-1, 1e-2, 1e-3, 1e-4)
    tolerance: float = 1e-4

    def __post_init__(self):
        super().__post_init__()
        self.require_numbers("penalties", 1e-12, "Write penalties=(0.1, 0.01).")
        falling = list(self.penalties) == sorted(self.penalties, reverse=True)
        self.require("penalties", falling, "be in descending order", "Write the largest first.")
        self.require_number("tolerance", 0, above=True)

    @property
    def metrics(self) -> tuple[str, ...]:
        return ("penalty", *(f"{s}_top{k}" for s in ("train", "validation", "test") for k in (1, 5)))

    @property
    def chooses_on_validation(self) -> bool:
        return len(self.penalties) > 1

    def evaluate(self, features: Features) -> tuple[dict[str, float], dict[str, Tensor], list[str]]:
        """Metrics such as "test_top1" and the chosen penalty, predictions per split, notes."""
        x = principal_components(features.h)
        weights, notes, best = None, [], None
        for penalty in self.penalties:  # largest first; each fit starts from the last one's weights
            weights, converged = fit(
                x["train"], features.labels["train"], features.classes, penalty, self.tolerance, weights
            )
            if not converged:
                notes.append(f"logistic regression with penalty {penalty:g} did not converge")
            score = accuracies(scores(x["validation"], weights), features.labels["validation"])["top1"]
            if best is None or score > best[0]:
                best = (score, penalty, weights)
        _, penalty, weights = best
        metrics, predictions = {"penalty": penalty}, {}
        for split, inputs in x.items():
            logits = scores(inputs, weights)
            metrics |= {f"{split}_{n}": v for n, v in accuracies(logits, features.labels[split]).items()}
            predictions[split] = logits.argmax(1)
        return metrics, predictions, notes


def principal_components(h: dict[str, Tensor]) -> dict[str, Tensor]:
    """Every split standardized with the training images' mean and deviation, then rotated to their principal axes.

    A rotation changes neither |W|^2 nor the logits, so the regression is the same, but nearly diagonal: L-BFGS
    needs about half the steps. float32, as h.
    """
    deviation, mean = torch.std_mean(h["train"].double(), 0, correction=0)
    deviation = deviation.clamp(min=1e-6)
    standardized = {split: ((each.double() - mean) / deviation).float() for split, each in h.items()}
    axes = torch.linalg.eigh((standardized["train"].T @ standardized["train"]).double()).eigenvectors.float()
    return {split: each @ axes for split, each in standardized.items()}


def scores(x: Tensor, weights: Tensor) -> Tensor:
    """Logits (N, classes); weights (D + 1, classes), the last row the biases."""
    return x.to(weights.dtype) @ weights[:-1] + weights[-1]


def fit(
    x: Tensor, labels: Tensor, classes: int, penalty: float, tolerance: float, start: Tensor | None = None
) -> tuple[Tensor, bool]:
    """Weights (D + 1, classes) float64 of the regularized logistic regression, and whether it converged.

    L-BFGS works on weights scaled by the root of the loss's curvature along each feature, which is about
    E[x^2] p (1 - p) + penalty with p = 1 / classes. The tolerance applies to the unscaled gradient.
    """
    count, curvature = len(x), (1 - 1 / classes) / classes
    scale = torch.cat([curvature * x.square().mean(0) + penalty, x.new_tensor([curvature])]).rsqrt().double()
    shape = (classes, x.shape[1] + 1)  # classes first: the softmax runs along the longer rows
    weights = torch.zeros(shape, dtype=torch.float64, device=x.device) if start is None else start.T
    steepest = math.inf

    def stop_when_flat(accepted: np.ndarray) -> None:
        if steepest <= tolerance:  # at the last evaluated point, which is the accepted one
            raise StopIteration

    for precision in (torch.float32, torch.float64):  # float64 only if float32 misses the tolerance
        inputs = x.to(precision)
        one_hot = torch.nn.functional.one_hot(labels, classes).T.to(precision).contiguous()

        def objective(flat: np.ndarray, inputs=inputs, one_hot=one_hot) -> tuple[float, np.ndarray]:
            nonlocal steepest
            weights = torch.from_numpy(flat.reshape(shape)).to(x.device) * scale
            matrix, biases = weights[:, :-1], weights[:, -1:]
            log_p = torch.addmm(biases.to(inputs.dtype), matrix.to(inputs.dtype), inputs.T).log_softmax(0)
            loss = -(log_p * one_hot).sum(dtype=torch.float64) / count + penalty / 2 * matrix.square().sum()
            residual = log_p.exp_().sub_(one_hot)
            gradient = torch.cat([residual @ inputs, residual.sum(1, keepdim=True)], 1).double() / count
            gradient[:, :-1] += penalty * matrix
            steepest = gradient.abs().max().item()
            return loss.item(), (gradient * scale).cpu().numpy().ravel()

        options = {"gtol": 0.0, "ftol": 0.0, "maxiter": 2000, "maxcor": 20}
        first = (weights / scale).cpu().numpy().ravel()
        solution = minimize(objective, first, jac=True, method="L-BFGS-B", callback=stop_when_flat, options=options)
        weights = torch.from_numpy(solution.x.reshape(shape)).to(x.device) * scale
        objective(solution.x)
        if steepest <= tolerance:
            break
    return weights.T, steepest <= tolerance
