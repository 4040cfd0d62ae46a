"""Two crossed factors, such as method and views: how far each moves a value, and how far their interaction does."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from ablation.analysis.statistics.spread import summary
from ablation.spec import InvalidSpec, written

RESAMPLED = 2_000


@dataclass(frozen=True)
class TwoWay:
    """All in the value's units, with bootstrap intervals, for these labels of both factors (fixed effects).

    components: rows "rows", "columns", "interaction", "seeds" with sd, low, high: the standard deviation of the true
    effects, without the part that the seeds' spread adds; "seeds" is that of a single run, without an interval.
    effects: axis ("rows" or "columns"), label, estimate, low, high: the mean of a label's cells minus that of all.
    interactions: row, column, estimate, low, high: a cell's mean minus what both effects predict; these intervals hold
    together for all cells.
    """

    components: pd.DataFrame
    effects: pd.DataFrame
    interactions: pd.DataFrame


def two_way(table: pd.DataFrame, rows: str, columns: str, value: str, level: float = 0.95) -> TwoWay:
    """The two-way layout y = mean + row + column + interaction + seed with fixed effects, every cell with two seeds.

    The variance of the true effects is that of the estimated ones minus the expected part of the noise, 0 at least.
    Residuals are resampled within each row, since methods differ in their spread over seeds (Efron and Tibshirani 1993,
    section 9.4, with residuals scaled to be unbiased); intervals are basic ones, computed for variances, and those of
    the interactions hold together by the largest studentized deviation.
    """
    y, counts, residuals = layout(table, rows, columns, value)
    labels, means = (list(y.index), list(y.columns)), y.to_numpy()
    noise = np.array([(each**2).mean() for each in residuals])  # of a single run, by row
    resampled, again = resample(means, counts, residuals)
    found, whole = _parts(means), _parts(resampled)
    variances = _variances(found, noise, counts)
    plain = _variances(found, 0 * noise, counts)  # the truth of the resampled tables
    moved = _variances(whole, again, counts) - plain
    tail = (1 - level) / 2
    low, high = variances - np.quantile(moved, 1 - tail, axis=0), variances - np.quantile(moved, tail, axis=0)
    spans = np.sqrt(np.maximum([variances, low, high], 0)).T
    components = pd.DataFrame(spans, columns=["sd", "low", "high"])
    components.insert(0, "component", ["rows", "columns", "interaction"])
    components.loc[3] = ["seeds", float(np.sqrt(noise.mean())), np.nan, np.nan]

    effects = []
    for axis, names, one, many in zip(("rows", "columns"), labels, found[:2], whole[:2], strict=True):
        for k, name in enumerate(names):
            low, high = one[k] - np.quantile(many[:, k] - one[k], [1 - tail, tail])
            effects.append({"axis": axis, "label": name, "estimate": one[k], "low": low, "high": high})
    error = _errors(noise, counts)
    studentized = np.abs(whole[2] - found[2]) / np.maximum(_errors(again, counts), 1e-12)
    reach = np.quantile(studentized.max((1, 2)), level) * error
    interactions = [
        {"row": row, "column": column, "estimate": c, "low": c - r, "high": c + r}
        for (row, column), c, r in zip(
            [(row, column) for row in labels[0] for column in labels[1]], found[2].flat, reach.flat, strict=True
        )
    ]
    return TwoWay(components, pd.DataFrame(effects), pd.DataFrame(interactions))


def layout(
    table: pd.DataFrame, rows: str, columns: str, value: str
) -> tuple[pd.DataFrame, np.ndarray, list[np.ndarray]]:
    """Cell means, runs of each cell, and the residuals of each row, scaled to be unbiased. Raises InvalidSpec if a cell
    lacks two seeds."""
    cells = summary(table, [rows, columns], value)
    order = {"index": cells[rows].unique(), "columns": cells[columns].unique()}
    means, counts = (cells.pivot(index=rows, columns=columns, values=v).reindex(**order) for v in ("mean", "n"))
    stacked = counts.fillna(0).stack()
    few = [" + ".join(map(written, cell)) for cell in stacked.index[stacked < 2]]
    if few or min(means.shape) < 2:
        lacking = f"lacks them in {len(few)}, such as {few[0]}" if few else f"has {means.shape[0]} x {means.shape[1]}"
        raise InvalidSpec(
            f"the statistic needs two seeds in each cell of at least two {rows} x two {columns}, but the table "
            f"{lacking}. Run more seeds, or select rows of complete cells."
        )
    known = table.dropna(subset=[rows, columns, value])
    groups = known.groupby([rows, columns], sort=False)[value]
    n = groups.transform("count")
    scaled = (known[value] - groups.transform("mean")) * np.sqrt(n / (n - 1))
    residuals = [scaled[known[rows] == row].to_numpy(float) for row in means.index]
    return means, counts.to_numpy(int), residuals


def resample(means: np.ndarray, counts: np.ndarray, residuals: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """RESAMPLED tables with `means` as their truth: cell means (R, I, J), and each row's variance of a run (R, I)."""
    generator = np.random.default_rng(0)
    drawn_means, drawn_noise = np.empty((RESAMPLED, *means.shape)), np.empty((RESAMPLED, len(means)))
    for i, pool in enumerate(residuals):
        squares = np.zeros(RESAMPLED)
        for j, n in enumerate(counts[i]):
            drawn = generator.choice(pool, (RESAMPLED, n))
            drawn_means[:, i, j] = means[i, j] + drawn.mean(1)
            squares += drawn.var(1) * n
        drawn_noise[:, i] = squares / (counts[i] - 1).sum()
    return drawn_means, drawn_noise


def _parts(means: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row effects, column effects and interactions of (..., I, J) cell means."""
    of_rows, of_columns, mean = means.mean(-1), means.mean(-2), means.mean((-2, -1))
    rest = means - of_rows[..., :, None] - of_columns[..., None, :] + mean[..., None, None]
    return of_rows - mean[..., None], of_columns - mean[..., None], rest


def _variances(parts: tuple[np.ndarray, np.ndarray, np.ndarray], noise: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(..., 3): variances of row effects, column effects and interactions, without the part of the noise.

    noise: (..., I), the variance of a run of each row; counts: (I, J), runs of each cell.
    """
    i, j = counts.shape
    of_cells = noise[..., :, None] / counts  # variances of the cells' means
    squares = [
        (parts[0] ** 2).sum(-1) / (i - 1) - of_cells.mean((-2, -1)) / j,
        (parts[1] ** 2).sum(-1) / (j - 1) - of_cells.mean((-2, -1)) / i,
        (parts[2] ** 2).sum((-2, -1)) / ((i - 1) * (j - 1)) - of_cells.mean((-2, -1)),
    ]
    return np.stack(squares, -1)


def _errors(noise: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(..., I, J): standard errors of the interactions, for the variances `noise` (..., I) of a run of each row."""
    left, right = ((np.eye(n) - 1 / n) ** 2 for n in counts.shape)
    return np.sqrt(left @ (noise[..., :, None] / counts) @ right)
