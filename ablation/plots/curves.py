"""Learning curves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ablation.analysis.statistics import summary
from ablation.analysis.tables import rounded
from ablation.plots.base import FigureSpec
from ablation.plots.caption import seeds_said
from ablation.plots.columns import labels_of
from ablation.plots.layout import TEXT, TITLE, blank, colors_of, folded, legend_handles, marker, panels, write_legend
from ablation.spec import written


@dataclass(frozen=True, kw_only=True)
class Curves(FigureSpec):
    """One panel per value: mean over seeds against the epoch, a line for each value of a coordinate, faint seeds.

    x: "epoch", or "encoded_images", the views that passed through the encoder, to compare methods with few and with
    many views of an image. The source is the table of learning curves. The last epoch is the result; nothing is chosen
    on these curves.
    """

    supports: ClassVar[tuple[str, ...]] = ("cmap",)
    computed_with: ClassVar[tuple[str, ...]] = ("epoch", "encoded_images")

    source: str = "curves"

    lines: str
    values: tuple[str, ...] = ("loss", "validation_knn")
    x: str = "epoch"

    def __post_init__(self):
        super().__post_init__()
        self.require_choice("x", ("epoch", "encoded_images"))

    @property
    def axes(self) -> tuple[str, ...]:
        return (self.lines,)

    def plot(self, rows: pd.DataFrame) -> Figure:
        names = labels_of(rows, self.lines)
        colors = colors_of(names, self.cmap)
        down, across, width = panels(len(self.values), 2, self.width)
        height = 2.3 * down
        figure, axs = plt.subplots(down, across, figsize=(width, height), squeeze=False, layout="constrained")
        for axis, value in zip(axs.flat, self.values, strict=False):
            for number, name in enumerate(names):
                of = rows[rows[self.lines] == name].dropna(subset=[value])
                for _, seed in of.groupby("seed"):
                    axis.plot(seed[self.x], seed[value], color=colors[name], lw=0.5, alpha=0.4)
                mean = summary(of, [self.x], value)
                axis.plot(
                    mean[self.x], mean["mean"], color=colors[name], lw=1.2, label=self.label(name),
                    marker=marker(number), markersize=3, markevery=max(1, len(mean) // 6),
                    linestyle="-" if number % 2 == 0 else "--",
                )  # fmt: skip
            axis.set_xlabel(self.metric(self.x))
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
            axis.set_xscale("log" if self.x == "encoded_images" else "linear")
            axis.set_ylabel(folded(self.metric(value), 2.0, TEXT))
            axis.set_title(folded(self.title(value), width / across - 0.3, TITLE))
            sns.despine(ax=axis)
        blank(axs, len(self.values))
        height += write_legend(figure, legend_handles(axs.flat[:1]), self.label(self.lines))
        figure.set_figheight(height + self.below(figure, rows))
        return figure

    def line(self, rows: pd.DataFrame) -> str:
        n = sorted(rows.groupby(self.lines)["seed"].nunique().unique())
        return f"{seeds_said(n)}{', their mean in bold' if n[-1] > 1 else ''}."

    def describe(self, rows: pd.DataFrame) -> str:
        where = "".join(f"; {axis} {written(value)}" for axis, value in self.where.items())
        values = ", ".join(map(self.metric, self.values))
        line = self.line(rows)
        return f"Learning curves by {self.label(self.lines)}{where}: {values}; {line} {self.note}".strip()

    def text(self, table: pd.DataFrame) -> str:
        rows = self.rows_of(table)
        last = rows[rows["epoch"] == rows["epoch"].max()]
        columns = {self.metric(v): summary(last, [self.lines], v).set_index(self.lines)["mean"] for v in self.values}
        shown = pd.DataFrame(columns).rename(index=written).to_string(float_format=lambda x: rounded(x, 2))
        return f"at epoch {rows['epoch'].max():g}\n{shown}\n\n{self.describe(rows)}"
