"""All subsets of a few operators: main effects, interactions and Shapley values."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from ablation.analysis.statistics.spread import interval, spread
from ablation.spec import InvalidSpec


def factorial(table: pd.DataFrame, factors: Sequence[str], value: str, level: float = 0.95) -> pd.DataFrame:
    """A row per effect of a full 2^k factorial; the columns `factors` of the table hold 0 or 1.

    kind "main": mean with minus mean without the factor; "interaction" (of two): half the difference of one's effect
    with and without the other; "shapley": a factor's mean gain over all orders of adding factors (Shapley 1953); these
    sum to all minus none. effect: its name; factors: its one or two factors. estimate, error, low, high: in the
    value's units, the error from the spread pooled over cells, `level` intervals by t.
    """
    found = spread(table, list(factors), value)
    cells = {tuple(int(row[f]) for f in factors): row for row in found.cells.to_dict("records")}
    subsets = list(itertools.product((0, 1), repeat=len(factors)))
    missing = [subset for subset in subsets if subset not in cells]
    if missing:
        raise InvalidSpec(
            f"effects need all {len(subsets)} subsets of {', '.join(factors)}, but {len(missing)} lack {value}, such "
            f"as {dict(zip(factors, missing[0], strict=True))}. Run the missing cells."
        )
    means = np.array([cells[s]["mean"] for s in subsets])
    errors = np.array([cells[s]["error"] for s in subsets])
    on = np.array(subsets, dtype=bool)
    signs = np.where(on, 1.0, -1.0)
    contrasts = {("main", (name,)): 2 * signs[:, i] / len(subsets) for i, name in enumerate(factors)}
    for i, j in itertools.combinations(range(len(factors)), 2):
        contrasts["interaction", (factors[i], factors[j])] = 2 * signs[:, i] * signs[:, j] / len(subsets)
    contrasts |= {("shapley", (name,)): _shapley(on, i) for i, name in enumerate(factors)}
    rows = []
    for (kind, names), weights in contrasts.items():
        estimate, error = float(weights @ means), float(np.sqrt(weights**2 @ errors**2))
        low, high = interval(estimate, error, found.freedom, level)
        rows.append(
            {"kind": kind, "effect": " x ".join(names), "factors": names, "estimate": estimate, "error": error,
             "low": low, "high": high}
        )  # fmt: skip
    return pd.DataFrame(rows)


def _shapley(on: np.ndarray, factor: int) -> np.ndarray:
    """Weights of the subsets' values in the factor's Shapley value."""
    count = on.shape[1]
    others = on.sum(1) - on[:, factor]
    weight = np.array([math.factorial(k) * math.factorial(count - k - 1) / math.factorial(count) for k in others])
    return np.where(on[:, factor], weight, -weight)
