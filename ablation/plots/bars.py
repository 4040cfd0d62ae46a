"""One bar for each value of a coordinate."""

from __future__ import annotations

from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from ablation.plots.base import (
    STYLE,
    FigureSpec,
    caption,
    decimals,
    labels_of,
    marker,
    mean_sd,
    named,
    write_caption,
)  # fmt: skip
from ablation.references import REFERENCES
from ablation.statistics import among_best, interval, spread, summary


@dataclass(frozen=True, kw_only=True)
class Bars(FigureSpec):
    """One panel per value: mean over seeds with its 95 % interval, seeds as dots; hatched where the cell is not told
    from the best (Hsu). The reference's values are open markers.
    """

    bars: str

    @property
    def axes(self) -> tuple[str, ...]:
        return (self.bars, self.best_of) if self.best_of else (self.bars,)

    def draw(self, table: pd.DataFrame) -> Figure:
        table, chosen = self.envelope(self.rows_of(table), [self.bars])
        names = labels_of(table, self.bars)
        with plt.rc_context(STYLE):
            width = 3.3 * len(self.values) + 0.8
            figure, axs = plt.subplots(
                1, len(self.values), figsize=(width, 0.28 * len(names) + 2.0), squeeze=False, layout="constrained",
                sharey=True,
            )  # fmt: skip
            for axis, value in zip(axs[0], self.values, strict=True):
                self._panel(axis, table, value, names)
                axis.set_title(named(value))
                sns.despine(ax=axis)
            axs[0][0].set_yticks(range(len(names)), [str(name) for name in names])
            axs[0][0].invert_yaxis()
            handles, labels = axs[0][0].get_legend_handles_labels()
            if handles:
                figure.legend(handles, labels, loc="outside upper right", ncols=len(handles), frameon=False)
            write_caption(figure, self._caption(table, chosen), width)
        return figure

    def _panel(self, axis, table: pd.DataFrame, value: str, names: list) -> None:
        found = spread(table, [self.bars], value)
        best = among_best(table, [self.bars], value)
        best = set(best.loc[best["among_best"].fillna(False), self.bars])
        for cell in found.cells.itertuples():
            place, name = names.index(getattr(cell, self.bars)), getattr(cell, self.bars)
            reach = interval(cell.mean, cell.error, found.freedom)[1] - cell.mean
            axis.barh(
                place, cell.mean, height=0.7, color="#9ecae1", edgecolor="0.3", linewidth=0.6,
                hatch="//" if name in best and "top" in value else None, xerr=np.nan_to_num(reach), capsize=2,
                error_kw={"lw": 0.9},
            )  # fmt: skip
            rows = table.loc[table[self.bars] == name, value].dropna()
            axis.plot(rows, [place] * len(rows), ".", color="0.2", markersize=3)
        published = self.published()
        column = None if published is None else self.published_in(value, published)
        if column is not None:
            versions = labels_of(published, "version") if "version" in published else [None]
            for number, version in enumerate(versions):
                rows = published if version is None else published[published["version"] == version]
                rows = rows[rows[self.bars].astype(str).isin(map(str, names))]
                places = [[str(n) for n in names].index(label) for label in rows[self.bars].astype(str)]
                title = REFERENCES[self.reference].title + (f": {version}" if version else "")
                axis.plot(
                    rows[column], places, marker(number + 2), markerfacecolor="white", color="#a63603", markersize=4.5,
                    label=title,
                )  # fmt: skip
        axis.set_xlim(left=min(0, table[value].min()))

    def _caption(self, table: pd.DataFrame, chosen: str) -> str:
        text = caption(table, [self.bars], self.values, self.note) + chosen
        if summary(table, [self.bars], self.values[0])["n"].max() > 1:
            text += (
                " Bars: 95 % intervals of the mean, from the pooled spread; dots: seeds; hatched: not told from the "
            )
            text += "best at 95 % (Hsu's comparison)."
        return text + self.sentence()

    def text(self, table: pd.DataFrame) -> str:
        table, chosen = self.envelope(self.rows_of(table), [self.bars])
        columns = {}
        for value in self.values:
            cells = summary(table, [self.bars], value).set_index(self.bars)
            columns[named(value)] = pd.Series(
                {i: mean_sd(r["mean"], r["sd"], decimals(value)) for i, r in cells.iterrows()}
            )
        shown = pd.DataFrame(columns).reindex(labels_of(table, self.bars)).fillna("-")
        return f"{shown.to_string()}\n\n{self._caption(table, chosen)}"
