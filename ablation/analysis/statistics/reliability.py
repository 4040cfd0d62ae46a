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
    noise, observed / sqrt(reliabilities) (Spearman 1904), NaN if a reliability is 0; low, high: its interval, by
    resampling (see `two_way.resample`), for these cells, NaN if the correction often fails; reliability: the smaller of
    the two, 1 - noise / variance over cells; p: of no interaction of label and cell (F test), p_holm: adjusted for the
    number of pairs (Holm 1979).
    """
    cells = [" + ".join(map(written, row)) for row in table[list(by)].itertuples(index=False, name=None)]
    found = layout(table.assign(cell=cells).dropna(subset=[group, *by]), group, "cell", value)
    means, noise = found.means.to_numpy(), found.noise_of_cells / found.runs
    resampled, (_, noise_resampled) = resample(found)
    noise_resampled = noise_resampled / found.runs
    rows, tails = [], [0.5 + level / 2, 0.5 - level / 2]
    for i, j in combinations(range(len(means)), 2):
        pair = [i, j]
        corrected, reliability = _corrected(means[pair], noise[pair])
        truth, _ = _corrected(means[pair], 0 * noise[pair])
        moved = _corrected(resampled[:, pair], noise_resampled[:, pair])[0] - truth
        steady = np.isfinite(moved).mean() > 0.95
        low, high = corrected - np.nanquantile(moved, tails) if steady else (np.nan, np.nan)
        low, high, corrected = np.clip([low, high, corrected], -1, 1)
        rows.append(
            {"one": found.means.index[i], "other": found.means.index[j], "observed": float(truth),
             "corrected": corrected, "low": low, "high": high, "reliability": float(reliability.min()),
             "p": _interaction(means[pair], noise[pair], found.runs[pair])}
        )  # fmt: skip
    table = pd.DataFrame(rows)
    return table.assign(p_holm=holm(table["p"].to_numpy(float)))


def _corrected(means: np.ndarray, noise: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Corrected correlations (...) and both reliabilities (..., 2) of (..., 2, C) cell means with the noise variances
    (..., 2); NaN where a reliability is not above 0."""
    centred = means - means.mean(-1, keepdims=True)
    count = means.shape[-1]
    covariance = (centred[..., 0, :] * centred[..., 1, :]).sum(-1) / (count - 1)
    observed = (centred**2).sum(-1) / (count - 1)
    true = observed - noise
    product = true[..., 0] * true[..., 1]
    known = (true > 0).all(-1)
    corrected = np.where(known, covariance / np.sqrt(np.where(known, product, 1)), np.nan)
    return corrected, np.maximum(true / observed, 0)


def _interaction(means: np.ndarray, noise: np.ndarray, runs: np.ndarray) -> float:
    """p of the F test of the interaction of two labels with the cells."""
    differences = means[0] - means[1]
    count = len(differences)
    ratio = ((differences - differences.mean()) ** 2).sum() / (count - 1) / noise.sum()
    # Welch and Satterthwaite's degrees of freedom of the sum of both variances.
    freedom = noise.sum() ** 2 / (noise**2 / ((runs - 1) * (count - 1))).sum()
    return float(stats.f.sf(ratio, count - 1, freedom))
