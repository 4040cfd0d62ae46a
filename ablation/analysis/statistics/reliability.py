"""Agreement of the grids of several methods, without the part of the disagreement that is noise."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd
from scipy import stats

from ablation.analysis.statistics.comparisons import holm
from ablation.analysis.statistics.two_way import layout, resample
from ablation.spec import written


def grid_correlations(
    table: pd.DataFrame, group: str, by: Sequence[str], value: str, level: float = 0.95
) -> pd.DataFrame:
    """A row per pair of labels of `group`, such as methods: do the means of the cells `by` move together?

    one, other; observed: the correlation over cells of both means; corrected: without the attenuation by the seeds'
    noise, observed / sqrt(reliabilities) (Spearman 1904), at most 1; low, high: its interval, by resampling residuals
    within each label, for these cells; reliability: the smaller of the two, 1 - noise / variance over cells; p: of no
    interaction of label and cell (F test), p_holm: adjusted for the number of pairs (Holm 1979).
    """
    cells = [" + ".join(map(written, row)) for row in table[list(by)].itertuples(index=False, name=None)]
    table = table.assign(cell=cells).dropna(subset=[group, *by])
    y, counts, residuals = layout(table, group, "cell", value)
    means, noise = y.to_numpy(), np.array([(each**2).mean() for each in residuals])
    resampled, again = resample(means, counts, residuals)
    rows = []
    for i, j in combinations(range(len(means)), 2):
        pair = [i, j]
        corrected, reliability = _corrected(means[pair], noise[pair], counts[pair])
        truth, _ = _corrected(means[pair], 0 * noise[pair], counts[pair])
        moved = _corrected(resampled[:, pair], again[:, pair], counts[pair])[0] - truth
        low, high = corrected - np.nanquantile(moved, [0.5 + level / 2, 0.5 - level / 2])
        rows.append(
            {"one": y.index[i], "other": y.index[j], "observed": float(truth), "corrected": min(1.0, float(corrected)),
             "low": max(-1.0, low), "high": min(1.0, high), "reliability": float(reliability.min()),
             "p": _interaction(means[pair], noise[pair], counts[pair])}
        )  # fmt: skip
    found = pd.DataFrame(rows)
    return found.assign(p_holm=holm(found["p"].to_numpy(float)))


def _corrected(means: np.ndarray, noise: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Corrected correlations (...) and both reliabilities (..., 2) of (..., 2, C) cell means; NaN without any."""
    centred = means - means.mean(-1, keepdims=True)
    covariance = (centred[..., 0, :] * centred[..., 1, :]).mean(-1)
    observed = (centred**2).mean(-1)
    expected = noise * (1 / counts).mean(-1) * (1 - 1 / counts.shape[-1])
    true = np.maximum(observed - expected, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return covariance / np.sqrt(true[..., 0] * true[..., 1]), true / observed


def _interaction(means: np.ndarray, noise: np.ndarray, counts: np.ndarray) -> float:
    """p of the F test of the interaction of two labels with the cells, each cell with its own weight."""
    differences = means[0] - means[1]
    variances = (noise[:, None] / counts).sum(0)
    weights = 1 / variances
    mean = (weights * differences).sum() / weights.sum()
    ratio = (weights * (differences - mean) ** 2).sum() / (len(differences) - 1)
    # Welch and Satterthwaite's degrees of freedom of the sum of both variances.
    freedoms = (counts - 1).sum(1)
    freedom = noise.sum() ** 2 / (noise**2 / freedoms).sum()
    return float(stats.f.sf(ratio, len(differences) - 1, freedom))
