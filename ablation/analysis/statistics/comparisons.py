"""Comparisons of cells: with the best, with a control, of the two orders of a pair; and the seeds that they need."""

from __future__ import annotations

import bisect
import functools
import math
from collections.abc import Sequence, Set

import numpy as np
import pandas as pd
from scipy import optimize, stats

from ablation.analysis.statistics.spread import Spread, interval, spread
from ablation.spec import InvalidSpec


def among_best(
    table: pd.DataFrame, by: Sequence[str], value: str, level: float = 0.95, *, lowest: bool = False
) -> pd.DataFrame:
    """Multiple comparison with the best (Hsu 1981, Ann. Statist. 9:1026): which cells may be the best.

    One row per cell: the `by` columns, mean, sd, n, error, `reach` (the upper confidence bound of its mean minus the
    best other cell's) and `among_best` (reach > 0). The true best is included with probability of at least `level`; so
    is each of several equally good ones. Errors come from the pooled (or moderated) spread; without any spread,
    among_best is missing. lowest: whether the lowest mean is the best; reach is then that of the negative means.
    """
    found = spread(table, by, value)
    cells = found.cells
    if not found.freedom > 0 or len(cells) < 2:
        return cells.assign(reach=np.nan, among_best=pd.array([pd.NA] * len(cells), dtype="boolean"))
    mean, variance = (-1 if lowest else 1) * cells["mean"].to_numpy(), cells["error"].to_numpy() ** 2
    reach = np.empty(len(cells))
    critical: dict[tuple, float] = {}
    for i in range(len(cells)):
        others = np.arange(len(cells)) != i
        error = np.sqrt(variance[i] + variance[others])
        loadings = np.sqrt(variance[i] / (variance[i] + variance[others])) if variance[i] > 0 else 0 * error
        key = tuple(np.round(np.sort(loadings), 6))
        if key not in critical:
            critical[key] = dunnett(loadings, found.freedom, level)
        reach[i] = (mean[i] - mean[others] + critical[key] * error).min()
    return cells.assign(reach=reach, among_best=pd.array(reach > 0, dtype="boolean"))


def against_control(table: pd.DataFrame, by: str, value: str, control: str, level: float = 0.95) -> pd.DataFrame:
    """Differences of all cells from one of them, the control, with simultaneous intervals (Dunnett 1955, two-sided).

    One row per other cell: `by`, difference, low, high. All intervals together cover with probability `level`; errors
    come from the pooled (or moderated) spread. Without any spread, low and high are missing.
    """
    found = spread(table, [by], value)
    cells, of = found.cells, found.cells[by] == control
    if not of.any():
        raise InvalidSpec(f"against must be a label of {by!r}, but got {control!r}. Name one of {list(cells[by])}.")
    [own], others = cells[of].to_dict("records"), cells[~of]
    difference, variance = others["mean"] - own["mean"], others["error"] ** 2 + own["error"] ** 2
    reach = np.nan
    if found.freedom > 0 and len(others):
        loadings = np.where(variance > 0, own["error"] / np.sqrt(variance.where(variance > 0, 1)), 0)
        reach = dunnett(loadings, found.freedom, level, two_sided=True) * np.sqrt(variance)
    return pd.DataFrame(
        {by: others[by], "difference": difference, "low": difference - reach, "high": difference + reach}
    ).reset_index(drop=True)


def dunnett(loadings: np.ndarray, freedom: float, level: float, two_sided: bool = False) -> float:
    """q with P(T_j <= q for all j) = level, T_j multivariate t with correlations loadings[j] * loadings[k]. two_sided:
    for the absolute values.

    T_j compares a common cell with cell j; loadings[j]^2 = var_i / (var_i + var_j), a half for equal n (Dunnett 1955).
    """
    return _dunnett(tuple(np.asarray(loadings, float)), float(freedom), level, two_sided)


@functools.lru_cache(maxsize=256)  # a figure, its caption and its text ask for the same
def _dunnett(loadings: tuple[float, ...], freedom: float, level: float, two_sided: bool) -> float:
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    weights = weights / weights.sum()
    # Quadrature over quantiles of the spread, with the tails split into separate pieces.
    edges = np.array([0, 1e-4, 1e-2, 0.1, 0.9, 0.99, 1 - 1e-4, 1])
    points, shares = np.polynomial.legendre.leggauss(8)
    chances = (edges[:-1, None] + (points + 1) / 2 * np.diff(edges)[:, None]).ravel()
    shares = (shares / 2 * np.diff(edges)[:, None]).ravel()
    if not math.isfinite(freedom):
        chances, shares = np.full(1, 0.5), np.ones(1)
    scale = np.sqrt(stats.chi2.ppf(chances, freedom) / freedom) if math.isfinite(freedom) else np.ones(1)
    values, counts = np.unique(np.round(loadings, 9), return_counts=True)  # equal ones are computed once
    own = np.sqrt(1 - values**2)

    def excess(q: float) -> float:
        log_p = 0.0
        for loading, rest, count in zip(values, own, counts, strict=True):
            below = stats.norm.cdf((q * scale[:, None] + loading * nodes) / rest)
            below -= stats.norm.cdf((-q * scale[:, None] + loading * nodes) / rest) if two_sided else 0
            log_p = log_p + count * np.log(np.maximum(below, 1e-300))
        return float(shares @ (np.exp(log_p) @ weights) - level)

    return optimize.brentq(excess, 0, 200, xtol=1e-6)


def order_effects(table: pd.DataFrame, value: str, commuting: Set[frozenset[str]] = frozenset()) -> pd.DataFrame:
    """Is `one` then `other` different from `other` then `one`? A row per unordered pair of a pairwise grid.

    difference: mean(one, other) - mean(other, one); error and p by t with the spread pooled over the grid; p_holm:
    adjusted for the number of pairs (Holm 1979); commutes: whether the operators' laws imply no difference, as for the
    pairs of labels in `commuting` (`Settings.commuting`).
    """
    found = spread(table, ["first", "second"], value)
    cells = {(r.first, r.second): r for r in found.cells.itertuples()}
    rows = []
    for (one, other), forward in cells.items():
        backward = cells.get((other, one))
        if one == other or backward is None or any({one, other} == {r["one"], r["other"]} for r in rows):
            continue
        error = math.hypot(forward.error, backward.error)
        difference = forward.mean - backward.mean
        p = 2 * stats.t.sf(abs(difference) / error, found.freedom) if error > 0 else math.nan
        rows.append(
            {"one": one, "other": other, "difference": difference, "error": error, "freedom": found.freedom, "p": p,
             "commutes": frozenset((one, other)) in commuting}
        )  # fmt: skip
    columns = ["one", "other", "difference", "error", "freedom", "p", "commutes"]
    frame = pd.DataFrame(rows, columns=columns)
    return frame.assign(p_holm=holm(frame["p"].to_numpy(float)))


def holm(p: np.ndarray) -> np.ndarray:
    """Adjusted p-values; missing ones stay missing and do not count."""
    adjusted = np.full(len(p), np.nan)
    known = np.flatnonzero(~np.isnan(p))
    running = 0.0
    for rank, i in enumerate(known[np.argsort(p[known], kind="stable")]):
        running = max(running, min(1.0, (len(known) - rank) * p[i]))
        adjusted[i] = running
    return adjusted


def calibration(effects: pd.DataFrame) -> dict[str, float]:
    """The A/A test: pairs that commute in law differ only by the seeds' spread.

    effects: from `order_effects`. n: number of pairs; largest: |difference|; ratio: mean of (difference / error)^2, 1
    expected; p: of a larger ratio by F(n, freedom), p_smaller: of a smaller one. A small p means that the grid's spread
    is understated or an operator breaks its law; a small p_smaller that the spread is overstated for these pairs.
    """
    pairs = effects[effects["commutes"]].dropna(subset=["difference", "error"])
    if pairs.empty or not (pairs["error"] > 0).all():
        return {"n": len(pairs), "largest": math.nan, "ratio": math.nan, "p": math.nan, "p_smaller": math.nan}
    ratio = float(((pairs["difference"] / pairs["error"]) ** 2).mean())
    p = float(stats.f.sf(ratio, len(pairs), pairs["freedom"].iloc[0]))
    return {
        "n": len(pairs),
        "largest": float(pairs["difference"].abs().max()),
        "ratio": ratio,
        "p": p,
        "p_smaller": 1 - p,
    }


def seeds_needed(
    difference: float, sd: float, freedom: float, *, power: float = 0.8, level: float = 0.95
) -> tuple[int, int, int]:
    """Seeds per cell for a two-sided t test of two cells to detect `difference` with `power`: (low, best, high).

    best is for the estimated spread `sd`; low and high are for the ends of its 95 % interval from `freedom` degrees of
    freedom, so the range is wide after few seeds. Raises InvalidSpec without a spread.
    """
    if not (freedom > 0 and math.isfinite(sd)):
        raise InvalidSpec(
            f"seeds_needed needs a spread, but sd is {sd} with {freedom} degrees of freedom. Run a second seed."
        )
    low, high = (sd * math.sqrt(freedom / stats.chi2.ppf(chance, freedom)) for chance in (0.975, 0.025))
    return tuple(_seeds(difference, s, power, level) for s in (low, sd, high))


def _seeds(difference: float, sd: float, power: float, level: float) -> int:
    """The smallest n >= 2 whose t test, with 2 (n - 1) degrees of freedom, has the power."""

    def has_power(n: int) -> bool:
        freedom = 2 * (n - 1)
        shift = min(abs(difference) / (sd * math.sqrt(2 / n)), 1e5)  # scipy returns nan for larger ones
        critical = stats.t.ppf(0.5 + level / 2, freedom)
        # Both tails of the noncentral t; scipy 1.17's own is nan for many large shifts.
        return stats.ncf.sf(critical**2, 1, freedom, shift**2) >= power

    if sd <= 0:
        return 2
    high = 2
    while not has_power(high):
        high *= 2
        if high > 2**20:
            raise InvalidSpec(
                f"seeds_needed: a difference of {difference} at a spread of {sd} needs over a million seeds. Choose a "
                "larger difference."
            )
    return bisect.bisect_left(range(high), True, lo=2, key=has_power)


def difference_of_groups(
    spread: Spread, table: pd.DataFrame, value: str, one: pd.DataFrame, other: pd.DataFrame
) -> dict:
    """Mean over some cells minus mean over others, each cell with the same weight; result as of `difference`.

    one, other: rows of `spread.cells`. A seed may favour a whole group, which the spread within cells does not show. So
    if the difference varies over seeds by far more than the cells' spread explains (F test, p < 0.01), the error comes
    from that variation, with n - 1 degrees of freedom; only if a group has several cells, and all have the same seeds.
    """
    by = [c for c in spread.cells.columns if c not in ("mean", "sd", "n", "error")]
    errors = [float((rows["error"] ** 2).sum() ** 0.5) / len(rows) for rows in (one, other)]
    found = difference(one["mean"].mean(), other["mean"].mean(), *errors, spread.freedom)
    if max(len(one), len(other)) == 1 or "seed" not in table:
        return found
    rows = table.dropna(subset=[*by, value])
    sides = []
    for cells in (one, other):
        wide = rows.merge(cells[by], on=by).pivot_table(index=by, columns="seed", values=value)
        if wide.isna().any(axis=None):
            return found
        sides.append(wide.mean())
    if not sides[0].index.equals(sides[1].index) or len(sides[0]) < 2:
        return found
    over_seeds = sides[0] - sides[1]
    n, variance = len(over_seeds), float(over_seeds.var(ddof=1))
    p = stats.f.sf(variance / (n * found["error"] ** 2), n - 1, spread.freedom)
    if p >= 0.01:
        return found
    return difference(found["difference"], 0.0, math.sqrt(variance / n), 0.0, n - 1)


def paired(table: pd.DataFrame, by: str, value: str, one: str, other: str) -> dict[str, float]:
    """Two cells with the same seeds: mean difference, 95 % interval and p over seeds by Student's t; correlation over
    seeds, without which pairing gains nothing; n seeds. NaN if fewer than two seeds are common."""
    wide = table.dropna(subset=[by, value]).pivot_table(index="seed", columns=by, values=value)
    both = wide.reindex(columns=[one, other]).dropna()
    differences, n = both[one] - both[other], len(both)
    error = float(differences.std(ddof=1)) / math.sqrt(n) if n > 1 else math.nan
    found = difference(float(differences.mean()), 0.0, error, 0.0, n - 1)
    return found | {"correlation": float(both[one].corr(both[other])) if n > 2 else math.nan, "n": n}


def difference(mean: float, other: float, error: float, other_error: float, freedom: float) -> dict[str, float]:
    """mean - other with its standard error, 95 % interval and two-sided p."""
    value, both = mean - other, math.hypot(error, other_error)
    low, high = interval(value, both, freedom)
    p = float(2 * stats.t.sf(abs(value) / both, freedom)) if both > 0 and freedom > 0 else math.nan
    return {"difference": value, "error": both, "low": low, "high": high, "p": p}
