"""Figures of a search: its history, what its parameters matter, the value against them, and how early it is known."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy import stats

from ablation.plots.bars import Bars
from ablation.plots.base import (
    COLUMN,
    HEADLINE,
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
from ablation.plots.lines import Lines
from ablation.specs import InvalidSpec
from ablation.tables import NUMBER, numbers

PARAMETER, LOG_PARAMETER = "param_", "log_param_"  # begin the columns of what was suggested, evenly or in its log
SAMPLERS = {"tpe": "TPE", "random": "random search"}
BEST = 0.2  # the share of trials that PED-ANOVA tells from the rest


def on_test_images(metric: str) -> str:
    """The column that measures on test images what a metric does on validation images."""
    before, _, after = metric.rpartition("validation_")
    return f"{before}test_{after}"


def figures_of(table: pd.DataFrame, tested: Iterable[str] = HEADLINE) -> dict[str, FigureSpec]:
    """The figures of a search, by name, from the table of its trials. tested: the columns of its comparison, which
    shows the search's own metrics first, then the headline ones that there are."""
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
    """The columns of what was suggested, without the beginning of their names."""
    columns = [column for column in table if column.startswith((PARAMETER, LOG_PARAMETER))]
    found = table[columns].dropna(axis=1, how="all")
    found = numbers(found, [c for c in found if all(NUMBER.fullmatch(str(each)) for each in found[c].dropna())])
    return found.rename(columns=lambda column: column.removeprefix("log_").removeprefix(PARAMETER))


def by_case(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The rows of each case; one without a name where there is one search."""
    if "case" not in table:
        return [("", table)]
    return [(str(case), table[table["case"] == case]) for case in labels_of(table, "case")]


@dataclass(frozen=True, kw_only=True)
class _OfTrials(FigureSpec):
    """Drawn from the table of a search's trials."""

    without: ClassVar[tuple[str, ...]] = ("reference", "best_of")
    axes: ClassVar[tuple[str, ...]] = ()
    computed_with: ClassVar[tuple[str, ...]] = ("trial", "sd", "n")

    values: tuple[str, ...] = ("value",)

    def finished(self, table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
        return by_case(self.rows_of(table).dropna(subset=["value"]))

    def _complete(self, figure: Figure, height: float, table: pd.DataFrame, more: str) -> Figure:
        """Legend, caption and height."""
        handles: dict[str, Any] = {}
        for axis in figure.axes:
            handles |= dict(zip(*axis.get_legend_handles_labels()[::-1], strict=True))
        height += write_legend(figure, handles)
        counts = table.groupby("sampler", sort=False)["state"].value_counts()
        trials = ", ".join(f"{count} {state} ({SAMPLERS[sampler]})" for (sampler, state), count in counts.items())
        caption = f"Trials: {trials}; a trial's value is the mean over {numbers(table, ['n'])['n'].max():g} seeds of "
        caption += f"{', '.join(named(metric) for metric in table['metric'].unique())}. {more} {self.note}"
        figure.set_figheight(height + write_caption(figure, caption.strip()))
        return figure

    def text(self, table: pd.DataFrame) -> str:
        """Nothing beside the history's."""
        return ""


@dataclass(frozen=True, kw_only=True)
class History(_OfTrials):
    """The trials in their order, and the best so far; a panel for each case."""

    def draw(self, table: pd.DataFrame) -> Figure:
        cases, colors = self.finished(table), colors_of(list(SAMPLERS))
        down, across, width = panels(len(cases), 2)
        with plt.rc_context(STYLE):
            figure, axs = plt.subplots(down, across, figsize=(width, 2.1 * down), squeeze=False, layout="constrained")
            for axis, (case, rows) in zip(axs.flat, cases, strict=False):
                for sampler, of in rows.sort_values("trial").groupby("sampler", sort=False):
                    number = list(SAMPLERS).index(sampler)
                    at = of["trial"]
                    axis.plot(at, of["value"], marker(number), markersize=3, alpha=0.5, color=colors[sampler])
                    axis.step(
                        at, of["value"].cummax(), where="post", lw=1.2, color=colors[sampler],
                        linestyle=("-", "--")[number], label=f"best so far, {SAMPLERS[sampler]}",
                    )  # fmt: skip
                axis.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
                _finish(axis, case, "trial", width / across)
            _leave_blank(axs, len(cases))
            more = "The best so far is the largest of noisy values, so too high; the comparison on test images is not."
            return self._complete(figure, 2.1 * down, table, more)

    def text(self, table: pd.DataFrame) -> str:
        lines = []
        for case, rows in self.finished(table):
            for sampler in labels_of(rows, "sampler"):
                of = rows[rows["sampler"] == sampler].sort_values("trial")
                best = of.loc[of["value"].idxmax()]  # of equal ones the first, as `search.study.best`
                found = ", ".join(
                    f"{n} {written(v)}" for n, v in parameters(rows.loc[[best.name]]).iloc[0].dropna().items()
                )
                lines.append(f"{case + ': ' if case else ''}{SAMPLERS[sampler]}: {best['value']:.2f} with {found}")
        return "\n".join(lines)


@dataclass(frozen=True, kw_only=True)
class Slice(_OfTrials):
    """The value against each parameter, of each case; for choices a column of dots each."""

    def draw(self, table: pd.DataFrame) -> Figure:
        colors = colors_of(list(SAMPLERS))
        shown = [
            (case, name, rows.assign(x=parameters(rows)[name]).dropna(subset=["x"]))
            for case, rows in self.finished(table)
            for name in parameters(rows)
        ]
        down, across, width = panels(len(shown), 3)
        with plt.rc_context(STYLE):
            figure, axs = plt.subplots(down, across, figsize=(width, 1.8 * down), squeeze=False, layout="constrained")
            for axis, (case, name, rows) in zip(axs.flat, shown, strict=False):
                for sampler, of in rows.groupby("sampler", sort=False):
                    number = list(SAMPLERS).index(sampler)
                    numbers = pd.api.types.is_numeric_dtype(rows["x"]) and not pd.api.types.is_bool_dtype(rows["x"])
                    axis.plot(
                        of["x"] if numbers else of["x"].astype(str), of["value"], marker(number), markersize=3,
                        alpha=0.6, color=colors[sampler], label=SAMPLERS[sampler],
                    )  # fmt: skip
                if LOG_PARAMETER + name in rows:
                    axis.set_xscale("log")
                    axis.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
                    axis.minorticks_off()
                _finish(axis, case, name, width / across)
            _leave_blank(axs, len(shown))
            return self._complete(figure, 1.8 * down, table, "All other parameters vary too.")


@dataclass(frozen=True, kw_only=True)
class Contour(_OfTrials):
    """The value over the two numeric parameters that correlate most with it, of the first case that has two."""

    def draw(self, table: pd.DataFrame) -> Figure:
        case, rows = next(((c, rows) for c, rows in self.finished(table) if len(_numbers(rows)) > 1), (None, None))
        if rows is None:
            raise InvalidSpec("Contour must find two numeric parameters, but the search has fewer. Remove the figure.")
        first, second = _numbers(rows)[:2]
        of = rows.assign(x=parameters(rows)[first], y=parameters(rows)[second]).dropna(subset=["x", "y"])
        with plt.rc_context(STYLE):
            figure, axis = plt.subplots(figsize=(COLUMN, 2.8), layout="constrained")
            if len(of) >= 4 and of["x"].nunique() > 2 and of["y"].nunique() > 2:
                figure.colorbar(
                    axis.tricontourf(of["x"], of["y"], of["value"], levels=8, cmap="Blues"), ax=axis, label="%"
                )
            for sampler, each in of.groupby("sampler", sort=False):
                axis.plot(
                    each["x"], each["y"], marker(list(SAMPLERS).index(sampler)), markersize=3, color="black",
                    markerfacecolor="white", clip_on=False, zorder=3, label=SAMPLERS[sampler],
                )  # fmt: skip
            top = of.loc[of["value"].idxmax()]
            axis.plot(
                top["x"], top["y"], "*", markersize=8, color="#d95f02", clip_on=False, zorder=4, label="largest value"
            )
            _finish(axis, case, first, COLUMN)
            axis.set_ylabel(second, parse_math=False)
            more = "Color: interpolated between the trials, which differ in their other parameters too."
            return self._complete(figure, 2.8, table, more)


def _numbers(rows: pd.DataFrame) -> list[str]:
    """Numeric parameters, the one with the largest rank correlation with the value first."""
    found = parameters(rows).select_dtypes("number")
    strength = found.corrwith(rows["value"], method="spearman").abs().fillna(0)
    return list(strength.sort_values(ascending=False, kind="stable").index)


@dataclass(frozen=True, kw_only=True)
class Importance(FigureSpec):
    """PED-ANOVA importance of each parameter, a panel for each case; bars: standard deviation under resampling."""

    without: ClassVar[tuple[str, ...]] = ("reference", "best_of")
    axes: ClassVar[tuple[str, ...]] = ()
    computed_with: ClassVar[tuple[str, ...]] = ("sd", "n")

    source: str = "importance"
    values: tuple[str, ...] = ("importance",)

    def draw(self, table: pd.DataFrame) -> Figure:
        table = self.rows_of(table)
        cases, colors = by_case(table), colors_of(list(SAMPLERS))
        heights = [0.2 * rows["parameter"].nunique() + 0.6 for _, rows in cases]
        with plt.rc_context(STYLE):
            figure, axs = plt.subplots(
                len(cases),
                1,
                figsize=(COLUMN, sum(heights)),
                squeeze=False,
                layout="constrained",
                height_ratios=heights,
            )
            for axis, (case, rows) in zip(axs.flat, cases, strict=True):
                order = list(rows.groupby("parameter")["importance"].mean().sort_values().index)
                samplers = labels_of(rows, "sampler")
                for number, sampler in enumerate(samplers):
                    of = rows[rows["sampler"] == sampler].set_index("parameter").reindex(order)
                    place = np.arange(len(order)) + (number - (len(samplers) - 1) / 2) * 0.35
                    axis.errorbar(
                        of["importance"], place, xerr=of["sd"], fmt=marker(list(SAMPLERS).index(sampler)), markersize=3,
                        capsize=2, lw=1, color=colors[sampler], label=SAMPLERS[sampler],
                    )  # fmt: skip
                axis.set_yticks(range(len(order)), order, parse_math=False)
                _finish(axis, case, "share of importance", COLUMN, y="")
            height = sum(heights) + write_legend(
                figure, dict(zip(*axs[0][0].get_legend_handles_labels()[::-1], strict=True))
            )
            n = ", ".join(str(int(count)) for count in table.groupby("sampler", sort=False)["n"].max())
            caption = f"PED-ANOVA (Watanabe et al. 2023): what tells the best {BEST:.0%} of the trials from the rest; "
            caption += f"n = {n} trials, bars: standard deviation when they are resampled. {self.note}"
            figure.set_figheight(height + write_caption(figure, caption.strip()))
        return figure

    def text(self, table: pd.DataFrame) -> str:
        table = self.rows_of(table)
        shown = table.assign(shown=[f"{i:.2f} ±{s:.2f}" for i, s in zip(table["importance"], table["sd"], strict=True)])
        keep = [column for column in ("case", "sampler", "parameter", "shown") if column in shown]
        return "importance\n" + shown[keep].to_string(index=False, header=False)


@dataclass(frozen=True, kw_only=True)
class Rungs(FigureSpec):
    """How well an early epoch's validation kNN orders the trials as their final value does: Spearman's correlation by
    epoch, over the first seed's learning curves as a pruner sees them; 95 % by resampling trials.
    """

    without: ClassVar[tuple[str, ...]] = ("reference", "best_of")
    axes: ClassVar[tuple[str, ...]] = ()
    computed_with: ClassVar[tuple[str, ...]] = ("epoch", "trial", "value")

    source: str = "curves"
    values: tuple[str, ...] = ("validation_knn",)

    def agreement(self, table: pd.DataFrame) -> pd.DataFrame:
        """A row per case and epoch: spearman, low, high, n."""
        rows: list[Mapping[str, Any]] = []
        for case, of in by_case(self.rows_of(table)):
            for epoch, each in of[of["seed"] == of["seed"].min()].groupby("epoch"):
                if len(each) < 5:
                    continue
                pairs = each[["validation_knn", "value"]].to_numpy()
                generator = np.random.default_rng(0)
                again = [_spearman(pairs[generator.integers(0, len(pairs), len(pairs))]) for _ in range(500)]
                low, high = np.nanpercentile(again, [2.5, 97.5])
                found = {"spearman": _spearman(pairs), "low": low, "high": high, "n": len(each)}
                rows.append({"case": case, "epoch": int(epoch), **found})
        return pd.DataFrame(rows, columns=["case", "epoch", "spearman", "low", "high", "n"])

    def draw(self, table: pd.DataFrame) -> Figure:
        found = self.agreement(table)
        cases = labels_of(found, "case")
        colors = colors_of(cases)
        with plt.rc_context(STYLE):
            figure, axis = plt.subplots(figsize=(COLUMN, 2.3), layout="constrained")
            for number, case in enumerate(cases):
                of = found[found["case"] == case]
                reach = [of["spearman"] - of["low"], of["high"] - of["spearman"]]
                axis.errorbar(
                    of["epoch"] + 0.06 * number, of["spearman"], reach, marker=marker(number), markersize=3,
                    capsize=2, lw=1.2, color=colors[case], label=case,
                )  # fmt: skip
            axis.axhline(1, color="0.6", lw=0.8, linestyle=":")
            axis.set_ylim(-1.05, 1.05)
            _finish(axis, "", "epoch", COLUMN, y="Spearman with the final value")
            handles = dict(zip(*axis.get_legend_handles_labels()[::-1], strict=True)) if len(cases) > 1 else {}
            height = 2.3 + write_legend(figure, handles)
            figure.set_figheight(height + write_caption(figure, self._caption(found)))
        return figure

    def _caption(self, found: pd.DataFrame) -> str:
        n = " to ".join(map(str, sorted({found["n"].min(), found["n"].max()})))
        return (
            f"n = {n} trials; validation kNN of the first seed against the trial's value. Bars: 95 % by resampling "
            f"trials. A pruner that looks at an epoch with a small correlation throws good settings away. {self.note}"
        ).strip()

    def text(self, table: pd.DataFrame) -> str:
        lines = [
            f"{f'{case}, ' if case else ''}epoch {epoch}: {spearman:.2f} ({low:.2f} to {high:.2f})"
            for case, epoch, spearman, low, high, _ in self.agreement(table).itertuples(index=False)
        ]
        return "\n".join(["agreement of early kNN with the final value", *lines])


def _spearman(pairs: np.ndarray) -> float:
    if len(np.unique(pairs[:, 0])) < 2 or len(np.unique(pairs[:, 1])) < 2:
        return float("nan")
    return float(stats.spearmanr(pairs[:, 0], pairs[:, 1]).statistic)


def _finish(axis, title: str, x: str, width: float, y: str = "%") -> None:
    axis.set_title(folded(title, width - 0.3, TITLE) if title else "", parse_math=False)
    axis.set_xlabel(x, parse_math=False)
    axis.set_ylabel(y)
    sns.despine(ax=axis)


def _leave_blank(axs: np.ndarray, used: int) -> None:
    for axis in list(axs.flat)[used:]:
        axis.axis("off")
