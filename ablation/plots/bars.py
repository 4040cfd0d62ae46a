"""One bar for each value of a coordinate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from ablation.analysis.references import REFERENCES
from ablation.analysis.statistics import among_best, interval, spread, summary
from ablation.plots.base import FigureSpec
from ablation.plots.caption import HSU, caption, kind_of_spread, mean_sd, not_worse, seeds_in, seeds_said
from ablation.plots.columns import labels_of
from ablation.plots.layout import TEXT, TITLE, blank, folded, legend_handles, marker, panels, widest, write_legend
from ablation.spec import written

BEST, WORSE = "#4a90c4", "#d6e6f2"  # bars that may be the best, and other bars


@dataclass(frozen=True, kw_only=True)
class Bars(FigureSpec):
    """One panel per value: mean over seeds with its 95 % interval, seeds as dots below it; dark where the cell is not
    significantly different from the best (Hsu). The reference's values are open markers.

    within: a coordinate that groups the bars; each bar is compared with the best of its group.
    """

    supports: ClassVar[tuple[str, ...]] = ("reference", "best_of", "highest_is_best")

    bars: str
    within: str | None = None

    @property
    def by(self) -> list[str]:
        """The columns that identify a bar."""
        return [self.within, self.bars] if self.within else [self.bars]

    @property
    def axes(self) -> tuple[str, ...]:
        return (*self.by, self.best_of) if self.best_of else tuple(self.by)

    def plot(self, rows: pd.DataFrame) -> Figure:
        table, _ = self.envelope(rows, self.by)
        places, headings = self._places(rows)
        down, across, width = panels(len(self.values), 3, self.width)
        shown = [folded(self.label(bar[-1]), 1.5 if across == 2 else 1.2, TEXT) for bar in places]
        beside = widest(shown, TEXT) + 0.15
        lines = max(name.count("\n") + 1 for name in shown)
        height = down * (max(0.19, 0.13 * lines) * (len(places) + len(headings)) + 0.6)
        figure, axs = plt.subplots(
            down, across, figsize=(width, height), squeeze=False, layout="constrained", sharey=True
        )
        for axis, value in zip(axs.flat, self.values, strict=False):
            self._panel(axis, table, value, places)
            axis.set_title(folded(self.title(value), (width - beside) / across - 0.1, TITLE))
            axis.set_xlabel(folded(self.metric(value), (width - beside) / across - 0.1, TEXT))
            for heading, place in headings.items():
                axis.text(0.01, place, self.label(heading), transform=axis.get_yaxis_transform(), va="center")
            sns.despine(ax=axis)
        blank(axs, len(self.values))
        axs[0][0].set_yticks(list(places.values()), shown)
        axs[0][0].set_ylim(max(places.values()) + 0.6, -0.6)
        handles = legend_handles(axs.flat)
        if self._marked(table):
            handles[self._not_worse()] = Patch(facecolor=BEST, edgecolor="0.3", lw=0.6)
        height += write_legend(figure, handles)
        figure.set_figheight(height + self.below(figure, rows))
        return figure

    def _places(self, rows: pd.DataFrame) -> tuple[dict[tuple, int], dict[str, int]]:
        """The position of each bar, from the top, and that of the name of each group."""
        places, headings, place = {}, {}, 0
        for group in labels_of(rows, self.within) if self.within else [None]:
            of = rows if group is None else rows[rows[self.within] == group]
            if group is not None:
                headings[group] = place
                place += 1
            for label in labels_of(of, self.bars):
                places[(group, label) if self.within else (label,)] = place
                place += 1
        return places, headings

    def _groups(self, table: pd.DataFrame) -> list[pd.DataFrame]:
        """The groups of rows that are compared with one another."""
        return [of for _, of in table.groupby(self.within, sort=False)] if self.within else [table]

    def _best(self, table: pd.DataFrame, value: str) -> set[tuple]:
        """The bars that are not significantly different from the best; none if no spread is known, or if neither the
        highest nor the lowest value need be the best."""
        if not self.marks(value):
            return set()
        found = pd.concat(among_best(of, self.by, value, lowest=self.lowest(value)) for of in self._groups(table))
        best = found[found["among_best"].fillna(False)]
        return set(best[self.by].itertuples(index=False, name=None))

    def _not_worse(self) -> str:
        return not_worse([self.label(self.within)] if self.within else [])

    def _marked(self, table: pd.DataFrame) -> bool:
        several = any(of[self.bars].nunique() > 1 for of in self._groups(table))
        return several and any(self._best(table, value) for value in self.values)

    def _panel(self, axis, table: pd.DataFrame, value: str, places: dict[tuple, int]) -> None:
        best = self._best(table, value)
        for group in self._groups(table):
            found = spread(group, self.by, value)
            for _, cell in found.cells.iterrows():
                bar = tuple(cell[axis_name] for axis_name in self.by)
                reach = interval(cell["mean"], cell["error"], found.freedom)[1] - cell["mean"]
                axis.barh(
                    places[bar], cell["mean"], height=0.7, color=BEST if bar in best else WORSE, edgecolor="0.3",
                    linewidth=0.6, xerr=reach if found.freedom > 0 else None, capsize=1.5,
                    error_kw={"lw": 0.8, "capthick": 0.8},
                )  # fmt: skip
                rows = group[(group[self.by] == list(bar)).all(axis=1)][value].dropna()
                beside = places[bar] + (0.24 if found.freedom > 0 else 0)  # below the interval
                axis.plot(rows, [beside] * len(rows), ".", color="0.2", markersize=2.5)
        self._published_in(axis, table, value, places)
        axis.set_xlim(left=min(0, table[value].min()))

    def _published_in(self, axis, table: pd.DataFrame, value: str, places: dict[tuple, int]) -> None:
        published = self.published(table, self.by)
        column = None if published is None else self.published_in(value, published)
        if column is None:
            return
        at = {tuple(map(written, bar)): place for bar, place in places.items()}
        published = published.assign(
            place=[at.get(bar) for bar in published[self.by].itertuples(index=False, name=None)]
        )
        published = published.dropna(subset=["place"])
        versions = labels_of(published, "version") if "version" in published else [None]
        for number, version in enumerate(versions):
            rows = published if version is None else published[published["version"] == version]
            title = REFERENCES[self.reference].title + (f": {version}" if version else "")
            axis.plot(
                rows[column], rows["place"], marker(number + 2), markerfacecolor="white", color="#a63603", markersize=4,
                markeredgewidth=0.8, label=title,
            )  # fmt: skip

    def describe(self, rows: pd.DataFrame) -> str:
        self.published(rows, self.by)  # refuses a reference that does not fit, for a terminal too
        table, chosen = self.envelope(rows, self.by)
        text = caption(table, self.by, self.values, self.note, self.missing(rows, self.values), self.measures) + chosen
        kind = kind_of_spread(self._groups(table), self.by, self.values)
        if kind:
            text += f" Bars: 95 % intervals of the mean, spread {kind}; dots: seeds"
            text += f"; dark: {self._not_worse()} {HSU}." if self._marked(table) else "."
        return text + self.sentence()

    def line(self, rows: pd.DataFrame) -> str:
        table, _ = self.envelope(rows, self.by)
        intervals = (
            "Mean, 95 % interval and seeds; " if kind_of_spread(self._groups(table), self.by, self.values) else ""
        )
        return f"{intervals}{seeds_said(seeds_in(table, self.by, self.values))}.{self.missing(rows, self.values)}"

    def text(self, table: pd.DataFrame) -> str:
        rows = self.rows_of(table)
        table, _ = self.envelope(rows, self.by)
        columns = {}
        for value in self.values:
            cells = summary(table, self.by, value).set_index(self.by)
            digits = self.measured(value).digits
            columns[self.metric(value)] = pd.Series(
                {i: mean_sd(r["mean"], r["sd"], digits) for i, r in cells.iterrows()}
            )
        places = [bar if self.within else bar[0] for bar in self._places(rows)[0]]
        shown = pd.DataFrame(columns).reindex(places).fillna("-").rename(index=written)
        return f"{shown.to_string()}\n\n{self.describe(rows)}"
