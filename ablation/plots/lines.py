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

from ablation.plots.base import (
    STYLE,
    TEXT,
    TITLE,
    FigureSpec,
    caption,
    colors_of,
    decimals,
    folded,
    inches,
    kind_of_spread,
    labels_of,
    marker,
    mean_sd,
    named,
    panels,
    scale_of,
    write_caption,
    write_legend,
    written,
)  # fmt: skip
from ablation.references import REFERENCES
from ablation.statistics import interval, spread, summary

DASHES = ("--", ":", "-.")


@dataclass(frozen=True, kw_only=True)
class Lines(FigureSpec):
    """One panel per value: mean over seeds against one coordinate, a line for each value of another.

    Bars are 95 % intervals of the mean from the spread pooled over the panel's cells; seeds are faint dots. The
    reference is dashed, in the color of its line. chance: a dotted line.
    """

    without: ClassVar[tuple[str, ...]] = ("best_of",)

    x: str
    lines: str
    chance: float | None = None

    @property
    def axes(self) -> tuple[str, str]:
        return self.x, self.lines

    def draw(self, table: pd.DataFrame) -> Figure:
        whole = self.rows_of(table)
        table = whole.dropna(subset=list(self.axes))
        names = labels_of(table, self.lines)
        colors = colors_of(names)
        at, scale = self._places(table)
        down, across, width = panels(len(self.values), 2)
        with plt.rc_context(STYLE):
            height, slant = 2.3 * down, 0.0
            figure, axs = plt.subplots(down, across, figsize=(width, height), squeeze=False, layout="constrained")
            for axis, value in zip(axs.flat, self.values, strict=False):
                self._panel(axis, table, value, names, colors, at)
                self._dashed(axis, table, value, names, colors, at)
                if self.chance is not None:
                    axis.axhline(self.chance, color="0.6", lw=0.8, linestyle=":")
                axis.set_title(folded(named(value), width / across - 0.3, TITLE))
                axis.set_xlabel(self.x)
                axis.set_ylabel("%" if "top" in value else "")
                axis.set_xscale(scale or "linear")
                slant = self._ticks(axis, at, scale, width / across - 0.6)
                sns.despine(ax=axis)
            for axis in list(axs.flat)[len(self.values) :]:
                axis.axis("off")
            height += down * slant + write_legend(figure, self._handles(axs.flat, names), self.lines)
            figure.set_figheight(height + write_caption(figure, self._caption(whole)))
        return figure

    def _places(self, table: pd.DataFrame) -> tuple[dict, str]:
        """Where each label of x lies, and the scale, "" for labels that are no numbers; numbers that are spread over a
        factor of eight or more lie on a log scale."""
        labels = labels_of(table, self.x)
        places = scale_of(labels)
        if places is None:
            return {label: i for i, label in enumerate(labels)}, ""
        at = dict(sorted(zip(labels, places, strict=True), key=lambda pair: pair[1]))
        wide = len(at) > 2 and min(places) > 0 and max(places) / min(places) >= 8
        return at, "log" if wide else "linear"

    def _ticks(self, axis, at: dict, scale: str, width: float) -> float:
        """At each label of x, of many numbers only at as many as fit; aslant where they would touch. Returns the
        inches that this takes."""
        places = np.array(list(at.values()), dtype=float)
        along = np.log(places) if scale == "log" else places
        along = 0.9 * width * (along - along.min()) / max(np.ptp(along), 1e-9)
        shown = [0]
        for i in range(len(at)):
            if i and (along[i] - along[shown[-1]] >= 1.4 * TEXT / 72 or not scale):
                shown.append(i)
        labels = [folded(list(at)[i], 1.2, TEXT) for i in shown]
        wide = np.array([max(inches(line, TEXT) for line in label.split("\n")) for label in labels])
        axis.set_xticks(places[shown], labels)
        axis.minorticks_off()
        if (np.diff(along[shown]) >= (wide[:-1] + wide[1:]) / 2 + 0.08).all():
            return 0.0
        plt.setp(axis.get_xticklabels(), rotation=45, ha="right", rotation_mode="anchor")
        return 0.7 * float(wide.max())

    def _panel(self, axis, table: pd.DataFrame, value: str, names: list, colors: dict, at: dict) -> None:
        found = spread(table, [self.lines, self.x], value)
        log = self._places(table)[1] == "log"
        step = min(np.diff(sorted(at.values())), default=1)
        for number, name in enumerate(names):
            cells = found.cells[found.cells[self.lines] == name]
            cells = cells.iloc[np.argsort(cells[self.x].map(at).to_numpy(float))]
            shift = number - (len(names) - 1) / 2

            def moved(labels, shift=shift):
                places = labels.map(at).astype(float)
                return places * (1 + 0.03 * shift) if log else places + shift * step * 0.025

            reach = [interval(m, e, found.freedom)[1] - m for m, e in zip(cells["mean"], cells["error"], strict=True)]
            axis.errorbar(
                moved(cells[self.x]), cells["mean"], reach if found.freedom > 0 else None, label=written(name),
                capsize=1.5, lw=1, elinewidth=0.8, capthick=0.8, color=colors[name], marker=marker(number),
                markersize=3.5,
            )  # fmt: skip
            rows = table[table[self.lines] == name].dropna(subset=[value])
            axis.plot(moved(rows[self.x]), rows[value], ".", color=colors[name], alpha=0.3, markersize=2.5)

    def _dashed(self, axis, table: pd.DataFrame, value: str, names: list, colors: dict, at: dict) -> None:
        published = self._shared(table)
        column = None if published is None else self.published_in(value, published)
        if column is None:
            return
        by_name = {written(name): name for name in names}
        places = {written(label): place for label, place in at.items()}
        versions = labels_of(published, "version") if "version" in published else []
        for key, rows in published.groupby([self.lines, *(["version"] if versions else [])], sort=False):
            name = by_name[key[0]]
            axis.plot(
                rows[self.x].map(places), rows[column], linestyle=DASHES[versions.index(key[1]) % 3 if versions else 0],
                lw=0.9, color=colors[name], marker=marker(names.index(name)), markersize=3, markerfacecolor="none",
                label=", ".join((f"{key[0]}: {REFERENCES[self.reference].title}", *key[1:])),
            )  # fmt: skip

    def _shared(self, table: pd.DataFrame) -> pd.DataFrame | None:
        """The reference's rows at our values of both axes."""
        found = self.published(table, self.axes)
        if found is None:
            return None
        for axis in self.axes:
            found = found[found[axis].isin(set(map(written, labels_of(table, axis))))]
        return found

    def _handles(self, panels, names: list) -> dict:
        """For the legend: our lines, and for each version of the reference its dashes, in grey."""
        drawn = {}
        for axis in panels:
            drawn |= dict(zip(*axis.get_legend_handles_labels()[::-1], strict=True))
        handles = {label: drawn[label] for label in map(written, names)}
        for label, line in drawn.items():
            if label not in handles:
                version = label.partition(": ")[2]
                handles[version] = Line2D([], [], color="0.4", lw=0.9, linestyle=line.get_linestyle())
        return handles

    def _caption(self, table: pd.DataFrame) -> str:
        text = caption(table, list(self.axes), self.values, self.note, self.missing(table, self.values))
        kind = kind_of_spread(table, list(self.axes), self.values)
        bars = f" Bars: 95 % intervals of the mean, spread {kind}; dots: seeds." if kind else ""
        shared = self._shared(table.dropna(subset=list(self.axes)))
        none = f" None of its values of {self.x} and {self.lines} are among ours, so none is drawn."
        return text + bars + self.sentence() + (none if shared is not None and shared.empty else "")

    def text(self, table: pd.DataFrame) -> str:
        whole = self.rows_of(table)
        table = whole.dropna(subset=list(self.axes))
        parts = []
        for value in self.values:
            cells = summary(table, [self.lines, self.x], value)
            said = [mean_sd(m, s, decimals(value)) for m, s in zip(cells["mean"], cells["sd"], strict=True)]
            wide = pd.Series(said, pd.MultiIndex.from_frame(cells[[self.lines, self.x]])).str.replace("± ", "±")
            wide = wide.unstack().reindex(index=labels_of(table, self.lines), columns=list(self._places(table)[0]))
            shown = wide.fillna("-").rename(index=written, columns=written)
            parts.append(f"{named(value)}; columns: {self.x}\n{shown.to_string()}")
        parts.append(self._caption(whole))
        return "\n\n".join(parts)
