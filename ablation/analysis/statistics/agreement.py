"""Agreement of our grid's ranking of operator pairs with a published one."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from ablation.spec import InvalidSpec

DIGITS = 9  # decimals of computed values for ranking, so that ties are ties on every machine
MOST_RELABELLED = 7  # operators: 5,040 relabellings


@dataclass(frozen=True)
class Agreement:
    """cells: number of common cells; operators: number of common operators.

    spearman: over those cells, with p by relabelling the operators (cells of one operator move together, so
    they are not independent). trivial_spearman: the predictor max(single i, single j) from our own singles against the
    reference's cells. composition_spearman: of the pairs' residuals after main effects (row + column), with its p.
    singles_spearman: of the operators alone. marginals_spearman: of each operator's mean over its pairs.
    p is nan if a cell is missing or there are more than seven operators.
    """

    cells: int
    operators: int
    spearman: float
    spearman_p: float
    trivial_spearman: float
    reference_trivial_spearman: float
    composition_spearman: float
    composition_p: float
    singles_spearman: float
    singles_p: float
    marginals_spearman: float
    marginals_p: float


def agreement(ours: pd.DataFrame, reference: pd.DataFrame) -> Agreement:
    """Both grids are square: rows are the first operator, columns the second, the diagonal each alone; NaN if missing.

    Raises InvalidSpec with both lists of labels if they share fewer than three operators.
    """
    labels = [label for label in ours.index if label in ours.columns and label in reference.index]
    labels = [label for label in labels if label in reference.columns]
    if len(labels) < 3:
        raise InvalidSpec(
            f"the reference must share at least three operators with the grid, but the grid has {list(ours.index)} and "
            f"the reference {list(reference.index)}. Rename the operators' labels, or omit the reference."
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
        return math.nan  # such as the residuals of an additive grid
    return float(stats.spearmanr(a[known], b[known]).statistic)


def _trivial(grid: np.ndarray) -> np.ndarray:
    """max(single i, single j)."""
    single = np.diag(grid)
    return np.maximum(single[:, None], single[None, :])


def marginals(grid: np.ndarray) -> np.ndarray:
    """Each operator's mean over its pairs, i != j, as first or second operator; NaN without any."""
    known = ~np.isnan(grid) & ~np.eye(len(grid), dtype=bool)
    filled = np.where(known, grid, 0.0)
    counts = known.sum(0) + known.sum(1)
    return np.where(counts > 0, np.round((filled.sum(0) + filled.sum(1)) / np.maximum(counts, 1), DIGITS), np.nan)


def composition(grid: np.ndarray) -> np.ndarray:
    """Residuals of the pairs (i, j), i != j, after an additive fit of first and second operator; diagonal NaN.

    Least squares over the existing pairs.
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


def _relabelled(a: np.ndarray, b: np.ndarray, places: np.ndarray) -> float:
    """The share of all relabellings of b's operators, rows and columns together, that agree at least as well.

    They include the identity, so the smallest p is 1 / n!.
    """
    count = len(a)
    x = stats.rankdata(a[places])
    grid = np.full(a.shape, np.nan)
    grid[places] = stats.rankdata(b[places])
    permutations = np.array(list(itertools.permutations(range(count))))
    rows, columns = np.nonzero(places)
    y = grid[permutations[:, rows], permutations[:, columns]]  # (n!, cells)
    scores = (y - y.mean(1, keepdims=True)) @ (x - x.mean())
    return float((scores >= scores[0] - 1e-9 * abs(scores[0])).mean())  # permutations[0] is the identity


def trend(ours: list[float], errors: list[float], freedom: float, reference: list[float]) -> dict[str, float]:
    """For an axis of a few points: our slope per step with its error and p, and the reference's slope.

    Four or five points support a trend, not a rank correlation.
    """
    steps = np.arange(len(ours)) - (len(ours) - 1) / 2
    weights = steps / (steps**2).sum()
    slope, error = float(weights @ np.array(ours)), float(np.sqrt((weights**2) @ np.array(errors) ** 2))
    p = float(2 * stats.t.sf(abs(slope) / error, freedom)) if error > 0 and freedom > 0 else math.nan
    return {"slope": slope, "error": error, "p": p, "reference_slope": float(weights @ np.array(reference))}


def early_agreement(rows: pd.DataFrame) -> pd.DataFrame:
    """Spearman's correlation over the trials of a search between validation kNN at an epoch of the first seed's
    learning curve and the trial's value; 95 % by resampling trials. A row per case and epoch with five trials or more:
    case, epoch, spearman, low, high, n. A single search has the case "".

    rows: with the columns epoch, seed, validation_knn, value and, of several searches, case.
    """
    found = []
    for case, of_case in rows.groupby("case", sort=False) if "case" in rows else [("", rows)]:
        for epoch, trials in of_case[of_case["seed"] == of_case["seed"].min()].groupby("epoch"):
            if len(trials) < 5:
                continue
            pairs = trials[["validation_knn", "value"]].to_numpy()
            generator = np.random.default_rng(0)
            resampled = (pairs[generator.integers(0, len(pairs), len(pairs))] for _ in range(500))
            low, high = np.nanpercentile([_spearman(*each.T) for each in resampled], [2.5, 97.5])
            found.append((str(case), int(epoch), _spearman(*pairs.T), low, high, len(trials)))
    return pd.DataFrame(found, columns=["case", "epoch", "spearman", "low", "high", "n"])
