"""Several columns of the table for each value of one coordinate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from ablation.analysis.references import REFERENCES, reference_table
from ablation.analysis.statistics import summary
from ablation.plots.base import FigureSpec
from ablation.plots.caption import caption, mean_sd, seeds_in, seeds_said
from ablation.plots.columns import labels_of
from ablation.plots.layout import CELL, COLUMN, PAGE, TEXT, TITLE, folded, inches, mark_missing, widest
from ablation.spec import InvalidSpec, written


@dataclass(frozen=True, kw_only=True)
class Profile(FigureSpec):
    """rows: a coordinate; columns: titles of columns of the table, such as one per probe. Means and spreads in `unit`.

    The reference adds a row; its table has a column `column` with our titles.
    """

    supports: ClassVar[tuple[str, ...]] = ("reference", "cmap")

    rows: str
    columns: Mapping[str, str]
    values: tuple[str, ...] = field(default=(), init=False)
    unit: str
    decimals: int = 1

    @property
    def axes(self) -> tuple[str, ...]:
        return (self.rows,)

    @property
    def shown(self) -> tuple[str, ...]:
        return tuple(self.columns.values())

    def _cells(self, table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
        names = labels_of(table, self.rows)
        found = {t: summary(table, [self.rows], c).set_index(self.rows) for t, c in self.columns.items()}
        mean, sd = (pd.DataFrame({t: f[v] for t, f in found.items()}).reindex(names) for v in ("mean", "sd"))
        mean, sd = mean.rename(index=written), sd.rename(index=written)
        published = self._published()
        if published is not None:
            mean.loc[REFERENCES[self.reference].title] = published
        return mean, sd.reindex(mean.index)

    def _published(self) -> pd.Series | None:
        """The reference's values by our titles; raises InvalidSpec with both lists if none is shared."""
        if self.reference is None:
            return None
        found = reference_table(self.reference)
        if "column" not in found:
            raise InvalidSpec(
                f"Profile.reference must have the column 'column' with titles, but {self.reference} has "
                f"{', '.join(found.columns)}. Name another reference, or none."
            )
        found = found.set_index("column")["value"]
        if not set(found.index) & set(self.columns):
            raise InvalidSpec(
                f"Profile.reference must share titles with Profile.columns, but these are {'; '.join(self.columns)}; "
                f"{self.reference} has {'; '.join(found.index)}. Name another reference, or none."
            )
        return found.reindex(list(self.columns))

    def _measured(self, table: pd.DataFrame) -> list[str]:
        """The columns with at least one number in the table."""
        runs = table.dropna(subset=[self.rows])
        return [column for column in self.columns.values() if column in runs and runs[column].notna().any()]

    def rows_of(self, table: pd.DataFrame) -> pd.DataFrame:
        table = super().rows_of(table)
        if not self._measured(table):
            raise InvalidSpec(
                f"Profile.columns must have a number in at least one run, but all {len(table)} runs lack "
                f"{', '.join(self.columns.values())}. Finish the experiment, or name other columns."
            )
        missing = [column for column in self.columns.values() if column not in table]
        return table.assign(**dict.fromkeys(missing, np.nan))

    def plot(self, rows: pd.DataFrame) -> Figure:
        mean, sd = self._cells(rows)
        labels = self._labels(mean, sd, "\n").replace("missing", "")
        names = [folded(self.label(name), 1.3, TEXT) for name in mean.index]
        titles = [self.label(title) for title in mean.columns]
        beside = widest(names, TEXT) + 0.4
        cell = widest([*labels.to_numpy().flat, "0.0"], CELL) + 0.08
        least = beside + cell * len(mean.columns) + 0.4
        width = self.width or (COLUMN if least <= COLUMN else max(PAGE, least))  # wider than a page for more numbers
        self.require("width", width >= least, f"be at least {least:.1f} inches", "The numbers need them.")
        height = 0.29 * len(mean) + 0.7 * min(max(inches(title, TEXT) for title in titles), 1.3) + 0.45
        figure, axis = plt.subplots(figsize=(width, height), layout="constrained")
        sns.heatmap(
            mean.astype(float), annot=labels.to_numpy(), fmt="", cmap=self.cmap or "viridis", ax=axis,
            linewidths=0.5, linecolor="white", annot_kws={"fontsize": CELL},
            cbar_kws={"fraction": 0.03, "pad": 0.01, "aspect": 30},
        )  # fmt: skip
        mark_missing(axis, mean)
        axis.set_title(folded(self.unit, width - beside, TITLE))
        axis.set_ylabel(self.label(self.rows))
        axis.tick_params(length=0)
        titles = [folded(title, 1.3, TEXT) for title in titles]
        axis.set_xticks(axis.get_xticks(), titles, rotation=45, ha="right", rotation_mode="anchor")
        axis.set_yticks(axis.get_yticks(), names, rotation=0)
        figure.set_figheight(height + self.below(figure, rows))
        return figure

    def line(self, rows: pd.DataFrame) -> str:
        measured = self._measured(rows)
        n = seeds_in(rows, [self.rows], measured)
        return f"{'Mean ± standard deviation, ' if n[-1] > 1 else ''}{seeds_said(n)}.{self.missing(rows, measured)}"

    def _labels(self, mean: pd.DataFrame, sd: pd.DataFrame, join: str) -> pd.DataFrame:
        shown = {
            t: [
                mean_sd(m, s, self.decimals).replace(" ± ", f"{join}±") if pd.notna(m) else "missing"
                for m, s in zip(mean[t], sd[t], strict=True)
            ]
            for t in mean.columns
        }
        return pd.DataFrame(shown, index=mean.index)

    def describe(self, table: pd.DataFrame) -> str:
        measured = self._measured(table)
        text = caption(table, [self.rows], measured, self.note, self.missing(table, measured), self.measures)
        return text + self.sentence()

    def text(self, table: pd.DataFrame) -> str:
        table = self.rows_of(table)
        shown = self._labels(*self._cells(table), " ")
        return f"{self.unit}\n{shown.to_string()}\n\n{self.describe(table)}"
