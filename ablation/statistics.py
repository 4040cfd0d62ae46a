"""Mean, spread and n of the cells of a table."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd


def summary(table: pd.DataFrame, by: Sequence[str], value: str) -> pd.DataFrame:
    """mean, sd and n of a column for each combination of the `by` columns, over what remains (the seeds).

    sd is the sample standard deviation (ddof = 1), missing for n = 1; rows without a value do not count.
    """
    groups = table.dropna(subset=[*by, value]).groupby(list(by), sort=False)[value]
    return groups.agg(mean="mean", sd=lambda x: x.std(ddof=1), n="count").reset_index()


def pooled_sd(table: pd.DataFrame, by: Sequence[str], value: str) -> float:
    """Square root of the mean variance within cells, weighted by their degrees of freedom; nan without any."""
    cells = summary(table, by, value)
    freedom = cells["n"] - 1
    used = freedom > 0
    if not used.any():
        return float("nan")
    return float(((cells["sd"] ** 2 * freedom)[used].sum() / freedom[used].sum()) ** 0.5)
