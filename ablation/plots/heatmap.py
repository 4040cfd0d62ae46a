"""Two axes as in the paper's Figure 5: means, spreads, row averages, what is not told from the best, a reference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ablation.plots.base import (
    CELL,
    COLUMN,
    PAGE,
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
    mark_missing,
    missing_runs,
    named,
    write_caption,
    written,
)  # fmt: skip
from ablation.references import REFERENCES, reference_table
from ablation.specs import InvalidSpec
from ablation.statistics import agreement, among_best, summary
from ablation.tables import rounded

AVERAGE = "average"  # of a row, in a column of its own
GAP, LONGEST = 0.15, 1.2  # inches between panels, and of a line of a label


@dataclass(frozen=True, kw_only=True)
class Heatmap(FigureSpec):
    """One panel per value: mean and standard deviation over seeds for each pair of two axes, and row averages.

    rows, columns: coordinates of the table. Framed cells are not told from the best one (Hsu). With a reference of
    pairs there are two more panels: the published numbers, and how many ranks each cell stands higher in ours. As wide
    as a column or a page, and wider only where more columns than a page holds (about 20) need it.
    """

    rows: str
    columns: str

    @property
    def axes(self) -> tuple[str, ...]:
        return (self.rows, self.columns)

    def draw(self, table: pd.DataFrame) -> Figure:
        whole = self.rows_of(table)
        table, _ = self.envelope(whole, list(self.axes))
        rows, columns = self._orders(whole)
        shown = [self._shown(table, whole, value) for value in self.values]
        published = self._published(whole)
        ranks = None
        if published is not None:
            mean = published.reindex(index=list(map(written, rows)), columns=list(map(written, columns)))
            mean = with_average(mean)
            title = f"{REFERENCES[self.reference].title} (ImageNet, linear)"
            shown.append((title, mean, _texts(mean, None, 1), None))
            ranks = rank_difference(shown[0][1].drop(columns=AVERAGE), mean.drop(columns=AVERAGE))
        count = len(shown) + (ranks is not None)
        names = [folded(row, LONGEST, TEXT) for row in rows]
        across, cell, width, left = self._sizes(count, names, [*map(written, columns), AVERAGE], shown)
        wide, high = cell * (len(columns) + 1), cell * len(rows)
        titles = [folded(title, wide + 0.1, TITLE) for title, *_ in shown] + ["ranks higher in ours"]
        above = 1.3 * TITLE / 72 * (1 + max(title.count("\n") for title in titles)) + 0.1
        beside, under = self.axes
        if self.axes == ("first", "second"):
            beside, under = "first operator", "second operator (diagonal: alone)"
        axis_title = folded(under, wide, TEXT)
        below = _slant([*map(written, columns), AVERAGE]) + 0.1 + 1.2 * TEXT / 72 * axis_title.count("\n")
        down = -(-count // across)
        with plt.rc_context(STYLE):
            figure = plt.figure(figsize=(width, 1))
            height = down * (above + high + below) + 0.2 + write_caption(figure, self._caption(whole))
            figure.set_figheight(height)
            for number, title in enumerate(titles[:count]):
                row, column = divmod(number, across)
                x, y = left + column * (wide + GAP), height - row * (above + high + below) - above - high
                axis = figure.add_axes((x / width, y / height, wide / width, high / height))
                if number < len(shown):
                    self._panel(axis, *shown[number][1:])
                else:
                    self._rank_panel(axis, ranks)
                axis.set_title(title)
                last = number + across >= count  # of its column
                self._label(
                    axis, names if column == 0 else [], beside if column == 0 else "", axis_title if last else ""
                )
        return figure

    def _sizes(
        self, count: int, names: list[str], columns: list[str], shown: list[tuple]
    ) -> tuple[int, float, float, float]:
        """How many panels stand beside one another; inches: the side of a cell, the figure's width, the left margin.

        The narrowest of a column and a page in which each cell holds its numbers.
        """
        lines = [line for _, _, texts, _ in shown for text in texts.flat for line in text.split("\n")]
        least = max(inches(line, CELL) for line in (*lines, "-00.0")) + 0.06
        beside = max(inches(line, TEXT) for name in names for line in name.split("\n")) + 0.3
        beside = max(beside, _slant(columns[:1]))
        across = min(count, 2)
        for width, side in ((COLUMN, across), (PAGE, across), (PAGE, 1)):
            cell = min(0.6, ((width - beside) / side - GAP) / len(columns))
            if cell >= least:
                left = beside + (width - beside - side * (cell * len(columns) + GAP)) / 2
                return side, cell, width, left
        return 1, least, beside + least * len(columns) + GAP, beside

    def rows_of(self, table: pd.DataFrame) -> pd.DataFrame:
        table = super().rows_of(table)
        if AVERAGE in labels_of(table, self.columns):
            raise InvalidSpec(
                f"Heatmap.columns must have no {self.columns} named {AVERAGE!r}, which is the figure's own column of "
                "row averages, but there is one. Rename it."
            )
        return table

    def _orders(self, table: pd.DataFrame) -> tuple[list, list]:
        """Labels in the order of the table; where both axes have the same ones, in the same order."""
        rows, columns = (labels_of(table.dropna(subset=list(self.axes)), axis) for axis in self.axes)
        return rows, (rows if set(rows) == set(columns) else columns)

    def _matrices(self, table: pd.DataFrame, whole: pd.DataFrame, value: str) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Mean and spread, of all rows and columns of `whole`, with their averages."""
        axes, (rows, columns) = list(self.axes), self._orders(whole)
        cells = summary(table, axes, value)
        mean, sd = (
            cells.pivot(index=self.rows, columns=self.columns, values=v).reindex(index=rows, columns=columns)
            for v in ("mean", "sd")
        )
        # The average of a row for each seed, then its spread over the seeds that have the whole row.
        by_seed = table.dropna(subset=[*axes, value]).groupby([self.rows, "seed"])[value]
        complete = by_seed.mean()[by_seed.count() == len(columns)]
        sd = sd.assign(**{AVERAGE: complete.groupby(level=0).std(ddof=1).reindex(rows)})
        return tuple(grid.rename(index=written, columns=written) for grid in (with_average(mean), sd))

    def _best(self, table: pd.DataFrame, value: str) -> list[tuple[str, str]]:
        """The cells that are not told from the best; none where no spread is known."""
        found = among_best(table.dropna(subset=list(self.axes)), list(self.axes), value)
        best = found[found["among_best"].fillna(False)]
        return list(zip(*(best[axis].map(written) for axis in self.axes), strict=True))

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

    def _caption(self, whole: pd.DataFrame) -> str:
        table, chosen = self.envelope(whole, list(self.axes))
        text = caption(table, list(self.axes), self.values, self.note, self.missing(whole, self.values)) + chosen
        kind = kind_of_spread(table.dropna(subset=list(self.axes)), list(self.axes), self.values)
        if any(self._best(table, value) for value in self.values):
            text += f" Framed: not told from the best at 95 % (Hsu's comparison; spread {kind})."
        text += self.sentence()
        published = self._published(whole)
        if published is not None:
            text += f" Last panel: how many ranks a cell stands higher in ours ({named(self.values[0])})."
            rows, columns = (set(map(written, labels)) for labels in self._orders(whole))
            if len(rows & columns & set(published.index)) >= 3:
                text += f" {self._agreement(table, whole, published)}"
        return text

    def missing(self, table: pd.DataFrame, values: Sequence[str]) -> str:
        """The runs that are missing, and the cells of the grid: without a value, or not in the table."""
        axes, (rows, columns) = list(self.axes), self._orders(table)
        cells = table.dropna(subset=[*axes, *values])[axes].drop_duplicates()
        empty, whole = len(rows) * len(columns) - len(cells), len(rows) * len(columns)
        are = "is" if empty == 1 else "are"
        said = f" {empty} of {whole} cells of the grid {are} missing." if empty else ""
        return missing_runs(table, axes, values) + said

    def _agreement(self, table: pd.DataFrame, whole: pd.DataFrame, published: pd.DataFrame) -> str:
        parts = []
        for value in self.values:
            found = agreement(self._matrices(table, whole, value)[0].drop(columns=AVERAGE), published)
            p, left_p = (
                f", p {x:.2g} by relabelling operators" if not math.isnan(x) else ""
                for x in (found.spearman_p, found.composition_p)
            )
            left = f"after main effects {found.composition_spearman:.2f}{left_p}"
            parts.append(
                f"{named(value).split(',')[0]}: Spearman {found.spearman:.2f}{p} (the larger of the two single ones "
                f"would give {found.trivial_spearman:.2f}), "
                + (left if not math.isnan(found.composition_spearman) else "nothing to compare after main effects")
            )
        return f"Agreement over {found.cells} cells: {'; '.join(parts)}."

    def _shown(self, table: pd.DataFrame, whole: pd.DataFrame, value: str) -> tuple:
        """A panel: its title, means, what stands in each cell, and the cells that are framed."""
        mean, sd = self._matrices(table, whole, value)
        return named(value), mean, _texts(mean, sd, decimals(value)), self._best(table, value)

    def _panel(self, axis, mean: pd.DataFrame, texts: np.ndarray, best: list | None) -> None:
        sns.heatmap(
            mean.astype(float), annot=texts, fmt="", cmap="viridis", cbar=False, ax=axis,
            linewidths=0.5, linecolor="white", annot_kws={"fontsize": CELL}, square=True,
        )  # fmt: skip
        axis.add_patch(Rectangle((len(mean.columns) - 1, 0), 0.08, len(mean), facecolor="white", edgecolor="none"))
        for row, column in best or ():
            place = (mean.columns.get_loc(column), mean.index.get_loc(row))
            axis.add_patch(
                Rectangle(place, 1, 1, fill=False, edgecolor="black", linewidth=1.4, clip_on=False, zorder=3)
            )
        mark_missing(axis, mean)

    def _rank_panel(self, axis, ranks: pd.DataFrame) -> None:
        reach = max(1.0, float(ranks.abs().max().max()))
        shown = ranks.assign(**{"": np.nan})  # a column as wide as the averages', so that cells are as large as beside
        texts = shown.map(lambda rank: f"{rank:+g}" if rank else "0")  # ties have half ranks
        sns.heatmap(
            shown, annot=texts, fmt="", cmap="PuOr", vmin=-reach, vmax=reach, cbar=False, ax=axis, linewidths=0.5,
            linecolor="white", annot_kws={"fontsize": CELL}, square=True,
        )  # fmt: skip

    def _label(self, axis, names: list[str], beside: str, under: str) -> None:
        """names: of the rows; beside, under: what the axes are. Empty where another panel stands there."""
        axis.set_ylabel(beside)
        axis.set_xlabel(under)
        axis.tick_params(length=0)
        columns = [folded(label.get_text(), LONGEST, TEXT) for label in axis.get_xticklabels()]
        axis.set_xticks(axis.get_xticks(), columns, rotation=45, ha="right", rotation_mode="anchor")
        axis.set_yticks(np.arange(len(names)) + 0.5, names, rotation=0)

    def text(self, table: pd.DataFrame) -> str:
        """The same numbers for a terminal."""
        whole = self.rows_of(table)
        table, _ = self.envelope(whole, list(self.axes))
        parts = []
        for value in self.values:
            mean, sd = self._matrices(table, whole, value)
            digits = decimals(value)
            shown = mean.map(lambda x, digits=digits: rounded(x, digits) if pd.notna(x) else "-")
            spreads = sd.reindex(columns=mean.columns)
            near = mean.abs().max(axis=None)
            spreads = spreads.map(lambda x, d=digits, near=near: f" ±{rounded(x, d, near)}" if pd.notna(x) else "")
            best = self._best(table, value)
            marks = pd.DataFrame("", index=shown.index, columns=shown.columns)
            for row, column in best:
                marks.loc[row, column] = " *"
            title = f"{named(value)}; rows: {self.rows}, columns: {self.columns}" + "; *: framed" * bool(best)
            parts.append(f"{title}\n{(shown + spreads + marks).to_string()}")
        parts.append(self._caption(whole))
        return "\n\n".join(parts)


def _texts(mean: pd.DataFrame, sd: pd.DataFrame | None, digits: int) -> np.ndarray:
    """What stands in each cell."""
    texts = mean.map(lambda x: rounded(x, digits) if pd.notna(x) else "")
    if sd is not None:
        near = mean.abs().max(axis=None)
        texts += sd.map(lambda x: f"\n±{rounded(x, digits, near)}" if pd.notna(x) else "")
    return texts.to_numpy(str)


def _slant(labels: list[str]) -> float:
    """Inches that labels at 45 degrees reach to the left and down."""
    lines = [folded(label, LONGEST, TEXT).split("\n") for label in labels]
    return max(max(inches(line, TEXT) for line in each) + 1.2 * TEXT / 72 * len(each) for each in lines) / 2**0.5


def with_average(mean: pd.DataFrame) -> pd.DataFrame:
    """Row averages as in the paper, for complete rows."""
    return mean.assign(**{AVERAGE: mean.mean(axis=1, skipna=False)})


def rank_difference(ours: pd.DataFrame, reference: pd.DataFrame) -> pd.DataFrame:
    """Rank in ours minus rank in the reference, over the cells that both have; 1 is the lowest."""
    both = ours.notna() & reference.notna()
    ranks = [grid.where(both).stack().rank() for grid in (ours.astype(float), reference.astype(float))]
    return (ranks[0] - ranks[1]).unstack().reindex(index=ours.index, columns=ours.columns)
