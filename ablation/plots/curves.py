"""Learning curves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from ablation.plots.base import STYLE, FigureSpec, colors_of, labels_of, marker, named, write_caption
from ablation.statistics import summary


@dataclass(frozen=True, kw_only=True)
class Curves(FigureSpec):
    """One panel per value: mean over seeds against the epoch, a line for each value of a coordinate; seeds are faint.

    Drawn from the table of learning curves. The last epoch is the result; nothing is chosen on these curves.
    """

    source: ClassVar[str] = "curves"

    lines: str
    values: tuple[str, ...] = ("loss", "validation_knn")

    @property
    def axes(self) -> tuple[str, ...]:
        return (self.lines,)

    def draw(self, table: pd.DataFrame) -> Figure:
        table = self.rows_of(table)
        names = labels_of(table, self.lines)
        colors = colors_of(names)
        with plt.rc_context(STYLE):
            width = 3.4 * len(self.values) + 1.5
            figure, axs = plt.subplots(1, len(self.values), figsize=(width, 3.6), squeeze=False, layout="constrained")
            for axis, value in zip(axs[0], self.values, strict=True):
                for number, name in enumerate(names):
                    rows = table[table[self.lines] == name].dropna(subset=[value])
                    for _, seed in rows.groupby("seed"):
                        axis.plot(seed["epoch"], seed[value], color=colors[name], lw=0.5, alpha=0.4)
                    mean = summary(rows, ["epoch"], value)
                    every = max(1, len(mean) // 6)
                    axis.plot(
                        mean["epoch"], mean["mean"], color=colors[name], lw=1.4, label=str(name), marker=marker(number),
                        markersize=4, markevery=every, linestyle="-" if number % 2 == 0 else "--",
                    )  # fmt: skip
                axis.set_xlabel("epoch")
                axis.set_title(named(value))
                sns.despine(ax=axis)
            figure.legend(*axs[0][0].get_legend_handles_labels(), loc="outside right center", frameon=False)
            write_caption(figure, self._caption(table), width)
        return figure

    def _caption(self, table: pd.DataFrame) -> str:
        n = sorted(table.groupby(self.lines)["seed"].nunique().unique())
        where = "".join(f"; {axis} {value}" for axis, value in self.where.items())
        seeds = f"n = {n[0]}" if len(n) == 1 else f"n = {n[0]} to {n[-1]}"
        return f"Learning curves by {self.lines}{where}; {seeds} seeds, their mean in bold. {self.note}".strip()

    def text(self, table: pd.DataFrame) -> str:
        table = self.rows_of(table)
        last = table[table["epoch"] == table["epoch"].max()]
        columns = {named(v): summary(last, [self.lines], v).set_index(self.lines)["mean"] for v in self.values}
        shown = pd.DataFrame(columns).to_string(float_format="{:.2f}".format)
        return f"at epoch {table['epoch'].max()}\n{shown}\n\n{self._caption(table)}"
