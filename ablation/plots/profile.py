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

from ablation.plots.base import (
    CELL,
    COLUMN,
    PAGE,
    STYLE,
    TEXT,
    TITLE,
    FigureSpec,
    caption,
    folded,
    inches,
    labels_of,
    mark_missing,
    mean_sd,
    write_caption,
    written,
)  # fmt: skip
from ablation.references import REFERENCES, reference_table
from ablation.specs import InvalidSpec
from ablation.statistics import summary


@dataclass(frozen=True, kw_only=True)
class Profile(FigureSpec):
    """rows: a coordinate; columns: titles of columns of the table, such as one per probe. Means and spreads in `unit`.

    The reference has a row of its own; its table has a column `column` with our titles.
    """

    without: ClassVar[tuple[str, ...]] = ("best_of",)

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
        """Those of the columns that the table has a number of."""
        runs = table.dropna(subset=[self.rows])
        return [column for column in self.columns.values() if column in runs and runs[column].notna().any()]

    def _table(self, table: pd.DataFrame) -> pd.DataFrame:
        table = self.rows_of(table)
        if not self._measured(table):
            raise InvalidSpec(
                f"Profile.columns must have a number in at least one run, but all {len(table)} runs lack "
                f"{', '.join(self.columns.values())}. Finish the experiment, or name other columns."
            )
        missing = [column for column in self.columns.values() if column not in table]
        return table.assign(**dict.fromkeys(missing, np.nan))

    def draw(self, table: pd.DataFrame) -> Figure:
        table = self._table(table)
        mean, sd = self._cells(table)
        labels = self._labels(mean, sd, "\n").replace("missing", "")
        names = [folded(name, 1.3, TEXT) for name in mean.index]
        beside = max(inches(line, TEXT) for name in names for line in name.splitlines()) + 0.4
        cell = max(inches(line, CELL) for text in labels.to_numpy().flat for line in (*text.splitlines(), "0.0")) + 0.08
        least = beside + cell * len(mean.columns)
        width = COLUMN if least <= COLUMN else max(PAGE, least)  # wider than a page where the numbers need it
        with plt.rc_context(STYLE):
            above = max(inches(title, TEXT) for title in mean.columns)
            height = 0.29 * len(mean) + 0.7 * min(above, 1.3) + 0.45
            figure, axis = plt.subplots(figsize=(width, height), layout="constrained")
            sns.heatmap(
                mean.astype(float), annot=labels.to_numpy(), fmt="", cmap="viridis", cbar=False, ax=axis,
                linewidths=0.5, linecolor="white", annot_kws={"fontsize": CELL},
            )  # fmt: skip
            mark_missing(axis, mean)
            axis.set_title(folded(self.unit, width - beside, TITLE))
            axis.set_ylabel(self.rows)
            axis.tick_params(length=0)
            titles = [folded(title, 1.3, TEXT) for title in mean.columns]
            axis.set_xticks(axis.get_xticks(), titles, rotation=45, ha="right", rotation_mode="anchor")
            axis.set_yticks(axis.get_yticks(), names, rotation=0)
            figure.set_figheight(height + write_caption(figure, self._caption(table)))
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
        measured = self._measured(table)
        text = caption(table, [self.rows], measured, self.note, self.missing(table, measured))
        return text + self.sentence()

    def text(self, table: pd.DataFrame) -> str:
        table = self._table(table)
        shown = self._labels(*self._cells(table), " ")
        return f"{self.unit}\n{shown.to_string()}\n\n{self._caption(table)}"
