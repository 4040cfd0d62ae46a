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

    @property
    def apart(self) -> pd.DataFrame:
        """The interactions that are not 0, by intervals that hold together."""
        return self.interactions[(self.interactions["low"] > 0) | (self.interactions["high"] < 0)]


@dataclass(frozen=True)
class Layout:
    """A complete two-way layout. means: (I, J) of cells, with labels; runs: (I,), the seeds of each row.

    common: for each row (n,), its seeds' deviations, means over columns, since a seed may be good for all cells of a
    row; own: for each row (n, J), the rest of its runs. Both are scaled to be unbiased.
    """

    means: pd.DataFrame
    runs: np.ndarray
    common: list[np.ndarray]
    own: list[np.ndarray]

    @property
    def noise_of_rows(self) -> np.ndarray:
        """(I,): the variance of a row's mean over its columns, with one seed."""
        return np.array([(each**2).mean() for each in self.common])

    @property
    def noise_of_cells(self) -> np.ndarray:
        """(I,): the variance of a run, beyond what its seed does to the whole row."""
        return np.array([(each**2).mean() for each in self.own])


def two_way(table: pd.DataFrame, rows: str, columns: str, value: str, level: float = 0.95) -> TwoWay:
    """The two-way layout y = mean + row + column + interaction + seed of the row + rest, with fixed effects.

    The variance of the true effects is that of the estimated ones minus the expected part of the noise, 0 at least.
    Intervals are basic bootstrap ones, for variances (see `resample`); those of the interactions hold together by their
    largest studentized deviation. Raises InvalidSpec if a cell lacks two seeds that its whole row has.
    """
    found = layout(table, rows, columns, value)
    means, tails = found.means.to_numpy(), np.array([0.5 + level / 2, 0.5 - level / 2])
    noise = found.noise_of_rows, found.noise_of_cells
    resampled, noise_resampled = resample(found)
    parts, parts_resampled = _parts(means), _parts(resampled)

    variances = _variances(parts, noise, found.runs)
    truth = _variances(parts, (0 * noise[0], 0 * noise[1]), found.runs)  # of the resampled tables
    low, high = variances - np.quantile(_variances(parts_resampled, noise_resampled, found.runs) - truth, tails, axis=0)
    components = pd.DataFrame({"component": ["rows", "columns", "interaction"]})
    components[["sd", "low", "high"]] = np.sqrt(np.maximum([variances, low, high], 0)).T
    of_a_run = noise[0] + noise[1] * (1 - 1 / means.shape[1])
    components.loc[3] = ["seeds", float(np.sqrt(of_a_run.mean())), np.nan, np.nan]
    effects = _effects(found, parts, parts_resampled, tails)
    return TwoWay(components, effects, _interactions(found, resampled, noise_resampled[1], level))


def _effects(found: Layout, parts: tuple, parts_resampled: tuple, tails: np.ndarray) -> pd.DataFrame:
    effects = []
    for k, (axis, labels) in enumerate((("rows", found.means.index), ("columns", found.means.columns))):
        low, high = parts[k] - np.quantile(parts_resampled[k] - parts[k], tails, axis=0)
        effects.append(pd.DataFrame({"axis": axis, "label": labels, "estimate": parts[k], "low": low, "high": high}))
    return pd.concat(effects, ignore_index=True)


def _interactions(found: Layout, resampled: np.ndarray, noise_resampled: np.ndarray, level: float) -> pd.DataFrame:
    """Intervals that hold together: the estimate minus and plus q times its standard error."""
    means = found.means.to_numpy()
    own, again = _parts(means)[2], _parts(resampled)[2]
    noises = (found.noise_of_cells, noise_resampled)
    error, error_resampled = (_errors(noise, found.runs, means.shape) for noise in noises)
    largest = np.abs((again - own) / np.maximum(error_resampled, 1e-12)).max((1, 2))
    reach = np.quantile(largest, level) * error
    labels = pd.MultiIndex.from_product([found.means.index, found.means.columns], names=["row", "column"])
    rows = {"estimate": own.ravel(), "low": (own - reach).ravel(), "high": (own + reach).ravel()}
    return pd.DataFrame(rows, index=labels).reset_index()


def layout(table: pd.DataFrame, rows: str, columns: str, value: str) -> Layout:
    """Raises InvalidSpec unless each row has two seeds in common in all its cells; its other runs are omitted."""
    known = table.dropna(subset=[rows, columns, value])
    wide = known.pivot_table(index=[rows, "seed"], columns=columns, values=value, sort=False)
    wide = wide[list(dict.fromkeys(known[columns]))].dropna()
    means, runs, common, own = {}, [], [], []
    for label in dict.fromkeys(known[rows]):
        y = wide.loc[label].to_numpy() if label in wide.index.get_level_values(0) else np.empty((0, wide.shape[1]))
        if len(y) >= 2:
            n, width = y.shape
            rest = y - y.mean(0)
            of_seeds = rest.mean(1)
            means[label] = y.mean(0)
            runs.append(n)
            common.append(of_seeds * np.sqrt(n / (n - 1)))
            own.append((rest - of_seeds[:, None]) * np.sqrt(n / (n - 1) * width / max(width - 1, 1)))
    lacking = [written(label) for label in dict.fromkeys(known[rows]) if label not in means]
    if lacking or min(len(means), wide.shape[1]) < 2:
        cells = summary(table, [rows, columns], value)
        why = f"{lacking[0]} lacks them" if lacking else f"there are {len(means)} x {wide.shape[1]}"
        raise InvalidSpec(
            f"the statistic needs two {rows} x two {columns} at least, and for each of the {rows} two seeds that all "
            f"its cells have, but {why} ({len(cells)} cells have runs). Run more seeds, or choose complete rows."
        )
    frame = pd.DataFrame.from_dict(means, orient="index", columns=wide.columns)
    return Layout(frame, np.array(runs), common, own)


def resample(found: Layout) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """RESAMPLED tables whose truth are the means: their cell means (R, I, J), and both noises (R, I).

    Deviations of whole seeds are drawn from those of all rows, since a row has few; the rest from the row's own runs,
    as methods differ in their spread.
    """
    generator = np.random.default_rng(0)
    pool = np.concatenate(found.common)
    means, of_rows, of_cells = [], [], []
    for mean, n, own in zip(found.means.to_numpy(), found.runs, found.own, strict=True):
        width = len(mean)
        common = generator.choice(pool, (RESAMPLED, n, 1))
        rest = generator.choice(own.ravel(), (RESAMPLED, n, width))
        # The rest has no part that is common to a row; its noise there is in `common`.
        rest = rest - rest.mean(2, keepdims=True)
        y = common + rest
        deviations = y - y.mean(1, keepdims=True)
        seeds = deviations.mean(2)
        means.append(mean + y.mean(1))
        of_rows.append((seeds**2).sum(1) / (n - 1))
        squares = ((deviations - seeds[:, :, None]) ** 2).sum((1, 2))
        of_cells.append(squares / ((n - 1) * max(width - 1, 1)))
    return np.stack(means, 1), (np.stack(of_rows, 1), np.stack(of_cells, 1))


def _parts(means: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row effects, column effects and interactions of (..., I, J) cell means."""
    of_rows, of_columns, mean = means.mean(-1), means.mean(-2), means.mean((-2, -1))
    rest = means - of_rows[..., :, None] - of_columns[..., None, :] + mean[..., None, None]
    return of_rows - mean[..., None], of_columns - mean[..., None], rest


def _variances(parts: tuple[np.ndarray, ...], noise: tuple[np.ndarray, np.ndarray], runs: np.ndarray) -> np.ndarray:
    """(..., 3): variances of row effects, column effects and interactions, without the part of the noise: what a seed
    does to a whole row moves only the rows."""
    of_rows, of_cells = ((each / runs).mean(-1) for each in noise)
    i, j = parts[2].shape[-2:]
    squares = [
        (parts[0] ** 2).sum(-1) / (i - 1) - of_rows,
        (parts[1] ** 2).sum(-1) / (j - 1) - of_cells / i,
        (parts[2] ** 2).sum((-2, -1)) / ((i - 1) * (j - 1)) - of_cells,
    ]
    return np.stack(squares, -1)


def _errors(noise: np.ndarray, runs: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """(..., I, J): standard errors of the interactions, for the variances `noise` (..., I) of a run of each row."""
    left, right = ((np.eye(n) - 1 / n) ** 2 for n in shape)
    of_cells = np.broadcast_to((noise / runs)[..., :, None], (*noise.shape, shape[1]))
    return np.sqrt(left @ of_cells @ right)
