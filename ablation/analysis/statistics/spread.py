"""Mean, spread and n of a table's cells; the spread pooled over cells."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import optimize, special, stats

from ablation.spec import InvalidSpec


def summary(table: pd.DataFrame, by: Sequence[str], value: str) -> pd.DataFrame:
    """mean, sd and n of a column for each combination of the `by` columns, over the other rows (the seeds).

    sd is the sample standard deviation (ddof = 1), missing for n = 1; rows without a value do not count.
    """
    _need_numbers(table, value)
    groups = table.dropna(subset=[*by, value]).groupby(list(by), sort=False)[value]
    return groups.agg(mean="mean", sd=lambda x: x.std(ddof=1), n="count").reset_index()


def _copies(table: pd.DataFrame, by: Sequence[str], value: str) -> list[bool]:
    """For each cell, whether another has all of its runs, such as a baseline shared by several axes: a larger cell, or
    an earlier one of the same size. Compares the column `training`.
    """
    rows = table.dropna(subset=[*by, value])
    if "training" not in rows:
        return [False] * rows.groupby(list(by), sort=False).ngroups
    groups = rows.groupby(list(by), sort=False)[["training", value]]
    cells = [frozenset(group.itertuples(index=False, name=None)) for _, group in groups]
    copies, of_run = [False] * len(cells), {}
    for number in sorted(range(len(cells)), key=lambda number: -len(cells[number])):
        runs = cells[number]
        copies[number] = any(runs <= other for other in of_run.get(next(iter(runs)), ()))
        for run in runs:
            of_run.setdefault(run, []).append(runs)
    return copies


def pooled_sd(table: pd.DataFrame, by: Sequence[str], value: str) -> float:
    """Square root of the mean variance within cells, weighted by their degrees of freedom; nan without any."""
    return spread(table, by, value).sd


@dataclass(frozen=True)
class Spread:
    """The cells' standard deviation over seeds.

    cells: one row per cell: the `by` columns, mean, sd, n, and `error`, the standard error of the mean from the
    spread of all cells. sd: pooled over cells; freedom: degrees of freedom of the errors; equal: p-value of equal
    variances in all cells; moderated: whether that was rejected (p < 0.05), so that the cells' variances are shrunk
    towards a common one instead of replaced by it. All nan if no cell has two seeds.
    """

    cells: pd.DataFrame
    sd: float
    freedom: float
    equal: float
    moderated: bool


def spread(table: pd.DataFrame, by: Sequence[str], value: str) -> Spread:
    """The spread pooled over cells, since two or three seeds say little about a single cell's spread.

    Bartlett's statistic tests whether the variances differ, against its simulated distribution under normality, since
    the usual approximation needs more seeds. If they do, they are moderated: (d0 s0^2 + d s^2) / (d0 + d) with d0 and
    s0 estimated from all cells (Smyth 2004, Stat. Appl. Genet. Mol. Biol. 3:3, section 6.2). Cells with the same runs
    (column `training`) count once.
    """
    _one_value_per_seed(table, by, value)
    cells = summary(table, by, value)
    freedoms = cells["n"].to_numpy(float) - 1
    variances = cells["sd"].to_numpy(float) ** 2
    known = (freedoms > 0) & ~np.array(_copies(table, by, value), dtype=bool)
    if not known.any():
        return Spread(cells.assign(error=np.nan), math.nan, math.nan, math.nan, False)
    total = freedoms[known].sum()
    pooled = float((variances[known] * freedoms[known]).sum() / total)
    # Accuracies are counts of images: seeds with equal counts still vary within one step.
    steps = np.diff(np.unique(table[value].dropna()))
    least = float(steps.min()) ** 2 / 12 if len(steps) else 0.0
    equal = _equal(np.maximum(variances[known], least), freedoms[known])
    freedom, each, moderated = total, np.full(len(cells), pooled), False
    if equal < 0.05:
        prior_freedom, prior = _prior(np.maximum(variances[known], least), freedoms[known])
        moderated = math.isfinite(prior_freedom)
        if moderated:
            own = np.where(freedoms > 0, variances, 0)
            each = (prior_freedom * prior + freedoms * own) / (prior_freedom + freedoms)
            freedom = min(total, prior_freedom + float(np.median(freedoms[known])))
    return Spread(cells.assign(error=np.sqrt(each / cells["n"])), math.sqrt(pooled), float(freedom), equal, moderated)


def _need_numbers(table: pd.DataFrame, value: str) -> None:
    """Raises InvalidSpec for a column of text, such as `read_table` returns."""
    if pd.api.types.is_numeric_dtype(table[value]):
        return
    texts = [each for each in table[value] if isinstance(each, str)]
    if texts:
        raise InvalidSpec(
            f"the column {value!r} must hold numbers, but holds text ({texts[0]!r}), as read_table returns it. Write "
            f"table = numbers(table, [{value!r}]) first, from ablation.analysis.tables."
        )


def _one_value_per_seed(table: pd.DataFrame, by: Sequence[str], value: str) -> None:
    """Raises InvalidSpec if `by` merges several cells: their differences would look like the seeds' spread."""
    _need_numbers(table, value)
    rows = table.dropna(subset=[*by, value])
    if "seed" in rows and rows.duplicated([*by, "seed"]).any():
        raise InvalidSpec(
            f"the columns {', '.join(by)} must identify the cells of the table, but some have several values of "
            f"{value} for one seed. Name all coordinates of a cell, or select rows by the others."
        )


SIMULATIONS = 4_000


def _equal(variances: np.ndarray, freedoms: np.ndarray) -> float:
    """p-value of Bartlett's statistic, by simulation of normal values with equal variances."""
    if len(variances) < 2 or variances.max() == 0:
        return math.nan
    as_large = (_bartletts_of_equal(tuple(freedoms)) >= _bartlett(variances[None], freedoms)).sum()
    return float((1 + as_large) / (1 + SIMULATIONS))


@functools.lru_cache(maxsize=64)
def _bartletts_of_equal(freedoms: tuple[float, ...]) -> np.ndarray:
    """Bartlett's statistic of SIMULATIONS tables of normal values with equal variances."""
    generator = np.random.default_rng(0)
    each = np.array(freedoms)
    return _bartlett(generator.chisquare(each, (SIMULATIONS, len(each))) / each, each)


def _bartlett(variances: np.ndarray, freedoms: np.ndarray) -> np.ndarray:
    """Bartlett's statistic of each row, without its constant factor."""
    total = freedoms.sum()
    pooled = (variances * freedoms).sum(1) / total
    return total * np.log(pooled) - (freedoms * np.log(np.maximum(variances, 1e-300))).sum(1)


def _prior(variances: np.ndarray, freedoms: np.ndarray) -> tuple[float, float]:
    """d0 and s0^2: logs of scaled chi-squared variances have known mean and variance; the excess is between cells."""
    half = freedoms / 2
    logs = np.log(np.maximum(variances, 1e-12 * variances.max())) - special.digamma(half) + np.log(half)
    between = logs.var(ddof=1) - special.polygamma(1, half).mean()
    if between <= 0:
        return math.inf, float(variances.mean())
    prior = 2 * optimize.brentq(lambda x: special.polygamma(1, x) - between, 1e-3, 1e6)
    return prior, float(np.exp(logs.mean() + special.digamma(prior / 2) - math.log(prior / 2)))


def interval(mean: float, error: float, freedom: float, level: float = 0.95) -> tuple[float, float]:
    """mean -+ t error; nan if the error is unknown (a single seed)."""
    reach = stats.t.ppf(0.5 + level / 2, freedom) * error if freedom > 0 else math.nan
    return mean - reach, mean + reach


@dataclass(frozen=True)
class SeedCorrelation:
    """correlation: of two cells' accuracies over seeds (estimate); p: of no correlation; sd: without the seeds' own
    effect; cells, seeds: numbers in the complete layout used."""

    correlation: float
    p: float
    sd: float
    cells: int
    seeds: int


def seed_correlation(table: pd.DataFrame, by: Sequence[str], value: str) -> SeedCorrelation:
    """Whether seeds are good or bad for all cells alike, from a cell x seed layout; pair over seeds only if so.

    The two-way random model without replication: y = cell + seed + rest. Cells that lack a seed are omitted.
    """
    _one_value_per_seed(table, by, value)
    wide = table.dropna(subset=[*by, value]).pivot_table(index=list(by), columns="seed", values=value).dropna()
    cells, seeds = wide.shape
    if cells < 2 or seeds < 2:
        return SeedCorrelation(math.nan, math.nan, math.nan, cells, seeds)
    values = wide.to_numpy()
    centred = values - values.mean(1, keepdims=True)
    rest = centred - centred.mean(0)
    mean_square = (rest**2).sum() / ((cells - 1) * (seeds - 1))
    of_seeds = cells * (centred.mean(0) ** 2).sum() / (seeds - 1)
    variance = (of_seeds - mean_square) / cells
    p = float(stats.f.sf(of_seeds / mean_square, seeds - 1, (cells - 1) * (seeds - 1))) if mean_square > 0 else math.nan
    whole = variance + mean_square
    return SeedCorrelation(float(variance / whole) if whole > 0 else math.nan, p, math.sqrt(mean_square), cells, seeds)
