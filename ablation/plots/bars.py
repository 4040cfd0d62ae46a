"""One bar for each value of a coordinate."""

from __future__ import annotations

from dataclasses import dataclass

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from ablation.plots.base import (
    STYLE,
    TEXT,
    TITLE,
    FigureSpec,
    caption,
    decimals,
    folded,
    inches,
    kind_of_spread,
    labels_of,
    marker,
    mean_sd,
    named,
    panels,
    write_caption,
    write_legend,
    written,
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
        whole = self.rows_of(table)
        table, _ = self.envelope(whole, [self.bars])
        names = labels_of(whole, self.bars)
        down, across, width = panels(len(self.values), 3)
        shown = [folded(name, 1.5 if across == 2 else 1.2, TEXT) for name in names]
        beside = max(inches(line, TEXT) for name in shown for line in name.splitlines()) + 0.15
        with plt.rc_context(STYLE):
            height = down * (max(0.19, 0.13 * max(name.count("\n") + 1 for name in shown)) * len(names) + 0.6)
            figure, axs = plt.subplots(
                down, across, figsize=(width, height), squeeze=False, layout="constrained", sharey=True
            )
            for axis, value in zip(axs.flat, self.values, strict=False):
                self._panel(axis, table, value, names)
                axis.set_title(folded(named(value), (width - beside) / across - 0.1, TITLE))
                sns.despine(ax=axis)
            for axis in list(axs.flat)[len(self.values) :]:
                axis.axis("off")
            axs[0][0].set_yticks(range(len(names)), shown)
            axs[0][0].set_ylim(len(names) - 0.4, -0.6)
            handles = {
                label: handle
                for axis in axs.flat
                for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
            }
            height += write_legend(figure, handles)
            figure.set_figheight(height + write_caption(figure, self._caption(whole)))
        return figure

    def _panel(self, axis, table: pd.DataFrame, value: str, names: list) -> None:
        found = spread(table, [self.bars], value)
        best = among_best(table, [self.bars], value)
        best = set(best.loc[best["among_best"].fillna(False), self.bars])
        for _, cell in found.cells.iterrows():
            name = cell[self.bars]
            place = names.index(name)
            reach = interval(cell["mean"], cell["error"], found.freedom)[1] - cell["mean"]
            axis.barh(
                place, cell["mean"], height=0.7, color="#9ecae1", edgecolor="0.3", linewidth=0.6,
                hatch="////" if name in best and "top" in value else None,
                xerr=reach if found.freedom > 0 else None, capsize=1.5, error_kw={"lw": 0.8, "capthick": 0.8},
            )  # fmt: skip
            rows = table.loc[table[self.bars] == name, value].dropna()
            axis.plot(rows, [place] * len(rows), ".", color="0.2", markersize=2.5)
        published = self.published(table, [self.bars])
        column = None if published is None else self.published_in(value, published)
        if column is not None:
            places = {written(name): place for place, name in enumerate(names)}
            published = published[published[self.bars].isin(places)]
            versions = labels_of(published, "version") if "version" in published else [None]
            for number, version in enumerate(versions):
                rows = published if version is None else published[published["version"] == version]
                title = REFERENCES[self.reference].title + (f": {version}" if version else "")
                axis.plot(
                    rows[column], rows[self.bars].map(places), marker(number + 2), markerfacecolor="white",
                    color="#a63603", markersize=4, markeredgewidth=0.8, label=title,
                )  # fmt: skip
        axis.set_xlim(left=min(0, table[value].min()))

    def _caption(self, whole: pd.DataFrame) -> str:
        self.published(whole, [self.bars])  # a reference that does not belong is none for a terminal either
        table, chosen = self.envelope(whole, [self.bars])
        text = caption(table, [self.bars], self.values, self.note, self.missing(whole, self.values)) + chosen
        kind = kind_of_spread(table, [self.bars], self.values)
        if kind:
            text += f" Bars: 95 % intervals of the mean, spread {kind}; dots: seeds"
            marked = any("top" in value for value in self.values) and table[self.bars].nunique() > 1
            text += "; hatched: not told from the best at 95 % (Hsu's comparison)." if marked else "."
        return text + self.sentence()

    def text(self, table: pd.DataFrame) -> str:
        whole = self.rows_of(table)
        table, _ = self.envelope(whole, [self.bars])
        columns = {}
        for value in self.values:
            cells = summary(table, [self.bars], value).set_index(self.bars)
            columns[named(value)] = pd.Series(
                {i: mean_sd(r["mean"], r["sd"], decimals(value)) for i, r in cells.iterrows()}
            )
        shown = pd.DataFrame(columns).reindex(labels_of(whole, self.bars)).fillna("-").rename(index=written)
        return f"{shown.to_string()}\n\n{self._caption(whole)}"
