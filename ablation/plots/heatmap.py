"""Two axes as in SimCLR's Figure 5: means, spreads, row averages, frames of the best, a reference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from ablation.analysis.references import REFERENCES, reference_table
from ablation.analysis.statistics import agreement, among_best, summary
from ablation.analysis.tables import rounded
from ablation.plots.base import FigureSpec
from ablation.plots.caption import (
    HSU,
    are,
    caption,
    collapsed,
    kind_of_spread,
    missing_runs,
    not_worse,
    seeds_in,
    seeds_said,
)
from ablation.plots.columns import labels_of, rising
from ablation.plots.layout import CELL, COLUMN, PAGE, TEXT, TITLE, folded, inches, mark_missing, widest
from ablation.spec import InvalidSpec, written

FALLEN = "†"  # marks cells with a run whose z has collapsed
AVERAGE = "average"  # of a row, in a column of its own
GAP, LONGEST = 0.15, 1.0  # inches between panels, and of a line of a label
BAR = 0.34  # inches of a color bar with its numbers


@dataclass(frozen=True, kw_only=True)
class Heatmap(FigureSpec):
    """One panel per value: mean and standard deviation over seeds for each pair of two axes, and row averages.

    rows, columns: coordinates of the table; numbers rise. Framed cells are not significantly different from the best
    one (Hsu). within: one of the two; each of its labels then has its own best. average: a column of row averages. A
    reference of pairs adds two panels: the published numbers, and by how many ranks each cell is higher in ours. The
    figure is as wide as a column or a page, and wider only for more columns than a page holds (about 20).
    """

    supports: ClassVar[tuple[str, ...]] = ("reference", "best_of", "highest_is_best", "cmap")

    rows: str
    columns: str
    within: str | None = None
    average: bool = True

    def __post_init__(self):
        super().__post_init__()
        self.require("within", self.within in (None, *self.axes), f"be one of {' and '.join(self.axes)}", "Or omit it.")
        self.require("average", isinstance(self.average, bool), "be True or False")

    @property
    def axes(self) -> tuple[str, ...]:
        return (self.rows, self.columns)

    @property
    def own_labels(self) -> tuple[str, ...]:
        return (AVERAGE,)

    def plot(self, whole: pd.DataFrame) -> Figure:
        table, _ = self.envelope(whole, list(self.axes))
        rows, columns = self._orders(whole)
        shown = [self._shown(table, whole, value) for value in self.values]
        published = self._published(whole)
        ranks = None
        if published is not None:
            mean = published.reindex(index=list(map(written, rows)), columns=list(map(written, columns)))
            ranks = rank_difference(self._matrices(table, whole, self.values[0])[0][list(mean)], mean)
            mean = self._with_average(mean)
            shown.append((f"{REFERENCES[self.reference].title} (ImageNet, linear)", mean, _texts(mean, None, 1), []))
        count = len(shown) + (ranks is not None)
        names = [folded(self.label(row), LONGEST, TEXT) for row in rows]
        under = [self.label(column) for column in shown[0][1].columns]
        across, cell, width, left = self._sizes(count, names, under, shown)
        wide, high = cell * len(under), cell * len(rows)
        titles = [folded(title, wide + 0.1, TITLE) for title, *_ in shown] + ["ranks higher in ours"]
        above = 1.3 * TITLE / 72 * (1 + max(title.count("\n") for title in titles)) + 0.1
        axis_title = folded(self._axis_title(self.columns, "second operator (diagonal: alone)"), wide, TEXT)
        below = _slant(under) + 0.1 + 1.2 * TEXT / 72 * axis_title.count("\n")
        down = -(-count // across)
        figure = plt.figure(figsize=(width, 1))
        height = down * (above + high + below) + 0.2 + self.below(figure, whole)
        figure.set_figheight(height)
        for number, title in enumerate(titles[:count]):
            row, column = divmod(number, across)
            x, y = left + column * (wide + BAR + GAP), height - row * (above + high + below) - above - high
            own = wide if number < len(shown) else cell * len(columns)  # ranks have no average
            axis = figure.add_axes((x / width, y / height, own / width, high / height))
            bar = figure.add_axes(((x + own + 0.05) / width, y / height, 0.07 / width, high / height))
            if number < len(shown):
                self._panel(axis, bar, *shown[number][1:])
            else:
                self._rank_panel(axis, bar, ranks)
            axis.set_title(title)
            last = number + across >= count  # of its column
            beside = self._axis_title(self.rows, "first operator") if column == 0 else ""
            self._label(axis, names if column == 0 else [], beside, axis_title if last else "")
        return figure

    def _axis_title(self, axis: str, of_pairs: str) -> str:
        """of_pairs: the title in a grid of pairs of operators, unless the user gives another."""
        pairs = self.axes == ("first", "second") and axis not in self.labels
        return of_pairs if pairs else self.label(axis)

    def _sizes(
        self, count: int, names: list[str], columns: list[str], shown: list[tuple]
    ) -> tuple[int, float, float, float]:
        """The number of panels side by side; in inches the side of a cell, the figure's width, the left margin.

        The width is that of the user, or the narrower of a column and a page in which the numbers fit their cells.
        """
        least = widest([*(text for _, _, texts, _ in shown for text in texts.flat), "-00.0"], CELL) + 0.06
        beside = max(widest(names, TEXT) + 0.3, _slant(columns[:1]))
        across = min(count, 2)
        widths = [(COLUMN, across), (PAGE, across), (PAGE, 1)]
        for width, side in [(self.width, across), (self.width, 1)] if self.width else widths:
            cell = min(0.6, ((width - beside - (side - 1) * GAP) / side - BAR) / len(columns))
            if cell >= least:
                left = beside + (width - beside - side * (cell * len(columns) + BAR) - (side - 1) * GAP) / 2
                return side, cell, width, left
        needed = beside + least * len(columns) + BAR
        self.require("width", self.width is None, f"be at least {needed:.1f} inches", "The numbers need them.")
        return 1, least, needed, beside

    def rows_of(self, table: pd.DataFrame) -> pd.DataFrame:
        table = super().rows_of(table)
        if self.average and AVERAGE in labels_of(table, self.columns):
            raise InvalidSpec(
                f"Heatmap.columns must have no {self.columns} named {AVERAGE!r}, which is the figure's own column of "
                "row averages, but there is one. Rename it, or write average=False."
            )
        return table

    def _orders(self, table: pd.DataFrame) -> tuple[list, list]:
        """Labels in the order of the table, numbers in rising order; if both axes have the same labels, in the same
        order."""
        known = table.dropna(subset=list(self.axes))
        rows, columns = (rising(labels_of(known, axis)) for axis in self.axes)
        return rows, (rows if set(rows) == set(columns) else columns)

    def _matrices(self, table: pd.DataFrame, whole: pd.DataFrame, value: str) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Mean and spread for all rows and columns of `whole`, with row averages."""
        axes, (rows, columns) = list(self.axes), self._orders(whole)
        cells = summary(table, axes, value)
        mean, sd = (
            cells.pivot(index=self.rows, columns=self.columns, values=v).reindex(index=rows, columns=columns)
            for v in ("mean", "sd")
        )
        if self.average:  # average each row per seed, then take the spread over seeds with a complete row
            by_seed = table.dropna(subset=[*axes, value]).groupby([self.rows, "seed"])[value]
            complete = by_seed.mean()[by_seed.count() == len(columns)]
            sd = sd.assign(**{AVERAGE: complete.groupby(level=0).std(ddof=1).reindex(rows)})
        return tuple(grid.rename(index=written, columns=written) for grid in (self._with_average(mean), sd))

    def _with_average(self, mean: pd.DataFrame) -> pd.DataFrame:
        """Row averages as in the paper, for complete rows."""
        return mean.assign(**{AVERAGE: mean.mean(axis=1, skipna=False)}) if self.average else mean

    def _groups(self, table: pd.DataFrame) -> list[pd.DataFrame]:
        """The groups of rows that are compared with one another."""
        table = table.dropna(subset=list(self.axes))
        return [rows for _, rows in table.groupby(self.within, sort=False)] if self.within else [table]

    def _best(self, table: pd.DataFrame, value: str) -> list[tuple[str, str]]:
        """The cells that are not significantly different from the best; none if no spread is known, or if neither the
        highest nor the lowest value need be the best."""
        if not self.marks(value):
            return []
        lowest = self.lowest(value)
        cells = pd.concat(among_best(rows, list(self.axes), value, lowest=lowest) for rows in self._groups(table))
        best = cells[cells["among_best"].fillna(False)]
        return list(zip(*(best[axis].map(written) for axis in self.axes), strict=True))

    def _not_worse(self) -> str:
        return not_worse([self.label(self.within)] if self.within else [])

    def _published(self, table: pd.DataFrame) -> pd.DataFrame | None:
        """The reference as a square; raises InvalidSpec with both lists of labels if too few are shared."""
        if self.reference is None:
            return None
        found = reference_table(self.reference)
        if not {"first", "second"} <= set(found.columns):
            raise InvalidSpec(
                f"Heatmap.reference must be a table of pairs, but {self.reference} has the columns "
                f"{', '.join(found.columns)}. Use simclr_figure5_pairs, or no reference."
            )
        square = found.pivot(index="first", columns="second", values="value").astype(float)
        for labels in self._orders(table):
            ours = list(map(written, labels))
            if len(square.index.intersection(ours)) < 2:
                raise InvalidSpec(
                    f"Heatmap.reference must share labels with the table, but the table has {', '.join(ours)}; "
                    f"{self.reference} has {', '.join(square.index)}. Rename the operators, or use no reference."
                )
        return square

    def describe(self, whole: pd.DataFrame) -> str:
        table, chosen = self.envelope(whole, list(self.axes))
        missing = self.missing(whole, self.values)
        text = caption(table, list(self.axes), self.values, self.note, missing, self.measures) + chosen
        kind = kind_of_spread(self._groups(table), list(self.axes), self.values)
        if any(self._best(table, value) for value in self.values):
            text += f" Framed: {self._not_worse()} {HSU}, spread {kind}."
        text += self.sentence()
        published = self._published(whole)
        if published is not None:
            text += f" Last panel: how many ranks a cell is higher in ours ({self.measured(self.values[0]).short})."
            rows, columns = (set(map(written, labels)) for labels in self._orders(whole))
            if len(rows & columns & set(published.index)) >= 3:
                text += f" {self._agreement(table, whole, published)}"
        return text

    def line(self, whole: pd.DataFrame) -> str:
        table, _ = self.envelope(whole, list(self.axes))
        n = seeds_in(table, list(self.axes), self.values)
        framed = f" Framed: {self._not_worse()}."
        return (
            f"{'Mean ± standard deviation, ' if n[-1] > 1 else ''}{seeds_said(n)}."
            + (framed if any(self._best(table, value) for value in self.values) else "")
            + self.missing(whole, self.values)
        )

    def missing(self, table: pd.DataFrame, values: Sequence[str]) -> str:
        """Sentences on missing runs, and on cells of the grid without a value or not in the table."""
        axes, (rows, columns) = list(self.axes), self._orders(table)
        cells = table.dropna(subset=[*axes, *values])[axes].drop_duplicates()
        empty, whole = len(rows) * len(columns) - len(cells), len(rows) * len(columns)
        sentence = f" {empty} of {whole} cells of the grid {are(empty)} missing." if empty else ""
        marked = f" {FALLEN}: a cell with such a run." if collapsed(table.dropna(subset=axes)).any() else ""
        return missing_runs(table, axes, values) + marked + sentence

    def _agreement(self, table: pd.DataFrame, whole: pd.DataFrame, published: pd.DataFrame) -> str:
        parts = []
        for value in self.values:
            shown = self.measured(value).short
            found = agreement(self._matrices(table, whole, value)[0].drop(columns=AVERAGE, errors="ignore"), published)
            p, left_p = (
                f", p {x:.2g} by permuting operators" if not math.isnan(x) else ""
                for x in (found.spearman_p, found.composition_p)
            )
            left = f"main effects removed {found.composition_spearman:.2f}{left_p}"
            parts.append(
                f"{shown}: Spearman {found.spearman:.2f}{p} (the larger of the two single operators "
                f"alone would give {found.trivial_spearman:.2f}), "
                + (left if not math.isnan(found.composition_spearman) else "nothing to compare, main effects removed")
            )
        return f"Agreement over {found.cells} cells: {'; '.join(parts)}."

    def _shown(self, table: pd.DataFrame, whole: pd.DataFrame, value: str) -> tuple:
        """A panel: its title, means, the text of each cell, and the framed cells."""
        mean, sd = self._matrices(table, whole, value)
        title = self.title(value, self.metric(value))
        texts = _texts(mean, sd, self.measured(value).digits)
        for row, column in self._collapsed(table):
            texts[mean.index.get_loc(row), mean.columns.get_loc(column)] += FALLEN
        return title, mean, texts, self._best(table, value)

    def _collapsed(self, table: pd.DataFrame) -> set[tuple[str, str]]:
        """The cells with a run whose z has collapsed."""
        rows = table[collapsed(table)].dropna(subset=list(self.axes))
        return set(zip(*(rows[axis].map(written) for axis in self.axes), strict=True))

    def _panel(self, axis, bar, mean: pd.DataFrame, texts: np.ndarray, best: list[tuple[str, str]]) -> None:
        sns.heatmap(
            mean.astype(float), annot=texts, fmt="", cmap=self.cmap or "viridis", cbar_ax=bar, ax=axis,
            linewidths=0.5, linecolor="white", annot_kws={"fontsize": CELL}, square=True,
        )  # fmt: skip
        written_in = {tuple(text.get_position()): text.get_color() for text in axis.texts}
        if self.average:
            axis.add_patch(Rectangle((len(mean.columns) - 1, 0), 0.08, len(mean), facecolor="white", edgecolor="none"))
        for row, column in best:
            x, y = mean.columns.get_loc(column), mean.index.get_loc(row)
            color = written_in.get((x + 0.5, y + 0.5), "black")  # that of the number, for contrast
            axis.add_patch(
                Rectangle((x + 0.06, y + 0.06), 0.88, 0.88, fill=False, edgecolor=color, linewidth=0.9, gid="framed")
            )
        mark_missing(axis, mean)
        _finish_bar(bar)

    def _rank_panel(self, axis, bar, ranks: pd.DataFrame) -> None:
        reach = max(1.0, float(ranks.abs().max().max()))
        texts = ranks.map(lambda rank: f"{rank:+g}" if rank else "0")  # ties have half ranks
        sns.heatmap(
            ranks, annot=texts, fmt="", cmap="PuOr", vmin=-reach, vmax=reach, cbar_ax=bar, ax=axis, linewidths=0.5,
            linecolor="white", annot_kws={"fontsize": CELL}, square=True,
        )  # fmt: skip
        _finish_bar(bar)

    def _label(self, axis, names: list[str], beside: str, under: str) -> None:
        """names: of the rows; beside, under: titles of the axes, empty next to another panel."""
        axis.set_ylabel(beside)
        axis.set_xlabel(under)
        axis.tick_params(length=0)
        columns = [folded(self.label(label.get_text()), LONGEST, TEXT) for label in axis.get_xticklabels()]
        axis.set_xticks(axis.get_xticks(), columns, rotation=45, ha="right", rotation_mode="anchor")
        axis.set_yticks(np.arange(len(names)) + 0.5, names, rotation=0)

    def text(self, table: pd.DataFrame) -> str:
        """The same numbers for a terminal."""
        whole = self.rows_of(table)
        table, _ = self.envelope(whole, list(self.axes))
        parts = []
        for value in self.values:
            mean, sd = self._matrices(table, whole, value)
            digits = self.measured(value).digits
            shown = mean.map(lambda x, digits=digits: rounded(x, digits) if pd.notna(x) else "-")
            spreads = sd.reindex(columns=mean.columns)
            near = mean.abs().max(axis=None)
            spreads = spreads.map(lambda x, d=digits, near=near: f" ±{rounded(x, d, near)}" if pd.notna(x) else "")
            best = self._best(table, value)
            marks = pd.DataFrame("", index=shown.index, columns=shown.columns)
            for row, column in best:
                marks.loc[row, column] = " *"
            for row, column in self._collapsed(table):
                marks.loc[row, column] += FALLEN
            title = f"{self.metric(value)}; rows: {self.rows}, columns: {self.columns}" + (
                "; *: framed" if best else ""
            )
            parts.append(f"{title}\n{(shown + spreads + marks).to_string()}")
        parts.append(self.describe(whole))
        return "\n\n".join(parts)


def _texts(mean: pd.DataFrame, sd: pd.DataFrame | None, digits: int) -> np.ndarray:
    """The text of each cell."""
    texts = mean.map(lambda x: rounded(x, digits) if pd.notna(x) else "")
    if sd is not None:
        near = mean.abs().max(axis=None)
        texts += sd.map(lambda x: f"\n±{rounded(x, digits, near)}" if pd.notna(x) else "")
    return texts.to_numpy(object)


def _slant(labels: list[str]) -> float:
    """Inches that labels at 45 degrees reach to the left and down."""
    lines = [folded(label, LONGEST, TEXT).split("\n") for label in labels]
    return max(max(inches(line, TEXT) for line in each) + 1.2 * TEXT / 72 * len(each) for each in lines) / 2**0.5


def _finish_bar(bar) -> None:
    bar.yaxis.set_major_locator(MaxNLocator(4))
    bar.tick_params(labelsize=CELL, length=1.5, width=0.5, pad=1.5)


def rank_difference(ours: pd.DataFrame, reference: pd.DataFrame) -> pd.DataFrame:
    """Rank in ours minus rank in the reference, over the common cells; 1 is the lowest."""
    both = ours.notna() & reference.notna()
    ranks = [grid.where(both).stack().rank() for grid in (ours.astype(float), reference.astype(float))]
    return (ranks[0] - ranks[1]).unstack().reindex(index=ours.index, columns=ours.columns)
