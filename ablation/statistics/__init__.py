"""What a table says and how surely: spread over seeds, comparisons, agreement with a reference, effects.

Functions take a tidy table with a column `seed`, grids of means, or numbers of one, as each says.
"""

from ablation.statistics.agreement import Agreement, agreement, trend
from ablation.statistics.comparisons import (
    among_best,
    calibration,
    difference,
    difference_of_groups,
    order_effects,
    paired,
    seeds_needed,
)
from ablation.statistics.effects import factorial
from ablation.statistics.images import accuracy_by_class, mcnemar, seed_and_image_variance
from ablation.statistics.spread import Spread, interval, pooled_sd, seed_correlation, spread, summary

__all__ = [
    "Agreement", "Spread", "accuracy_by_class", "agreement",
    "among_best", "calibration", "difference", "difference_of_groups", "factorial",
    "interval", "mcnemar", "order_effects", "paired", "pooled_sd", "seed_and_image_variance", "seed_correlation",
    "seeds_needed", "spread", "summary", "trend",
]  # fmt: skip
