"""The envelope: the best value of a coordinate for each cell, chosen on validation images."""

from __future__ import annotations

import pandas as pd

from ablation.analysis.statistics.spread import summary
from ablation.spec import InvalidSpec
from ablation.spec.metric import CHOSEN_ON


def envelope(table: pd.DataFrame, by: list[str], axis: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of each cell's value of `axis`, such as a learning rate, with the best mean linear accuracy on
    validation images; and these values, with the columns `by` and `axis`.

    Raises InvalidSpec if validation images were trained on.
    """
    if "trained_on" in table and table["trained_on"].notna().any():
        raise InvalidSpec(
            f"the best {axis!r} is chosen on validation images, which must not be trained on, but "
            "Optimization.with_validation is True. Remove best_of or with_validation."
        )
    means = summary(table, [*by, axis], CHOSEN_ON)
    best = means.loc[means.groupby(by, sort=False)["mean"].idxmax(), [*by, axis]]
    return table.merge(best, on=[*by, axis]), best
