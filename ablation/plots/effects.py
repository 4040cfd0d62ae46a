"""Main effects, interactions and Shapley values of all subsets of a few operators."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import ClassVar

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
    folded,
    kind_of_spread,
    named,
    panels,
    write_caption,
)  # fmt: skip
from ablation.specs import InvalidSpec
from ablation.statistics import factorial
from ablation.tables import rounded

TITLES = {"main": "main effect", "shapley": "Shapley value", "interaction": "interaction"}


@dataclass(frozen=True, kw_only=True)
class Effects(FigureSpec):
    """factors: coordinates that are 0 or 1. One panel per value: estimates in points with 95 % intervals."""

    without: ClassVar[tuple[str, ...]] = ("reference", "best_of")

    factors: tuple[str, ...]

    @property
    def axes(self) -> tuple[str, ...]:
        return self.factors

    def draw(self, table: pd.DataFrame) -> Figure:
        table = self.rows_of(table)
        down, across, width = panels(len(self.values), 2)
        found = [self._effects(table, value) for value in self.values]
        labels = [
            folded(f"{TITLES[k]}: {e}", 1.6, TEXT) for k, e in zip(found[0]["kind"], found[0]["effect"], strict=True)
        ]
        lines = sum(label.count("\n") + 1 for label in labels)
        with plt.rc_context(STYLE):
            height = down * (0.15 * lines + 0.7)
            figure, axs = plt.subplots(
                down, across, figsize=(width, height), squeeze=False, layout="constrained", sharey=True
            )
            for axis, value, effects in zip(axs.flat, self.values, found, strict=False):
                self._panel(axis, effects)
                axis.set_title(folded(named(value), (width - 1.5) / across - 0.1, TITLE))
            for axis in list(axs.flat)[len(self.values) :]:
                axis.axis("off")
            axs[0][0].set_yticks(range(len(labels)), labels)
            axs[0][0].set_ylim(len(labels) - 0.4, -0.6)
            figure.set_figheight(height + write_caption(figure, self._caption(table)))
        return figure

    def _panel(self, axis, effects: pd.DataFrame) -> None:
        colors = dict(zip(TITLES, sns.color_palette("colorblind", 3), strict=True))
        for number, (kind, rows) in enumerate(effects.groupby("kind", sort=False)):
            spans = rows[["low", "high"]].sub(rows["estimate"], axis=0).abs()
            axis.errorbar(
                rows["estimate"], rows.index, xerr=None if spans.isna().all(axis=None) else spans.T.to_numpy(),
                fmt="osD"[number], markersize=3, capsize=1.5, lw=0.8, capthick=0.8, color=colors[kind],
            )  # fmt: skip
        axis.axvline(0, color="0.6", lw=0.8)
        axis.set_xlabel("points")
        sns.despine(ax=axis)

    def _effects(self, table: pd.DataFrame, value: str) -> pd.DataFrame:
        """Of `factorial`, main effects first. Raises InvalidSpec where a factor is no factor or a subset is missing."""
        runs = table.dropna(subset=[*self.factors, value])
        other = [f"{f} {x}" for f in self.factors for x in runs[f].unique() if x not in ("0", "1")]
        if other:
            raise InvalidSpec(
                f"Effects.factors must be coordinates that are 0 or 1, but there is {', '.join(other[:5])}. "
                "Name others."
            )
        subsets = itertools.product((0, 1), repeat=len(self.factors))
        runs = runs.astype(dict.fromkeys(self.factors, int))
        there = set(runs[list(self.factors)].itertuples(index=False, name=None))
        missing = [subset for subset in subsets if subset not in there]
        if missing:
            raise InvalidSpec(
                f"Effects must have all {2 ** len(self.factors)} subsets of {', '.join(self.factors)}, but "
                f"{len(missing)} without {value}, such as {dict(zip(self.factors, missing[0], strict=True))}. Run the "
                "missing cells."
            )
        # factorial reads factors as attributes, which a name with a space cannot be.
        names = {factor: f"factor_{i}" for i, factor in enumerate(self.factors)}
        found = factorial(runs.rename(columns=names), tuple(names.values()), value)
        own = {name: factor for factor, name in names.items()}
        effects = [" x ".join(own[name] for name in effect.split(" x ")) for effect in found["effect"]]
        order = found["kind"].map(list(TITLES).index)
        return found.assign(effect=effects).iloc[order.argsort(kind="stable")].reset_index(drop=True)

    def _caption(self, table: pd.DataFrame) -> str:
        text = caption(table, list(self.factors), self.values, self.note, self.missing(table, self.values))
        kind = kind_of_spread(table, list(self.factors), self.values)
        return text + (
            f" All {2 ** len(self.factors)} subsets of {', '.join(self.factors)}; main effect: mean with minus mean "
            "without; interaction: half the difference of one's effect with and without the other; Shapley value: mean "
            "gain over all orders of adding." + (f" Bars: 95 % intervals, spread {kind}." if kind else "")
        )

    def text(self, table: pd.DataFrame) -> str:
        table = self.rows_of(table)
        parts = []
        for value in self.values:
            shown = self._effects(table, value)[["kind", "effect", "estimate", "low", "high"]].dropna(axis=1)
            largest = table[value].abs().max()
            text = shown.to_string(index=False, float_format=lambda x, near=largest: rounded(x, 1, near))
            parts.append(f"{named(value)}, points\n{text}")
        return "\n\n".join([*parts, self._caption(table)])
