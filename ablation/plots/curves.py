"""Learning curves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ablation.plots.base import (
    STYLE,
    TITLE,
    FigureSpec,
    colors_of,
    folded,
    labels_of,
    marker,
    named,
    panels,
    write_caption,
    write_legend,
    written,
)  # fmt: skip
from ablation.statistics import summary
from ablation.tables import rounded


@dataclass(frozen=True, kw_only=True)
class Curves(FigureSpec):
    """One panel per value: mean over seeds against the epoch, a line for each value of a coordinate; seeds are faint.

    Drawn from the table of learning curves. The last epoch is the result; nothing is chosen on these curves.
    """

    without: ClassVar[tuple[str, ...]] = ("reference", "best_of")
    computed_with: ClassVar[tuple[str, ...]] = ("epoch",)

    source: str = "curves"

    lines: str
    values: tuple[str, ...] = ("loss", "validation_knn")

    @property
    def axes(self) -> tuple[str, ...]:
        return (self.lines,)

    def draw(self, table: pd.DataFrame) -> Figure:
        table = self.rows_of(table)
        names = labels_of(table, self.lines)
        colors = colors_of(names)
        down, across, width = panels(len(self.values), 2)
        with plt.rc_context(STYLE):
            height = 2.3 * down
            figure, axs = plt.subplots(down, across, figsize=(width, height), squeeze=False, layout="constrained")
            for axis, value in zip(axs.flat, self.values, strict=False):
                for number, name in enumerate(names):
                    rows = table[table[self.lines] == name].dropna(subset=[value])
                    for _, seed in rows.groupby("seed"):
                        axis.plot(seed["epoch"], seed[value], color=colors[name], lw=0.5, alpha=0.4)
                    mean = summary(rows, ["epoch"], value)
                    every = max(1, len(mean) // 6)
                    axis.plot(
                        mean["epoch"], mean["mean"], color=colors[name], lw=1.2, label=written(name),
                        marker=marker(number), markersize=3, markevery=every,
                        linestyle="-" if number % 2 == 0 else "--",
                    )  # fmt: skip
                axis.set_xlabel("epoch")
                axis.xaxis.set_major_locator(MaxNLocator(integer=True))
                axis.set_title(folded(named(value), width / across - 0.3, TITLE))
                sns.despine(ax=axis)
            for axis in list(axs.flat)[len(self.values) :]:
                axis.axis("off")
            handles = dict(zip(*axs[0][0].get_legend_handles_labels()[::-1], strict=True))
            height += write_legend(figure, handles, self.lines)
            figure.set_figheight(height + write_caption(figure, self._caption(table)))
        return figure

    def _caption(self, table: pd.DataFrame) -> str:
        n = sorted(table.groupby(self.lines)["seed"].nunique().unique())
        where = "".join(f"; {axis} {written(value)}" for axis, value in self.where.items())
        seeds = f"n = {n[0]}" if len(n) == 1 else f"n = {n[0]} to {n[-1]}"
        seeds += " seeds, their mean in bold" if n[-1] > 1 else ", one seed"
        return f"Learning curves by {self.lines}{where}; {seeds}. {self.note}".strip()

    def text(self, table: pd.DataFrame) -> str:
        table = self.rows_of(table)
        last = table[table["epoch"] == table["epoch"].max()]
        columns = {named(v): summary(last, [self.lines], v).set_index(self.lines)["mean"] for v in self.values}
        shown = pd.DataFrame(columns).rename(index=written).to_string(float_format=lambda x: rounded(x, 2))
        return f"at epoch {table['epoch'].max():g}\n{shown}\n\n{self._caption(table)}"
