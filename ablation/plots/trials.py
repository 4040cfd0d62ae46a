"""Figures of a search: history, importance of its parameters, value against them, agreement of early epochs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator

from ablation.analysis.statistics import early_agreement
from ablation.analysis.tables import NUMBER, numbers
from ablation.plots.bars import Bars
from ablation.plots.base import FigureSpec
from ablation.plots.columns import labels_of
from ablation.plots.layout import (
    COLUMN,
    TEXT,
    TITLE,
    blank,
    colors_of,
    folded,
    legend_handles,
    marker,
    panels,
    write_legend,
)
from ablation.plots.lines import Lines
from ablation.spec import HEADLINE, InvalidSpec, Metric, written
from ablation.spec.metric import BEST_TRIALS, LOG_PARAMETER, PARAMETER
from ablation.system.terminal import many

SAMPLERS = {"tpe": "TPE", "random": "random search"}


def on_test_images(metric: str) -> str:
    """The test-image column of a metric on validation images."""
    return Metric.of(metric).on_split("test").name


def figures_of(table: pd.DataFrame, tested: Iterable[str] = HEADLINE) -> dict[str, FigureSpec]:
    """The figures of a search by name, from the table of its trials. tested: the columns of the comparison; its
    figure shows the search's own metrics first, then the available headline metrics."""
    several = "case" in table
    own = map(on_test_images, table["metric"].dropna().unique()) if "metric" in table else ()
    values = tuple(dict.fromkeys([*own, *(value for value in HEADLINE if value in set(tested))]))
    kind = Lines(source="test", x="case", lines="settings") if several else Bars(source="test", bars="settings")
    test = kind.replace(values=values)
    figures: dict[str, FigureSpec] = {"history": History(), "slice": Slice(), "rungs": Rungs(), "test": test}
    if len(parameters(table).columns) > 1:
        figures |= {"importance": Importance(), "contour": Contour()}
    return figures


def parameters(table: pd.DataFrame) -> pd.DataFrame:
    """The columns of suggested parameters, without their prefix."""
    columns = [column for column in table if column.startswith((PARAMETER, LOG_PARAMETER))]
    found = table[columns].dropna(axis=1, how="all")
    found = numbers(found, [c for c in found if all(NUMBER.fullmatch(str(each)) for each in found[c].dropna())])
    return found.rename(columns=lambda column: column.removeprefix("log_").removeprefix(PARAMETER))


def by_case(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The rows of each case; a single search has the case ""."""
    if "case" not in table:
        return [("", table)]
    return [(str(case), table[table["case"] == case]) for case in labels_of(table, "case")]


def _number(sampler: str) -> int:
    """The index of a sampler's marker and dashes, the same in every figure."""
    return list(SAMPLERS).index(sampler)


@dataclass(frozen=True, kw_only=True)
class _OfTrials(FigureSpec):
    """Drawn from the table of a search's trials. more: a sentence of the caption."""

    supports: ClassVar[tuple[str, ...]] = ("cmap",)
    axes: ClassVar[tuple[str, ...]] = ()
    computed_with: ClassVar[tuple[str, ...]] = ("trial", "sd", "n")
    more: ClassVar[str] = ""

    values: tuple[str, ...] = ("value",)

    def finished(self, rows: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
        return by_case(rows.dropna(subset=["value"]))

    def _colors(self) -> dict:
        return colors_of(list(SAMPLERS), self.cmap)

    def _value(self, rows: pd.DataFrame) -> str:
        """The name of a trial's value."""
        metrics = rows["metric"].dropna().unique() if "metric" in rows else []
        return " or ".join(map(self.metric, metrics)) or "value"

    def _lowest(self, rows: pd.DataFrame) -> bool:
        """Whether a trial is the better, the lower its value."""
        metrics = rows["metric"].dropna().unique() if "metric" in rows else []
        return any(self.measured(metric).lowest_is_best for metric in metrics)

    def _best(self, rows: pd.DataFrame) -> pd.Series:
        """The best trial; the first of equal ones, as in `search.study.best`."""
        return rows.loc[rows["value"].idxmin() if self._lowest(rows) else rows["value"].idxmax()]

    def _complete(self, figure: Figure, height: float, rows: pd.DataFrame) -> Figure:
        """Adds legend and caption, and sets the height."""
        height += write_legend(figure, legend_handles(figure.axes))
        figure.set_figheight(height + self.below(figure, rows))
        return figure

    def _seeds(self, rows: pd.DataFrame) -> str:
        return f"a trial's value is the mean over {many(int(numbers(rows, ['n'])['n'].max()), 'seed')}"

    def line(self, rows: pd.DataFrame) -> str:
        return f"{many(int(rows['value'].notna().sum()), 'trial')}; {self._seeds(rows)}."

    def describe(self, rows: pd.DataFrame) -> str:
        counts = rows.groupby("sampler", sort=False)["state"].value_counts()
        trials = ", ".join(f"{count} {state} ({SAMPLERS[sampler]})" for (sampler, state), count in counts.items())
        return f"Trials: {trials}; {self._seeds(rows)} of {self._value(rows)}. {self.said_of(rows)} {self.note}".strip()

    def said_of(self, rows: pd.DataFrame) -> str:
        """A sentence of the caption on this kind of figure."""
        return self.more

    def text(self, table: pd.DataFrame) -> str:
        """Nothing beside the history's."""
        return ""


@dataclass(frozen=True, kw_only=True)
class History(_OfTrials):
    """The trials in order, and the best so far; a panel for each case."""

    def plot(self, rows: pd.DataFrame) -> Figure:
        cases, colors = self.finished(rows), self._colors()
        down, across, width = panels(len(cases), 2, self.width)
        figure, axs = plt.subplots(down, across, figsize=(width, 2.1 * down), squeeze=False, layout="constrained")
        for axis, (case, each) in zip(axs.flat, cases, strict=False):
            for sampler, of in each.sort_values("trial").groupby("sampler", sort=False):
                number, at = _number(sampler), of["trial"]
                axis.plot(at, of["value"], marker(number), markersize=3, alpha=0.5, color=colors[sampler])
                best = of["value"].cummin() if self._lowest(each) else of["value"].cummax()
                axis.step(
                    at, best, where="post", lw=1.2, color=colors[sampler],
                    linestyle=("-", "--")[number], label=f"best so far, {SAMPLERS[sampler]}",
                )  # fmt: skip
            axis.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
            _finish(axis, self.label(case), self.label("trial"), self._value(each), width / across)
        blank(axs, len(cases))
        return self._complete(figure, 2.1 * down, rows)

    def said_of(self, rows: pd.DataFrame) -> str:
        most = "smallest of noisy values, so too low" if self._lowest(rows) else "largest of noisy values, so too high"
        return f"The best so far is the {most}; the comparison on test images is not."

    def text(self, table: pd.DataFrame) -> str:
        lines = []
        for case, rows in self.finished(self.rows_of(table)):
            for sampler in labels_of(rows, "sampler"):
                of = rows[rows["sampler"] == sampler].sort_values("trial")
                best = self._best(of)
                found = ", ".join(
                    f"{n} {written(v)}" for n, v in parameters(rows.loc[[best.name]]).iloc[0].dropna().items()
                )
                lines.append(f"{case + ': ' if case else ''}{SAMPLERS[sampler]}: {best['value']:.2f} with {found}")
        return "\n".join(lines)


@dataclass(frozen=True, kw_only=True)
class Slice(_OfTrials):
    """The value against each parameter, for each case; each choice has a column of dots."""

    more: ClassVar[str] = "All other parameters vary too."

    def plot(self, rows: pd.DataFrame) -> Figure:
        colors = self._colors()
        shown = [
            (case, name, each.assign(x=parameters(each)[name]).dropna(subset=["x"]))
            for case, each in self.finished(rows)
            for name in parameters(each)
        ]
        down, across, width = panels(len(shown), 3, self.width)
        figure, axs = plt.subplots(down, across, figsize=(width, 1.8 * down), squeeze=False, layout="constrained")
        for axis, (case, name, each) in zip(axs.flat, shown, strict=False):
            numeric = pd.api.types.is_numeric_dtype(each["x"]) and not pd.api.types.is_bool_dtype(each["x"])
            for sampler, of in each.groupby("sampler", sort=False):
                axis.plot(
                    of["x"] if numeric else of["x"].astype(str), of["value"], marker(_number(sampler)), markersize=3,
                    alpha=0.6, color=colors[sampler], label=SAMPLERS[sampler],
                )  # fmt: skip
            if LOG_PARAMETER + name in each:
                axis.set_xscale("log")
                axis.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
                axis.minorticks_off()
            _finish(axis, self.label(case), self.label(name), self._value(each), width / across)
        blank(axs, len(shown))
        return self._complete(figure, 1.8 * down, rows)


@dataclass(frozen=True, kw_only=True)
class Contour(_OfTrials):
    """The value over the two numeric parameters that correlate most with it, for the first case with two; colored from
    ten trials on, since fewer give a meaningless surface."""

    more: ClassVar[str] = "Color: interpolated between the trials, which differ in their other parameters too."

    def plot(self, rows: pd.DataFrame) -> Figure:
        case, each = next(((c, each) for c, each in self.finished(rows) if len(_numbers(each)) > 1), (None, None))
        if each is None:
            raise InvalidSpec("Contour must find two numeric parameters, but the search has fewer. Remove the figure.")
        first, second = _numbers(each)[:2]
        of = each.assign(x=parameters(each)[first], y=parameters(each)[second]).dropna(subset=["x", "y"])
        width = self.width or COLUMN
        figure, axis = plt.subplots(figsize=(width, 2.8), layout="constrained")
        if len(of) >= 10 and of["x"].nunique() > 2 and of["y"].nunique() > 2:
            hill = axis.tricontourf(of["x"], of["y"], of["value"], levels=8, cmap=self.cmap or "Blues")
            figure.colorbar(hill, ax=axis, label=folded(self._value(each), 2.4, TEXT))
        for sampler, points in of.groupby("sampler", sort=False):
            axis.plot(
                points["x"], points["y"], marker(_number(sampler)), markersize=3, color="black",
                markerfacecolor="white", clip_on=False, zorder=3, label=SAMPLERS[sampler],
            )  # fmt: skip
        top, label = self._best(of), "smallest value" if self._lowest(of) else "largest value"
        axis.plot(top["x"], top["y"], "*", markersize=8, color="#d95f02", clip_on=False, zorder=4, label=label)
        _finish(axis, self.label(case), self.label(first), self.label(second), width)
        return self._complete(figure, 2.8, rows)


def _numbers(rows: pd.DataFrame) -> list[str]:
    """Numeric parameters, by falling rank correlation with the value."""
    found = parameters(rows).select_dtypes("number")
    strength = found.corrwith(rows["value"], method="spearman").abs().fillna(0)
    return list(strength.sort_values(ascending=False, kind="stable").index)


@dataclass(frozen=True, kw_only=True)
class Importance(FigureSpec):
    """PED-ANOVA importance of each parameter, a panel for each case; bars: standard deviation under resampling."""

    supports: ClassVar[tuple[str, ...]] = ("cmap",)
    axes: ClassVar[tuple[str, ...]] = ()
    computed_with: ClassVar[tuple[str, ...]] = ("sd", "n")

    source: str = "importance"
    values: tuple[str, ...] = ("importance",)

    def plot(self, rows: pd.DataFrame) -> Figure:
        cases, colors, width = by_case(rows), colors_of(list(SAMPLERS), self.cmap), self.width or COLUMN
        heights = [0.2 * each["parameter"].nunique() + 0.6 for _, each in cases]
        figure, axs = plt.subplots(
            len(cases), 1, figsize=(width, sum(heights)), squeeze=False, layout="constrained", height_ratios=heights
        )
        for axis, (case, each) in zip(axs.flat, cases, strict=True):
            order = list(each.groupby("parameter")["importance"].mean().sort_values().index)
            samplers = labels_of(each, "sampler")
            for number, sampler in enumerate(samplers):
                of = each[each["sampler"] == sampler].set_index("parameter").reindex(order)
                place = np.arange(len(order)) + (number - (len(samplers) - 1) / 2) * 0.35
                axis.errorbar(
                    of["importance"], place, xerr=of["sd"], fmt=marker(_number(sampler)), markersize=3,
                    capsize=2, lw=1, color=colors[sampler], label=SAMPLERS[sampler],
                )  # fmt: skip
            axis.set_yticks(range(len(order)), list(map(self.label, order)))
            _finish(axis, self.label(case), self.label("share of importance"), "", width)
        height = sum(heights) + write_legend(figure, legend_handles(axs.flat[:1]))
        figure.set_figheight(height + self.below(figure, rows))
        return figure

    def _trials(self, rows: pd.DataFrame) -> str:
        counts = [int(count) for count in rows.groupby("sampler", sort=False)["n"].max()]
        return f"n = {' and '.join(map(str, counts))} trials"

    def line(self, rows: pd.DataFrame) -> str:
        return f"{self._trials(rows)}; bars: standard deviation when trials are resampled."

    def describe(self, rows: pd.DataFrame) -> str:
        said = f"PED-ANOVA (Watanabe et al. 2023): which parameters set the best {BEST_TRIALS:.0%} of the trials apart "
        return f"{said}from the rest; {self.line(rows)} {self.note}".strip()

    def text(self, table: pd.DataFrame) -> str:
        rows = self.rows_of(table)
        shown = rows.assign(shown=[f"{i:.2f} ±{s:.2f}" for i, s in zip(rows["importance"], rows["sd"], strict=True)])
        keep = [column for column in ("case", "sampler", "parameter", "shown") if column in shown]
        return "importance\n" + shown[keep].to_string(index=False, header=False)


@dataclass(frozen=True, kw_only=True)
class Rungs(FigureSpec):
    """Agreement of each epoch's validation kNN with the trials' final values: Spearman's correlation over trials, with
    the first seed's learning curves, as a pruner sees them; 95 % by resampling trials.
    """

    supports: ClassVar[tuple[str, ...]] = ("cmap",)
    axes: ClassVar[tuple[str, ...]] = ()
    computed_with: ClassVar[tuple[str, ...]] = ("epoch", "trial", "value")

    source: str = "curves"
    values: tuple[str, ...] = ("validation_knn",)

    def plot(self, rows: pd.DataFrame) -> Figure:
        found, width = early_agreement(rows), self.width or COLUMN
        cases = labels_of(found, "case")
        colors = colors_of(cases, self.cmap)
        figure, axis = plt.subplots(figsize=(width, 2.3), layout="constrained")
        for number, case in enumerate(cases):
            of = found[found["case"] == case]
            reach = [of["spearman"] - of["low"], of["high"] - of["spearman"]]
            axis.errorbar(
                of["epoch"] + 0.06 * number, of["spearman"], reach, marker=marker(number), markersize=3,
                capsize=2, lw=1.2, color=colors[case], label=self.label(case),
            )  # fmt: skip
        axis.axhline(1, color="0.6", lw=0.8, linestyle=":")
        axis.set_ylim(-1.05, 1.05)
        epochs = sorted(found["epoch"].unique())
        axis.xaxis.set_major_locator(FixedLocator(epochs) if len(epochs) < 9 else MaxNLocator(integer=True))
        axis.set_xlim(min(epochs, default=0) - 0.5, max(epochs, default=1) + 0.5)
        _finish(axis, "", self.label("epoch"), "Spearman with the final value", width)
        height = 2.3 + write_legend(figure, legend_handles([axis]) if len(cases) > 1 else {})
        figure.set_figheight(height + self.below(figure, rows))
        return figure

    def line(self, rows: pd.DataFrame) -> str:
        n = sorted(set(early_agreement(rows)["n"]))
        return f"n = {' to '.join(map(str, dict.fromkeys([*n[:1], *n[-1:]])))} trials; bars: 95 % by resampling trials."

    def describe(self, rows: pd.DataFrame) -> str:
        return (
            f"Validation kNN of the first seed against the trial's value; {self.line(rows)} A pruner that looks at an "
            f"epoch with a small correlation throws good settings away. {self.note}"
        ).strip()

    def text(self, table: pd.DataFrame) -> str:
        lines = [
            f"{f'{case}, ' if case else ''}epoch {epoch}: {spearman:.2f} ({low:.2f} to {high:.2f})"
            for case, epoch, spearman, low, high, _ in early_agreement(self.rows_of(table)).itertuples(index=False)
        ]
        return "\n".join(["agreement of early kNN with the final value", *lines])


def _finish(axis, title: str, x: str, y: str, width: float) -> None:
    axis.set_title(folded(title, width - 0.3, TITLE) if title else "")
    axis.set_xlabel(x)
    axis.set_ylabel(folded(y, 1.7, TEXT) if y else "")
    sns.despine(ax=axis)
