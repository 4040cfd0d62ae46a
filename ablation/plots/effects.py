"""Main effects, interactions and Shapley values of all subsets of a few operators."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from ablation.analysis.statistics import factorial
from ablation.analysis.tables import rounded
from ablation.plots.base import FigureSpec
from ablation.plots.caption import caption, kind_of_spread, seeds_in, seeds_said
from ablation.spec import InvalidSpec

TITLES = {"main": "main effect", "shapley": "Shapley value", "interaction": "interaction"}


@dataclass(frozen=True, kw_only=True)
class Effects(FigureSpec):
    """factors: coordinates that are 0 or 1. One panel per value: estimates in points with 95 % intervals."""

    factors: tuple[str, ...]

    @property
    def axes(self) -> tuple[str, ...]:
        return self.factors

    def plot(self, rows: pd.DataFrame) -> Figure:
        found = [self._effects(rows, value) for value in self.values]
        labels = [
            f"{TITLES[kind]}: {' x '.join(map(self.label, effect))}"
            for kind, effect in zip(found[0]["kind"], found[0]["factors"], strict=True)
        ]
        panels = [
            (effects, f"effect on {self.labels.get(value, self.measured(value).short)}")
            for value, effects in zip(self.values, found, strict=True)
        ]
        return self.forest(rows, labels, panels, self._panel)

    def _panel(self, axis, effects: pd.DataFrame) -> None:
        colors = dict(zip(TITLES, sns.color_palette("colorblind", 3), strict=True))
        for number, (kind, rows) in enumerate(effects.groupby("kind", sort=False)):
            spans = rows[["low", "high"]].sub(rows["estimate"], axis=0).abs()
            axis.errorbar(
                rows["estimate"], rows.index, xerr=None if spans.isna().all(axis=None) else spans.T.to_numpy(),
                fmt="osD"[number], markersize=3, capsize=1.5, lw=0.8, capthick=0.8, color=colors[kind],
            )  # fmt: skip
        axis.axvline(0, color="0.6", lw=0.8)
        sns.despine(ax=axis)

    def _effects(self, table: pd.DataFrame, value: str) -> pd.DataFrame:
        """The table of `factorial`, main effects first. Raises InvalidSpec if a factor is not 0 or 1 or a subset is
        missing."""
        runs = table.dropna(subset=[*self.factors, value])
        other = [f"{f} {x}" for f in self.factors for x in runs[f].unique() if x not in ("0", "1")]
        if other:
            raise InvalidSpec(
                f"Effects.factors must be coordinates that are 0 or 1, but there is {', '.join(other[:5])}. "
                "Name others."
            )
        found = factorial(runs.astype(dict.fromkeys(self.factors, int)), self.factors, value)
        order = found["kind"].map(list(TITLES).index)
        return found.iloc[order.argsort(kind="stable")].reset_index(drop=True)

    def describe(self, table: pd.DataFrame) -> str:
        missing = self.missing(table, self.values)
        text = caption(table, list(self.factors), self.values, self.note, missing, self.measures)
        kind = kind_of_spread([table], list(self.factors), self.values)
        factors = ", ".join(map(self.label, self.factors))
        text += (
            f" All {2 ** len(self.factors)} subsets of {factors}; main effect: mean with minus mean without; "
            "interaction: half the difference of one's effect with and without the other; Shapley value: mean gain "
            "over all orders of adding."
        )
        return text + (f" Bars: 95 % intervals, spread {kind}." if kind else "")

    def line(self, rows: pd.DataFrame) -> str:
        bars = "95 % intervals; " if kind_of_spread([rows], list(self.factors), self.values) else ""
        return f"{bars}{seeds_said(seeds_in(rows, list(self.factors), self.values))} of each subset."

    def text(self, table: pd.DataFrame) -> str:
        table = self.rows_of(table)
        parts = []
        for value in self.values:
            shown = self._effects(table, value)[["kind", "effect", "estimate", "low", "high"]].dropna(axis=1)
            largest, unit = table[value].abs().max(), self.measured(value).unit_of_differences
            text = shown.to_string(index=False, float_format=lambda x, near=largest: rounded(x, 1, near))
            named = f"{self.metric(value)}, {unit}" if unit else self.metric(value)
            parts.append(f"{named}\n{text}")
        return "\n\n".join([*parts, self.describe(table)])
