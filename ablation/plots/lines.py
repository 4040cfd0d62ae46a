"""Accuracy against one coordinate, a line for each value of another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ablation.analysis.references import REFERENCES
from ablation.analysis.statistics import interval, spread, summary
from ablation.plots.base import FigureSpec
from ablation.plots.caption import caption, collapsed, kind_of_spread, mean_sd, seeds_in, seeds_said
from ablation.plots.columns import labels_of, scale_of
from ablation.plots.layout import (
    TEXT,
    TITLE,
    blank,
    colors_of,
    folded,
    legend_handles,
    marker,
    panels,
    widest,
    write_legend,
)
from ablation.spec import InvalidSpec, written

DASHES = ("--", ":", "-.")
ONE = " line"  # column for the single line of a figure without `lines`; no coordinate begins with a space


@dataclass(frozen=True, kw_only=True)
class Lines(FigureSpec):
    """One panel per value: mean over seeds against one coordinate, a line for each value of another, or one line.

    Bars are 95 % intervals of the mean from the spread pooled over the panel's cells; seeds are faint dots. The
    reference is dashed, in the color of its line. chance: a dotted line. log: whether x has a log scale; None: if at
    least three positive numbers span a factor of eight.
    """

    supports: ClassVar[tuple[str, ...]] = ("reference", "cmap")

    x: str
    lines: str | None = None
    chance: float | None = None
    log: bool | None = None

    @property
    def axes(self) -> tuple[str, ...]:
        return (self.x, self.lines) if self.lines else (self.x,)

    @property
    def by(self) -> list[str]:
        """The columns that identify a cell, that of the line first."""
        return [self.lines or ONE, self.x]

    def rows_of(self, table: pd.DataFrame) -> pd.DataFrame:
        rows = super().rows_of(table)
        self._places(rows)
        return rows if self.lines else rows.assign(**{ONE: ""})

    def plot(self, rows: pd.DataFrame) -> Figure:
        table = rows.dropna(subset=list(self.axes))
        names = labels_of(table, self.by[0])
        colors = colors_of(names, self.cmap)
        at, scale = self._places(table)
        down, across, width = panels(len(self.values), 2, self.width)
        height, slant = 2.3 * down, 0.0
        figure, axs = plt.subplots(down, across, figsize=(width, height), squeeze=False, layout="constrained")
        for axis, value in zip(axs.flat, self.values, strict=False):
            self._panel(axis, table, value, names, colors, at)
            self._dashed(axis, table, value, names, colors, at)
            if self.chance is not None:
                axis.axhline(self.chance, color="0.6", lw=0.8, linestyle=":")
            axis.set_title(folded(self.title(value), width / across - 0.3, TITLE))
            axis.set_xlabel(self.label(self.x))
            axis.set_ylabel(folded(self.metric(value), 2.0, TEXT))
            axis.set_xscale(scale or "linear")
            slant = self._ticks(axis, at, scale, width / across - 0.6)
            sns.despine(ax=axis)
        blank(axs, len(self.values))
        title = self.label(self.lines) if self.lines else None
        height += down * slant + write_legend(figure, self._handles(axs.flat, names), title)
        figure.set_figheight(height + self.below(figure, rows))
        return figure

    def _places(self, table: pd.DataFrame) -> tuple[dict, str]:
        """The position of each label of x, and the scale ("" if labels are no numbers). Raises InvalidSpec if log=True
        is impossible."""
        labels = labels_of(table, self.x)
        places = scale_of(labels)
        if self.log and (places is None or min(places) <= 0):
            shown = ", ".join(map(written, labels[:5]))
            raise InvalidSpec(
                f"Lines.log must be None or False if {self.x!r} has labels that are no positive numbers, but it has "
                f"{shown}. Remove log."
            )
        if places is None:
            return {label: i for i, label in enumerate(labels)}, ""
        at = dict(sorted(zip(labels, places, strict=True), key=lambda pair: pair[1]))
        wide = len(at) > 2 and min(places) > 0 and max(places) / min(places) >= 8
        return at, "log" if (wide if self.log is None else self.log) else "linear"

    def _ticks(self, axis, at: dict, scale: str, width: float) -> float:
        """Sets a tick at each label of x, or at as many numbers as fit; slants labels that would touch. Returns the
        added inches."""
        places = np.array(list(at.values()), dtype=float)
        along = np.log(places) if scale == "log" else places
        along = 0.9 * width * (along - along.min()) / max(np.ptp(along), 1e-9)
        shown = [0]
        for i in range(len(at)):
            if i and (along[i] - along[shown[-1]] >= 1.4 * TEXT / 72 or not scale):
                shown.append(i)
        labels = [folded(self.label(list(at)[i]), 1.2, TEXT) for i in shown]
        wide = np.array([widest([label], TEXT) for label in labels])
        axis.set_xticks(places[shown], labels)
        axis.minorticks_off()
        if (np.diff(along[shown]) >= (wide[:-1] + wide[1:]) / 2 + 0.08).all():
            return 0.0
        plt.setp(axis.get_xticklabels(), rotation=45, ha="right", rotation_mode="anchor")
        return 0.7 * float(wide.max())

    def _panel(self, axis, table: pd.DataFrame, value: str, names: list, colors: dict, at: dict) -> None:
        found = spread(table, self.by, value)
        log = self._places(table)[1] == "log"
        step = min(np.diff(sorted(at.values())), default=1)
        for number, name in enumerate(names):
            cells = found.cells[found.cells[self.by[0]] == name]
            cells = cells.iloc[np.argsort(cells[self.x].map(at).to_numpy(float))]
            shift = number - (len(names) - 1) / 2

            def moved(labels, shift=shift):
                places = labels.map(at).astype(float)
                return places * 1.03**shift if log else places + shift * step * 0.025

            reach = [interval(m, e, found.freedom)[1] - m for m, e in zip(cells["mean"], cells["error"], strict=True)]
            axis.errorbar(
                moved(cells[self.x]), cells["mean"], reach if found.freedom > 0 else None, label=self._named(name),
                capsize=1.5, lw=1, elinewidth=0.8, capthick=0.8, color=colors[name], marker=marker(number),
                markersize=3.5,
            )  # fmt: skip
            rows = table[table[self.by[0]] == name].dropna(subset=[value])
            beside = moved(rows[self.x], shift + 0.5)  # the interval, which would hide them
            fallen = collapsed(rows)
            axis.plot(beside[~fallen], rows[value][~fallen], "o", color=colors[name], alpha=0.6, ms=1.8, mew=0)
            axis.plot(beside[fallen], rows[value][fallen], "x", color=colors[name], ms=3.5, mew=0.8)

    def _dashed(self, axis, table: pd.DataFrame, value: str, names: list, colors: dict, at: dict) -> None:
        published = self._shared(table)
        column = None if published is None else self.published_in(value, published)
        if column is None:
            return
        by_name = {written(name): name for name in names}
        published = published if self.lines else published.assign(**{ONE: ""})
        places = {written(label): place for label, place in at.items()}
        versions = labels_of(published, "version") if "version" in published else []
        for key, rows in published.groupby([self.by[0], *(["version"] if versions else [])], sort=False):
            name = by_name[key[0]]
            axis.plot(
                rows[self.x].map(places), rows[column], linestyle=DASHES[versions.index(key[1]) % 3 if versions else 0],
                lw=0.9, color=colors[name], marker=marker(names.index(name)), markersize=3, markerfacecolor="none",
                label=", ".join((f"{self._named(name)}: {REFERENCES[self.reference].title}", *key[1:])),
            )  # fmt: skip

    def _shared(self, table: pd.DataFrame) -> pd.DataFrame | None:
        """The reference's rows at our values of both axes."""
        found = self.published(table, self.axes)
        if found is None:
            return None
        for axis in self.axes:
            found = found[found[axis].isin(set(map(written, labels_of(table, axis))))]
        return found

    def _named(self, name: str) -> str:
        return self.label(name) if self.lines else self.metric(self.values[0])

    def _handles(self, panels, names: list) -> dict:
        """Entries of the legend: our lines, and the grey dashes of each version of the reference. A single line has no
        entry."""
        drawn = legend_handles(panels)
        ours = list(map(self._named, names))
        handles = {label: drawn[label] for label in ours if self.lines or len(drawn) > 1}
        for label, line in drawn.items():
            if label not in ours:
                version = label.partition(": ")[2]
                handles[version] = Line2D([], [], color="0.4", lw=0.9, linestyle=line.get_linestyle())
        return handles

    def line(self, rows: pd.DataFrame) -> str:
        bars = "Mean, 95 % interval and seeds; " if kind_of_spread([rows], self.by, self.values) else ""
        chance = " Dotted: chance." if self.chance is not None else ""
        return f"{bars}{seeds_said(seeds_in(rows, self.by, self.values))}.{chance}{self.missing(rows, self.values)}"

    def describe(self, rows: pd.DataFrame) -> str:
        text = caption(rows, self.by, self.values, self.note, self.missing(rows, self.values), self.measures)
        kind = kind_of_spread([rows], self.by, self.values)
        bars = f" Bars: 95 % intervals of the mean, spread {kind}; dots: seeds." if kind else ""
        bars += " Crosses: seeds whose z has collapsed." if collapsed(rows).any() else ""
        shared = self._shared(rows.dropna(subset=list(self.axes)))
        axes = " and ".join(map(self.label, self.axes))
        none = f" None of its values of {axes} are among ours, so none is drawn."
        return text + bars + self.sentence() + (none if shared is not None and shared.empty else "")

    def text(self, table: pd.DataFrame) -> str:
        rows = self.rows_of(table)
        table = rows.dropna(subset=list(self.axes))
        parts = []
        for value in self.values:
            cells = summary(table, self.by, value)
            digits = self.measured(value).digits
            said = [mean_sd(m, s, digits) for m, s in zip(cells["mean"], cells["sd"], strict=True)]
            wide = pd.Series(said, pd.MultiIndex.from_frame(cells[self.by])).str.replace("± ", "±")
            wide = wide.unstack().reindex(index=labels_of(table, self.by[0]), columns=list(self._places(table)[0]))
            shown = wide.fillna("-").rename(index=written, columns=written).rename_axis(index=self.lines)
            parts.append(f"{self.metric(value)}; columns: {self.x}\n{shown.to_string()}")
        parts.append(self.describe(rows))
        return "\n\n".join(parts)
