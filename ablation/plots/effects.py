"""Main effects, interactions and Shapley values of all subsets of a few operators."""

from __future__ import annotations

from dataclasses import dataclass

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from ablation.plots.base import STYLE, FigureSpec, caption, named, write_caption
from ablation.statistics import factorial

TITLES = {"main": "main effect", "shapley": "Shapley value", "interaction": "interaction"}


@dataclass(frozen=True, kw_only=True)
class Effects(FigureSpec):
    """factors: coordinates that are 0 or 1. One panel per value: estimates in points with 95 % intervals."""

    factors: tuple[str, ...]

    @property
    def axes(self) -> tuple[str, ...]:
        return self.factors

    def draw(self, table: pd.DataFrame) -> Figure:
        table = self.rows_of(table)
        with plt.rc_context(STYLE):
            width = 3.4 * len(self.values) + 1.2
            figure, axs = plt.subplots(
                1, len(self.values), figsize=(width, 5.2), squeeze=False, layout="constrained", sharey=True
            )
            for axis, value in zip(axs[0], self.values, strict=True):
                found = self._effects(table, value)
                colors = dict(zip(TITLES, sns.color_palette("colorblind", 3), strict=True))
                for number, (kind, rows) in enumerate(found.groupby("kind", sort=False)):
                    spans = rows[["low", "high"]].sub(rows["estimate"], axis=0).abs().T.to_numpy()
                    axis.errorbar(
                        rows["estimate"], rows.index, xerr=spans, fmt="osD"[number], markersize=4, capsize=2, lw=1,
                        color=colors[kind],
                    )  # fmt: skip
                axis.axvline(0, color="0.6", lw=0.8)
                axis.set_title(named(value))
                axis.set_xlabel("points")
                sns.despine(ax=axis)
            axs[0][0].set_yticks(
                found.index, [f"{TITLES[r.kind]}: {r.effect}" for r in found.itertuples()], fontsize=6.5
            )
            axs[0][0].invert_yaxis()
            write_caption(figure, self._caption(table), width)
        return figure

    def _effects(self, table: pd.DataFrame, value: str) -> pd.DataFrame:
        found = factorial(table, self.factors, value)
        found = found.assign(order=found["kind"].map({kind: i for i, kind in enumerate(TITLES)}))
        return found.sort_values("order", kind="stable").reset_index(drop=True)

    def _caption(self, table: pd.DataFrame) -> str:
        text = caption(table, list(self.factors), self.values, self.note)
        return text + (
            f" All {2 ** len(self.factors)} subsets of {', '.join(self.factors)}; main effect: mean with minus mean "
            "without; interaction: half the difference of one's effect with and without the other; Shapley value: mean "
            "gain over all orders of adding. Bars: 95 % intervals from the pooled spread."
        )

    def text(self, table: pd.DataFrame) -> str:
        table = self.rows_of(table)
        parts = []
        for value in self.values:
            shown = self._effects(table, value)[["kind", "effect", "estimate", "low", "high"]]
            parts.append(f"{named(value)}, points\n{shown.to_string(index=False, float_format='{:.1f}'.format)}")
        return "\n\n".join([*parts, self._caption(table)])
