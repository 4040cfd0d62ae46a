"""The difference of each value of a coordinate from one of them, with simultaneous intervals."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from ablation.analysis.statistics import against_control
from ablation.analysis.tables import rounded
from ablation.plots.base import FigureSpec
from ablation.plots.caption import caption, kind_of_spread, seeds_in, seeds_said
from ablation.spec import written


@dataclass(frozen=True, kw_only=True)
class Differences(FigureSpec):
    """One panel per value: each label of `rows` minus the label `against`, in points, with intervals that hold together
    (Dunnett 1955); filled if the interval excludes 0. Sorted by the first value, the largest gain first.
    """

    rows: str
    against: str

    @property
    def axes(self) -> tuple[str, ...]:
        return (self.rows,)

    def plot(self, rows: pd.DataFrame) -> Figure:
        found = self._differences(rows)
        labels = [self.label(name) for name in found[self.values[0]].index]
        panels = [
            (
                found[value],
                f"{self.labels.get(value, self.measured(value).short)} minus that of {self.label(self.against)}",
            )
            for value in self.values
        ]
        return self.forest(rows, labels, panels, self._panel)

    def _panel(self, axis, found: pd.DataFrame) -> None:
        significant = (found["low"] > 0) | (found["high"] < 0)
        for place, (row, filled) in enumerate(zip(found.to_dict("records"), significant, strict=True)):
            axis.plot([row["low"], row["high"]], [place, place], color="0.4", lw=0.9)
            face = "#2171b5" if filled else "white"
            axis.plot(row["difference"], place, "o", markersize=3.5, markerfacecolor=face, color="#2171b5")
        axis.axvline(0, color="0.6", lw=0.8)
        sns.despine(ax=axis)

    def _differences(self, table: pd.DataFrame) -> dict[str, pd.DataFrame]:
        """By value: `against_control`, with the labels as index, in the order of the first value."""
        control = next((label for label in table[self.rows] if written(label) == self.against), self.against)
        found = {value: against_control(table, self.rows, value, control).set_index(self.rows) for value in self.values}
        order = found[self.values[0]].sort_values("difference", ascending=False, kind="stable").index
        return {value: each.reindex(order).rename(index=written) for value, each in found.items()}

    def describe(self, table: pd.DataFrame) -> str:
        text = caption(table, [self.rows], self.values, self.note, self.missing(table, self.values), self.measures)
        kind = kind_of_spread([table], [self.rows], self.values)
        bars = f" Bars: 95 % intervals that hold together (Dunnett), spread {kind}; filled: without 0." if kind else ""
        return f"{text} Difference to {self.label(self.against)}.{bars}"

    def line(self, rows: pd.DataFrame) -> str:
        kind = kind_of_spread([rows], [self.rows], self.values)
        bars = "Simultaneous 95 % intervals, filled without 0; " if kind else ""
        return f"{bars}{seeds_said(seeds_in(rows, [self.rows], self.values))}.{self.missing(rows, self.values)}"

    def text(self, table: pd.DataFrame) -> str:
        table = self.rows_of(table)
        parts = []
        for value, found in self._differences(table).items():
            largest, unit = table[value].abs().max(), self.measured(value).unit_of_differences
            shown = found.dropna(axis=1).to_string(float_format=lambda x, near=largest: rounded(x, 1, near))
            named = f"{self.metric(value)}, {unit}" if unit else self.metric(value)
            parts.append(f"{named}\n{shown}")
        return "\n\n".join([*parts, self.describe(table)])
