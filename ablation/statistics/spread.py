"""Mean, spread and n of the cells of a table; the spread pooled over cells."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import optimize, special, stats

from ablation.specs import InvalidSpec


def summary(table: pd.DataFrame, by: Sequence[str], value: str) -> pd.DataFrame:
    """mean, sd and n of a column for each combination of the `by` columns, over what remains (the seeds).

    sd is the sample standard deviation (ddof = 1), missing for n = 1; rows without a value do not count.
    """
    _need_numbers(table, value)
    groups = table.dropna(subset=[*by, value]).groupby(list(by), sort=False)[value]
    return groups.agg(mean="mean", sd=lambda x: x.std(ddof=1), n="count").reset_index()


def _copies(table: pd.DataFrame, by: Sequence[str], value: str) -> list[bool]:
    """For each cell whether an earlier one has its very runs, as the cells of a baseline that several axes share.

    Told by the column `training`; what was run once says once how runs vary.
    """
    rows = table.dropna(subset=[*by, value])
    if "training" not in rows:
        return [False] * rows.groupby(list(by), sort=False).ngroups
    groups = rows.groupby(list(by), sort=False)[["training", value]]
    seen: set[frozenset] = set()
    copies = []
    for _, group in groups:
        runs = frozenset(group.itertuples(index=False, name=None))
        copies.append(runs in seen)
        seen.add(runs)
    return copies


def pooled_sd(table: pd.DataFrame, by: Sequence[str], value: str) -> float:
    """Square root of the mean variance within cells, weighted by their degrees of freedom; nan without any."""
    return spread(table, by, value).sd


@dataclass(frozen=True)
class Spread:
    """The cells' standard deviation over seeds.

    cells: one row per cell: the `by` columns, mean, sd, n, and `error`, the standard error of the mean from the
    spread of all cells. sd: pooled over cells; freedom: degrees of freedom of the errors; equal: p-value that all cells
    have the same variance; moderated: whether it was rejected (p < 0.05), and the variances of
    the cells shrunk towards a common one instead of replaced by it. All nan where no cell has two seeds.
    """

    cells: pd.DataFrame
    sd: float
    freedom: float
    equal: float
    moderated: bool


def spread(table: pd.DataFrame, by: Sequence[str], value: str) -> Spread:
    """The spread pooled over cells, since two or three seeds tell little of a cell's own.

    Whether the variances differ is told by Bartlett's statistic against its distribution under normality, simulated,
    since the usual approximation needs more seeds. Where they do they are moderated: (d0 s0^2 + d s^2) / (d0 + d)
    with d0 and s0 estimated from all cells (Smyth 2004, Stat. Appl. Genet. Mol. Biol. 3:3, section 6.2).
    Cells that are the same runs, told by the column `training`, count once.
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
    # Accuracies are counted in images: seeds that agree to the last one still vary within a step.
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
    """Raises InvalidSpec for a column of text, such as `read_table` gives."""
    if pd.api.types.is_numeric_dtype(table[value]):
        return
    texts = [each for each in table[value] if isinstance(each, str)]
    if texts:
        raise InvalidSpec(
            f"the column {value!r} must hold numbers, but holds text ({texts[0]!r}), as a table is read. Write "
            f"table = numbers(table, [{value!r}]) first, from ablation.tables."
        )


def _one_value_per_seed(table: pd.DataFrame, by: Sequence[str], value: str) -> None:
    """Raises InvalidSpec where `by` leaves several cells in one: their differences would be taken for the seeds'."""
    _need_numbers(table, value)
    rows = table.dropna(subset=[*by, value])
    if "seed" in rows and rows.duplicated([*by, "seed"]).any():
        raise InvalidSpec(
            f"the columns {', '.join(by)} must tell the cells of the table apart, but some have several values of "
            f"{value} with one seed. Name all coordinates that make a cell, or choose rows by the others."
        )


SIMULATIONS = 4_000


def _equal(variances: np.ndarray, freedoms: np.ndarray) -> float:
    """p-value of Bartlett's statistic by simulation from normal values of one variance."""
    if len(variances) < 2 or variances.max() == 0:
        return math.nan
    as_large = (_bartletts_of_equal(tuple(freedoms)) >= _bartlett(variances[None], freedoms)).sum()
    return float((1 + as_large) / (1 + SIMULATIONS))


@functools.lru_cache(maxsize=64)
def _bartletts_of_equal(freedoms: tuple[float, ...]) -> np.ndarray:
    """Of SIMULATIONS tables of normal values of one variance."""
    generator = np.random.default_rng(0)
    each = np.array(freedoms)
    return _bartlett(generator.chisquare(each, (SIMULATIONS, len(each))) / each, each)


def _bartlett(variances: np.ndarray, freedoms: np.ndarray) -> np.ndarray:
    """Bartlett's statistic of each row, without its constant factor."""
    total = freedoms.sum()
    pooled = (variances * freedoms).sum(1) / total
    return total * np.log(pooled) - (freedoms * np.log(np.maximum(variances, 1e-300))).sum(1)


def _prior(variances: np.ndarray, freedoms: np.ndarray) -> tuple[float, float]:
    """d0 and s0^2: the logs of scaled chi-squared variances have known mean and variance, the rest is between cells."""
    half = freedoms / 2
    logs = np.log(np.maximum(variances, 1e-12 * variances.max())) - special.digamma(half) + np.log(half)
    between = logs.var(ddof=1) - special.polygamma(1, half).mean()
    if between <= 0:
        return math.inf, float(variances.mean())
    prior = 2 * optimize.brentq(lambda x: special.polygamma(1, x) - between, 1e-3, 1e6)
    return prior, float(np.exp(logs.mean() + special.digamma(prior / 2) - math.log(prior / 2)))


def interval(mean: float, error: float, freedom: float, level: float = 0.95) -> tuple[float, float]:
    """mean -+ t error; nan where the error is not known (a single seed)."""
    reach = stats.t.ppf(0.5 + level / 2, freedom) * error if freedom > 0 else math.nan
    return mean - reach, mean + reach


@dataclass(frozen=True)
class SeedCorrelation:
    """correlation of two cells' accuracies over seeds (estimate); p: that it is 0; sd: without the seeds' own effect;
    cells and seeds of the complete layout that was used."""

    correlation: float
    p: float
    sd: float
    cells: int
    seeds: int


def seed_correlation(table: pd.DataFrame, by: Sequence[str], value: str) -> SeedCorrelation:
    """Whether a seed is good or bad for all cells alike, from a cell x seed layout; pair over seeds only if it is.

    The two-way random model without replication: y = cell + seed + rest. Cells that lack a seed are left out.
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
