"""All subsets of a few operators: main effects, interactions and Shapley values."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from ablation.specs import InvalidSpec
from ablation.statistics.spread import interval, spread


def factorial(table: pd.DataFrame, factors: Sequence[str], value: str, level: float = 0.95) -> pd.DataFrame:
    """A row per effect of a full 2^k factorial; the columns `factors` of the table hold 0 or 1.

    kind "main": mean with minus mean without the factor; "interaction" (of two): half the difference of one's effect
    with and without the other; "shapley": a factor's mean gain over all orders in which factors can be added
    (Shapley 1953), so that they add up to all minus none. estimate, error, low, high: in the value's units, the error
    from the spread pooled over cells, `level` intervals by t.
    """
    found = spread(table, list(factors), value)
    cells = {tuple(int(getattr(r, f)) for f in factors): r for r in found.cells.itertuples()}
    subsets = list(itertools.product((0, 1), repeat=len(factors)))
    missing = [subset for subset in subsets if subset not in cells]
    if missing:
        raise InvalidSpec(
            f"factorial must have all {len(subsets)} subsets of {', '.join(factors)}, but {len(missing)} are missing, "
            f"such as {dict(zip(factors, missing[0], strict=True))}. Run the missing cells."
        )
    means = np.array([cells[s].mean for s in subsets])
    errors = np.array([cells[s].error for s in subsets])
    on = np.array(subsets, dtype=bool)
    signs = np.where(on, 1.0, -1.0)
    contrasts = {("main", name): 2 * signs[:, i] / len(subsets) for i, name in enumerate(factors)}
    for i, j in itertools.combinations(range(len(factors)), 2):
        contrasts["interaction", f"{factors[i]} x {factors[j]}"] = 2 * signs[:, i] * signs[:, j] / len(subsets)
    contrasts |= {("shapley", name): _shapley(on, i) for i, name in enumerate(factors)}
    rows = []
    for (kind, name), weights in contrasts.items():
        estimate, error = float(weights @ means), float(np.sqrt(weights**2 @ errors**2))
        low, high = interval(estimate, error, found.freedom, level)
        rows.append({"kind": kind, "effect": name, "estimate": estimate, "error": error, "low": low, "high": high})
    return pd.DataFrame(rows)


def _shapley(on: np.ndarray, factor: int) -> np.ndarray:
    """Weights of the subsets' values in the factor's Shapley value."""
    count = on.shape[1]
    others = on.sum(1) - on[:, factor]
    weight = np.array([math.factorial(k) * math.factorial(count - k - 1) / math.factorial(count) for k in others])
    return np.where(on[:, factor], weight, -weight)
