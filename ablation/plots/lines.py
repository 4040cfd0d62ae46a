"""Accuracy against one coordinate, a line for each value of another."""

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
    colors_of,
    decimals,
    labels_of,
    marker,
    mean_sd,
    named,
    write_caption,
)  # fmt: skip
from ablation.references import REFERENCES
from ablation.statistics import interval, spread, summary


@dataclass(frozen=True, kw_only=True)
class Lines(FigureSpec):
    """One panel per value: mean over seeds against one coordinate, a line for each value of another.

    Bars are 95 % intervals of the mean from the spread pooled over the panel's cells; seeds are faint dots. The
    reference is dashed, in the color of its line. chance: a dotted line.
    """

    x: str
    lines: str
    chance: float | None = None

    @property
    def axes(self) -> tuple[str, str]:
        return self.x, self.lines

    def draw(self, table: pd.DataFrame) -> Figure:
        table = self.rows_of(table).dropna(subset=list(self.axes))
        names = labels_of(table, self.lines)
        colors = colors_of(names)
        at, scale = self._places(table)
        with plt.rc_context(STYLE):
            width = 3.4 * min(len(self.values), 2) + 1.5
            height = 3.6 * -(-len(self.values) // 2) + 0.7
            figure, axs = plt.subplots(
                -(-len(self.values) // 2), min(len(self.values), 2), figsize=(width, height), squeeze=False,
                layout="constrained",
            )  # fmt: skip
            for axis, value in zip(axs.flat, self.values, strict=False):
                self._panel(axis, table, value, names, colors, at)
                self._dashed(axis, value, names, colors, at)
                if self.chance is not None:
                    axis.axhline(self.chance, color="0.6", lw=0.8, linestyle=":")
                axis.set_title(named(value))
                axis.set_xlabel(self.x)
                axis.set_ylabel("%" if "top" in value else "")
                axis.set_xscale(scale)
                axis.set_xticks(list(at.values()), list(map(str, at)))
                axis.minorticks_off()
                sns.despine(ax=axis)
            for axis in list(axs.flat)[len(self.values) :]:
                axis.axis("off")
            handles = {
                label: handle
                for axis in axs.flat
                for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
            }
            figure.legend(handles.values(), handles.keys(), loc="outside right center", frameon=False, title=self.lines)
            write_caption(figure, self._caption(table), width)
        return figure

    def _places(self, table: pd.DataFrame) -> tuple[dict, str]:
        """Where each label of x lies; numbers that are spread over a factor of eight or more lie on a log scale."""
        labels = labels_of(table, self.x)
        if not pd.api.types.is_numeric_dtype(table[self.x]):
            return {label: i for i, label in enumerate(labels)}, "linear"
        labels = sorted(labels)
        wide = len(labels) > 2 and labels[0] > 0 and labels[-1] / labels[0] >= 8
        return {label: float(label) for label in labels}, "log" if wide else "linear"

    def _panel(self, axis, table: pd.DataFrame, value: str, names: list, colors: dict, at: dict) -> None:
        found = spread(table, [self.lines, self.x], value)
        log = self._places(table)[1] == "log"
        step = min(np.diff(sorted(at.values())), default=1)
        for number, name in enumerate(names):
            cells = found.cells[found.cells[self.lines] == name]
            cells = cells.assign(place=cells[self.x].map(at).astype(float)).sort_values("place")
            shift = number - (len(names) - 1) / 2

            def moved(place, shift=shift):
                return place * (1 + 0.03 * shift) if log else place + shift * step * 0.025

            reach = [interval(m, e, found.freedom)[1] - m for m, e in zip(cells["mean"], cells["error"], strict=True)]
            axis.errorbar(
                moved(cells["place"]), cells["mean"], np.nan_to_num(reach), label=str(name), capsize=2, lw=1.2,
                color=colors[name], marker=marker(number), markersize=4,
            )  # fmt: skip
            rows = table[table[self.lines] == name].dropna(subset=[value])
            axis.plot(
                moved(rows[self.x].map(at).astype(float)), rows[value], ".", color=colors[name], alpha=0.3, markersize=3
            )

    def _dashed(self, axis, value: str, names: list, colors: dict, at: dict) -> None:
        published = self.published()
        column = None if published is None else self.published_in(value, published)
        if column is None:
            return
        by_name = {str(name): name for name in names}
        groups = [self.lines, *(["version"] if "version" in published else [])]
        places = {str(label): place for label, place in at.items()}
        versions = labels_of(published, "version") if "version" in published else []
        for key, rows in published.groupby(groups, sort=False):
            name = by_name.get(str(key[0]))
            rows = rows.assign(place=rows[self.x].astype(str).map(places)).dropna(subset=["place"])
            if name is None or rows.empty:
                continue
            version = f", {key[1]}" if len(key) > 1 else ""
            axis.plot(
                rows["place"], rows[column], linestyle=("--", ":")[versions.index(key[1]) if versions else 0], lw=1,
                color=colors[name], marker=marker(names.index(name)), markersize=3, markerfacecolor="none",
                label=f"{key[0]}: {REFERENCES[self.reference].title}{version}",
            )  # fmt: skip

    def _caption(self, table: pd.DataFrame) -> str:
        text = caption(table, list(self.axes), self.values, self.note)
        n = summary(table, list(self.axes), self.values[0])["n"].max()
        bars = " Bars: 95 % intervals of the mean, from the pooled spread; dots: seeds." if n > 1 else ""
        published = self.published()
        if published is None:
            return text + bars
        shared = [
            set(published[axis].astype(str)) & set(map(str, labels_of(table, axis))) for axis in (self.x, self.lines)
        ]
        none = f" None of its values of {self.x} and {self.lines} are among ours, so none is drawn."
        return text + bars + self.sentence() + ("" if all(shared) else none)

    def text(self, table: pd.DataFrame) -> str:
        table = self.rows_of(table).dropna(subset=list(self.axes))
        parts = []
        for value in self.values:
            cells = summary(table, [self.lines, self.x], value)
            cells["shown"] = [
                mean_sd(m, s, decimals(value)).replace("± ", "±")
                for m, s in zip(cells["mean"], cells["sd"], strict=True)
            ]
            wide = cells.pivot(index=self.lines, columns=self.x, values="shown")
            wide = wide.reindex(index=labels_of(table, self.lines), columns=list(self._places(table)[0])).fillna("-")
            parts.append(f"{named(value)}; columns: {self.x}\n{wide.to_string()}")
        parts.append(self._caption(table))
        return "\n\n".join(parts)
