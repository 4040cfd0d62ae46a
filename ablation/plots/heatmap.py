"""Two axes as in the paper's Figure 5: means, spreads, row averages, what is not told from the best, a reference."""

from __future__ import annotations

import math
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ablation.plots.base import STYLE, FigureSpec, caption, caption_height, labels_of, named, write_caption
from ablation.references import REFERENCES
from ablation.specs import InvalidSpec
from ablation.statistics import agreement, among_best, spread, summary


@dataclass(frozen=True, kw_only=True)
class Heatmap(FigureSpec):
    """One panel per value: mean and standard deviation over seeds for each pair of two axes, and row averages.

    rows, columns: coordinates of the table. Framed cells are not told from the best one (Hsu). With a reference of
    pairs there are two more panels: the published numbers, and how many ranks each cell stands higher in ours.
    """

    rows: str
    columns: str

    @property
    def axes(self) -> tuple[str, ...]:
        return (self.rows, self.columns)

    def draw(self, table: pd.DataFrame) -> Figure:
        table, chosen = self.envelope(self.rows_of(table), list(self.axes))
        rows, columns = self._orders(table)
        panels = [(named(v), *self._matrices(table, v), self._best(table, v)) for v in self.values]
        text = self._caption(table, chosen)
        published = self._published(table)
        ranks = None
        if published is not None:
            mean = published.reindex(index=rows, columns=columns)
            panels.append((f"{REFERENCES[self.reference].title} (ImageNet, linear)", with_average(mean), None, None))
            ranks = rank_difference(panels[0][1].drop(columns="average"), mean)
        cell = 0.42 if len(columns) > 5 else 0.52
        count = len(panels) + (ranks is not None)
        across = min(count, 2)  # the width of a page
        down = -(-count // across)
        width = max(across * (cell * (len(columns) + 1) + 0.9), 5.0)
        height = down * (cell * len(rows) + 1.3) + caption_height(text, width)
        with plt.rc_context(STYLE):
            figure, axs = plt.subplots(down, across, figsize=(width, height), squeeze=False, layout="constrained")
            for axis, panel in zip(axs.flat, panels, strict=False):
                self._panel(axis, *panel)
            if ranks is not None:
                self._rank_panel(axs.flat[count - 1], ranks)
            for axis in axs.flat[count:]:
                axis.axis("off")
            write_caption(figure, text, width)
        return figure

    def _orders(self, table: pd.DataFrame) -> tuple[list, list]:
        """Labels in the order of the table; where both axes have the same ones, in the same order."""
        rows, columns = (labels_of(table.dropna(subset=list(self.axes)), axis) for axis in self.axes)
        return rows, (rows if set(rows) == set(columns) else columns)

    def _matrices(self, table: pd.DataFrame, value: str) -> tuple[pd.DataFrame, pd.DataFrame]:
        axes, (rows, columns) = list(self.axes), self._orders(table)
        cells = summary(table, axes, value)
        mean, sd = (
            cells.pivot(index=self.rows, columns=self.columns, values=v).reindex(index=rows, columns=columns)
            for v in ("mean", "sd")
        )
        # The average of a row for each seed, then its spread over the seeds that have the whole row.
        by_seed = table.dropna(subset=[*axes, value]).groupby([self.rows, "seed"])[value]
        whole = by_seed.mean()[by_seed.count() == len(columns)]
        sd = sd.assign(average=whole.groupby(level=0).std(ddof=1).reindex(rows))
        return with_average(mean), sd

    def _best(self, table: pd.DataFrame, value: str) -> list[tuple]:
        """The cells that are not told from the best."""
        found = among_best(table.dropna(subset=list(self.axes)), list(self.axes), value)
        return list(found.loc[found["among_best"].fillna(False), list(self.axes)].itertuples(index=False, name=None))

    def _published(self, table: pd.DataFrame) -> pd.DataFrame | None:
        """The reference as a square; raises InvalidSpec with both lists of labels if too few are shared."""
        found = self.published()
        if found is None:
            return None
        if not {"first", "second"} <= set(found.columns):
            raise InvalidSpec(
                f"Heatmap.reference must be a table of pairs, but {self.reference} has the columns "
                f"{', '.join(found.columns)}. Use simclr_figure5_pairs, or leave the reference away."
            )
        square = found.pivot(index="first", columns="second", values="value").astype(float)
        rows, _ = self._orders(table)
        if len(square.index.intersection(rows)) < 2:
            raise InvalidSpec(
                f"Heatmap.reference must share labels with the table, but the table has {', '.join(map(str, rows))}; "
                f"{self.reference} has {', '.join(square.index)}. Rename the operators, or leave the reference away."
            )
        return square

    def _caption(self, table: pd.DataFrame, chosen: str) -> str:
        text = caption(table, list(self.axes), self.values, self.note) + chosen
        cells = table.dropna(subset=list(self.axes))
        found = spread(cells, list(self.axes), self.values[0])
        if found.freedom > 0:
            kind = "moderated, as cells differ in it" if found.moderated else "pooled over cells"
            text += f" Framed: not told from the best at 95 % (Hsu's comparison; spread {kind})."
        text += self.sentence()
        published = self._published(table)
        if published is not None:
            text += f" Last panel: how many ranks a cell stands higher in ours ({named(self.values[0])})."
            if len(published.index.intersection(self._orders(table)[0])) >= 3:
                text += f" {self._agreement(table, published)}"
        return text

    def _agreement(self, table: pd.DataFrame, published: pd.DataFrame) -> str:
        parts = []
        for value in self.values:
            found = agreement(self._matrices(table, value)[0].drop(columns="average"), published)
            p, left_p = (
                f", p {x:.2g} by relabelling operators" if not math.isnan(x) else ""
                for x in (found.spearman_p, found.composition_p)
            )
            parts.append(
                f"{named(value).split(',')[0]}: Spearman {found.spearman:.2f}{p} (the larger of the two single ones "
                f"would give {found.trivial_spearman:.2f}), after main effects {found.composition_spearman:.2f}{left_p}"
            )
        return f"Agreement over {found.cells} cells: {'; '.join(parts)}."

    def _panel(self, axis, title: str, mean: pd.DataFrame, sd: pd.DataFrame | None, best: list | None) -> None:
        def text(row: str, column: str) -> str:
            if pd.isna(mean.loc[row, column]):
                return "missing" if sd is not None else ""
            shown = sd.loc[row, column] if sd is not None else np.nan
            return f"{mean.loc[row, column]:.1f}" + (f"\n±{shown:.1f}" if pd.notna(shown) else "")

        labels = [[text(row, column) for column in mean.columns] for row in mean.index]
        sns.heatmap(
            mean.astype(float), annot=np.array(labels), fmt="", cmap="viridis", cbar=False, ax=axis, linewidths=0.5,
            linecolor="white", annot_kws={"fontsize": 6}, square=True,
        )  # fmt: skip
        for row, column in best or ():
            place = (mean.columns.get_loc(column), mean.index.get_loc(row))
            axis.add_patch(Rectangle(place, 1, 1, fill=False, edgecolor="black", linewidth=1.6, clip_on=False))
        axis.axvline(len(mean.columns) - 1, color="white", linewidth=4)
        axis.set_facecolor("0.85")
        axis.set_title(title)
        self._label(axis)

    def _rank_panel(self, axis, ranks: pd.DataFrame) -> None:
        reach = max(1.0, float(ranks.abs().max().max()))
        shown = ranks.assign(**{"": np.nan})  # a column as wide as the averages', so that cells are as large as beside
        sns.heatmap(
            shown, annot=True, fmt="+.0f", cmap="PuOr", vmin=-reach, vmax=reach, cbar=False, ax=axis, linewidths=0.5,
            linecolor="white", annot_kws={"fontsize": 6}, square=True,
        )  # fmt: skip
        axis.set_title("ranks higher in ours")
        self._label(axis)

    def _label(self, axis) -> None:
        pairs = self.axes == ("first", "second")
        axis.set_ylabel("first operator" if pairs else self.rows)
        axis.set_xlabel("second operator (diagonal: alone)" if pairs else self.columns)
        axis.tick_params(length=0)
        axis.set_xticklabels(axis.get_xticklabels(), rotation=45, ha="right")
        axis.set_yticklabels(axis.get_yticklabels(), rotation=0)

    def text(self, table: pd.DataFrame) -> str:
        """The same numbers for a terminal."""
        table, chosen = self.envelope(self.rows_of(table), list(self.axes))
        parts = []
        for value in self.values:
            mean, sd = self._matrices(table, value)
            shown = mean.map(lambda x: f"{x:.1f}" if pd.notna(x) else "-")
            spreads = sd.reindex(columns=mean.columns).map(lambda x: f" ±{x:.1f}" if pd.notna(x) else "")
            title = f"{named(value)}; rows: {self.rows}, columns: {self.columns}"
            marks = pd.DataFrame("", index=shown.index, columns=shown.columns)
            for row, column in self._best(table, value):
                marks.loc[row, column] = " *"
            parts.append(f"{title}; *: framed\n{(shown + spreads + marks).to_string()}")
        parts.append(self._caption(table, chosen))
        return "\n\n".join(parts)


def with_average(mean: pd.DataFrame) -> pd.DataFrame:
    """Row averages as in the paper, for complete rows."""
    return mean.assign(average=mean.mean(axis=1, skipna=False))


def rank_difference(ours: pd.DataFrame, reference: pd.DataFrame) -> pd.DataFrame:
    """Rank in ours minus rank in the reference, over the cells that both have; 1 is the lowest."""
    both = ours.notna() & reference.notna()
    ranks = [grid.where(both).stack().rank() for grid in (ours.astype(float), reference.astype(float))]
    return (ranks[0] - ranks[1]).unstack().reindex(index=ours.index, columns=ours.columns)
