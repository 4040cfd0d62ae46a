"""Several columns of the table for each value of one coordinate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from ablation.plots.base import STYLE, FigureSpec, caption, labels_of, mean_sd, write_caption
from ablation.references import REFERENCES
from ablation.statistics import summary


@dataclass(frozen=True, kw_only=True)
class Profile(FigureSpec):
    """rows: a coordinate; columns: titles of columns of the table, such as one per probe. Means and spreads in `unit`.

    The reference has a row of its own; its table has a column `column` with our titles.
    """

    rows: str
    columns: Mapping[str, str]
    values: tuple[str, ...] = field(default=(), init=False)
    unit: str
    decimals: int = 1

    @property
    def axes(self) -> tuple[str, ...]:
        return (self.rows,)

    def _cells(self, table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
        names = labels_of(table, self.rows)
        found = {t: summary(table, [self.rows], c).set_index(self.rows) for t, c in self.columns.items()}
        mean, sd = (pd.DataFrame({t: f[v] for t, f in found.items()}).reindex(names) for v in ("mean", "sd"))
        published = self.published()
        if published is not None:
            row = published.set_index("column")["value"].reindex(mean.columns)
            mean.loc[REFERENCES[self.reference].title] = row
        return mean, sd.reindex(mean.index)

    def _table(self, table: pd.DataFrame) -> pd.DataFrame:
        table = self.rows_of(table)
        missing = [column for column in self.columns.values() if column not in table]
        return table.assign(**dict.fromkeys(missing, np.nan))

    def draw(self, table: pd.DataFrame) -> Figure:
        table = self._table(table)
        mean, sd = self._cells(table)
        labels = self._labels(mean, sd, "\n")
        with plt.rc_context(STYLE):
            width = max(5.0, 0.62 * len(mean.columns) + 1.9)
            figure, axis = plt.subplots(figsize=(width, 0.42 * len(mean) + 1.8), layout="constrained")
            sns.heatmap(
                mean.astype(float), annot=labels.to_numpy(), fmt="", cmap="viridis", cbar=False, ax=axis,
                linewidths=0.5, linecolor="white", annot_kws={"fontsize": 6},
            )  # fmt: skip
            axis.set_facecolor("0.85")
            axis.set_title(self.unit)
            axis.set_ylabel(self.rows)
            axis.tick_params(length=0)
            axis.set_xticklabels(axis.get_xticklabels(), rotation=45, ha="right")
            axis.set_yticklabels(axis.get_yticklabels(), rotation=0)
            write_caption(figure, self._caption(table), width)
        return figure

    def _labels(self, mean: pd.DataFrame, sd: pd.DataFrame, join: str) -> pd.DataFrame:
        shown = {
            t: [
                mean_sd(m, s, self.decimals).replace(" ± ", f"{join}±") if pd.notna(m) else "missing"
                for m, s in zip(mean[t], sd[t], strict=True)
            ]
            for t in mean.columns
        }
        return pd.DataFrame(shown, index=mean.index)

    def _caption(self, table: pd.DataFrame) -> str:
        return caption(table, [self.rows], tuple(self.columns.values()), self.note) + self.sentence()

    def text(self, table: pd.DataFrame) -> str:
        table = self._table(table)
        shown = self._labels(*self._cells(table), " ")
        return f"{self.unit}\n{shown.to_string()}\n\n{self._caption(table)}"
