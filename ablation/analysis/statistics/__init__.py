"""Statistics of a table: spread over seeds, comparisons, agreement with a reference, effects, two crossed factors, the
envelope of an axis, variance from seeds and test images.

Functions take a tidy table with a column `seed`, grids of means, or numbers from one.

spread       mean, spread and n of cells
comparisons  of cells: with the best, with a control, of two orders
two_way      two crossed coordinates and their interaction
reliability  agreement of several methods' grids, without noise
effects      of all subsets
agreement    with a published grid or axis
envelope     the best of an axis, chosen on validation images
images       variance from seeds and from test images
"""

from ablation.analysis.statistics.agreement import Agreement, agreement, early_agreement, trend
from ablation.analysis.statistics.comparisons import (
    against_control,
    among_best,
    calibration,
    difference,
    difference_of_groups,
    order_effects,
    paired,
    seeds_needed,
)
from ablation.analysis.statistics.effects import factorial
from ablation.analysis.statistics.envelope import envelope
from ablation.analysis.statistics.images import accuracy_by_class, mcnemar, seed_and_image_variance
from ablation.analysis.statistics.reliability import grid_correlations
from ablation.analysis.statistics.spread import Spread, interval, pooled_sd, seed_correlation, spread, summary
from ablation.analysis.statistics.two_way import TwoWay, two_way

__all__ = [
    "Agreement", "Spread", "TwoWay", "accuracy_by_class", "against_control", "agreement", "among_best", "calibration",
    "difference", "difference_of_groups", "early_agreement", "envelope", "factorial", "grid_correlations", "interval",
    "mcnemar", "order_effects", "paired", "pooled_sd", "seed_and_image_variance", "seed_correlation", "seeds_needed",
    "spread", "summary", "trend", "two_way",
]  # fmt: skip
