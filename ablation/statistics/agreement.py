"""Does a grid of ours order the pairs of operators as a published one does?"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from ablation.specs import InvalidSpec

DIGITS = 9  # to which computed values are rounded before they are ranked, so that ties are ties on every machine
MOST_RELABELLED = 7  # operators: 5,040 relabellings


@dataclass(frozen=True)
class Agreement:
    """cells: how many both grids have; operators: of how many.

    spearman, kendall: over those cells, with p by relabelling the operators (cells of one operator move together, so
    they are not independent); trivial_spearman: the predictor max(single i, single j) of our own singles against the
    reference's cells; composition_spearman: of what is left of the pairs after main effects (row + column), with its p.
    singles_spearman: of the operators alone; marginals_spearman: of an operator's mean over the pairs that it is in.
    p is nan where a cell is missing or there are more than seven operators.
    """

    cells: int
    operators: int
    spearman: float
    spearman_p: float
    kendall: float
    kendall_p: float
    trivial_spearman: float
    reference_trivial_spearman: float
    composition_spearman: float
    composition_p: float
    singles_spearman: float
    singles_p: float
    marginals_spearman: float
    marginals_p: float


def agreement(ours: pd.DataFrame, reference: pd.DataFrame) -> Agreement:
    """Both square: rows the first operator, columns the second, the diagonal each alone; NaN where missing.

    Raises InvalidSpec with both lists of labels if fewer than three operators are common to them.
    """
    labels = [label for label in ours.index if label in ours.columns and label in reference.index]
    labels = [label for label in labels if label in reference.columns]
    if len(labels) < 3:
        raise InvalidSpec(
            f"the reference must share at least three operators with the grid, but the grid has {list(ours.index)} and "
            f"the reference {list(reference.index)}. Rename the operators' labels, or use no reference."
        )
    a = ours.loc[labels, labels].to_numpy(float)
    b = reference.loc[labels, labels].to_numpy(float)
    both = ~np.isnan(a) & ~np.isnan(b)
    whole = bool(both.all()) and len(labels) <= MOST_RELABELLED
    left_a, left_b = composition(a), composition(b)
    diagonal = np.eye(len(labels), dtype=bool)
    off = both & ~diagonal
    marginal_a, marginal_b = (np.diag(marginals(np.where(off, grid, np.nan))) for grid in (a, b))
    return Agreement(
        cells=int(both.sum()),
        operators=len(labels),
        spearman=_spearman(a[both], b[both]),
        spearman_p=_relabelled(a, b, both) if whole else math.nan,
        kendall=float(stats.kendalltau(a[both], b[both]).statistic),
        kendall_p=_relabelled(a, b, both, kendall=True) if whole else math.nan,
        trivial_spearman=_spearman(_trivial(a)[both], b[both]),
        reference_trivial_spearman=_spearman(_trivial(b)[both], b[both]),
        composition_spearman=_spearman(left_a[off], left_b[off]),
        composition_p=_relabelled(left_a, left_b, off) if whole else math.nan,
        singles_spearman=_spearman(np.diag(a), np.diag(b)),
        singles_p=_relabelled(a, b, diagonal) if whole else math.nan,
        marginals_spearman=_spearman(np.diag(marginal_a), np.diag(marginal_b)),
        marginals_p=_relabelled(marginal_a, marginal_b, diagonal) if whole else math.nan,
    )


def _spearman(a: np.ndarray, b: np.ndarray) -> float:
    known = ~np.isnan(a) & ~np.isnan(b)
    if len(np.unique(a[known])) < 2 or len(np.unique(b[known])) < 2:
        return math.nan  # as what is left of an additive grid
    return float(stats.spearmanr(a[known], b[known]).statistic)


def _trivial(grid: np.ndarray) -> np.ndarray:
    """max(single i, single j)."""
    single = np.diag(grid)
    return np.maximum(single[:, None], single[None, :])


def marginals(grid: np.ndarray) -> np.ndarray:
    """For each operator the mean over the pairs, i != j, that it is in, first or second; NaN without any."""
    known = ~np.isnan(grid) & ~np.eye(len(grid), dtype=bool)
    filled = np.where(known, grid, 0.0)
    counts = known.sum(0) + known.sum(1)
    return np.where(counts > 0, np.round((filled.sum(0) + filled.sum(1)) / np.maximum(counts, 1), DIGITS), np.nan)


def composition(grid: np.ndarray) -> np.ndarray:
    """What is left of the pairs (i, j), i != j, after an additive fit of first and second operator; diagonal NaN.

    Least squares over the pairs that are there.
    """
    count = len(grid)
    off = ~np.isnan(grid) & ~np.eye(count, dtype=bool)
    rows, columns = np.nonzero(off)
    design = np.zeros((len(rows), 2 * count))
    design[np.arange(len(rows)), rows] = 1
    design[np.arange(len(rows)), count + columns] = 1
    fitted = design @ np.linalg.lstsq(design, grid[off], rcond=None)[0]
    left = np.full_like(grid, np.nan)
    left[off] = np.round(grid[off] - fitted, DIGITS)
    return left


def _relabelled(a: np.ndarray, b: np.ndarray, places: np.ndarray, *, kendall: bool = False) -> float:
    """The share of all relabellings of b's operators, rows and columns together, that agree at least as well.

    The identity is one of them, so the smallest p is 1 / n!.
    """
    count = len(a)
    x = stats.rankdata(a[places])
    grid = np.full(a.shape, np.nan)
    grid[places] = stats.rankdata(b[places])
    permutations = np.array(list(itertools.permutations(range(count))))
    rows, columns = np.nonzero(places)
    y = grid[permutations[:, rows], permutations[:, columns]]  # (n!, cells)
    if kendall:
        signs = np.sign(x[:, None] - x[None, :]).ravel()
        scores = np.array([signs @ np.sign(each[:, None] - each[None, :]).ravel() for each in y])
    else:
        scores = (y - y.mean(1, keepdims=True)) @ (x - x.mean())
    return float((scores >= scores[0] - 1e-9 * abs(scores[0])).mean())  # permutations[0] is the identity


def trend(ours: list[float], errors: list[float], freedom: float, reference: list[float]) -> dict[str, float]:
    """For an axis of a few points: slope per step of ours with its error and p, and the reference's slope.

    Four or five points carry a trend, not a rank correlation.
    """
    steps = np.arange(len(ours)) - (len(ours) - 1) / 2
    weights = steps / (steps**2).sum()
    slope, error = float(weights @ np.array(ours)), float(np.sqrt((weights**2) @ np.array(errors) ** 2))
    p = float(2 * stats.t.sf(abs(slope) / error, freedom)) if error > 0 and freedom > 0 else math.nan
    return {"slope": slope, "error": error, "p": p, "reference_slope": float(weights @ np.array(reference))}
